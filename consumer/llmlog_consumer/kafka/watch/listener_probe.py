"""Owns the question what a broker's listener uses, for a client that only sees it hang up.

A client without TLS at a listener with TLS, and the other way round, sees the same as at a proxy
whose broker is away. So both protocols are tried: an answer in one of them is certain.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final

_PROBE_SECONDS: Final = 1.0
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Size, key and version of the request, correlation id, no client id."""


def describe_mismatch(addresses: str, protocol: str) -> str:
    """Say that a listener uses TLS and the client does not, or the other way round.

    Args:
        addresses: of the brokers, separated by commas.
        protocol: `security.protocol` of the client.

    Returns:
        What to set; empty where nothing is certain.
    """
    uses_tls = "ssl" in protocol.lower()
    for address in filter(None, map(str.strip, addresses.split(","))):
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if not port.isdigit():
            continue
        place = (host.strip("[]"), int(port))
        if not uses_tls and _answers_tls(place):
            return f"the listener at {address} uses TLS: set security.protocol to SSL or SASL_SSL"
        if uses_tls and _answers_kafka(place):
            return (
                f"the listener at {address} uses no TLS: "
                "set security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use another port"
            )
    return ""


def _answers_tls(place: tuple[str, int]) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent over this connection
    try:
        with socket.create_connection(place, _PROBE_SECONDS) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # An alert is TLS too: the server asks for a certificate of the client.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _answers_kafka(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, _PROBE_SECONDS) as plain:
            plain.settimeout(_PROBE_SECONDS)
            plain.sendall(_API_VERSIONS)
            answer = plain.recv(8)
    except OSError:
        return False
    return len(answer) == 8 and struct.unpack_from(">i", answer, 4)[0] == 1  # noqa: PLR2004

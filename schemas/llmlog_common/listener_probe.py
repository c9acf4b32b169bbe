"""Owns the question what a server's port uses, for a client that only sees it hang up.

A client without TLS at a listener with TLS, and the other way round, sees the same as at a proxy
whose broker is away; so does one without SASL at a listener that asks for it. So each is tried: an
answer is certain. What a broker says of our certificate is told from its words.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBE_SECONDS: Final = 1.0
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Size, key and version of the request, correlation id, no client id."""


_SASL_HANDSHAKE: Final = struct.pack(">ihhihh", 13, 17, 1, 2, -1, 1) + b"?"
"""The same with a mechanism that no listener has: one that asks for SASL lists its own."""
_UNSUPPORTED_MECHANISM: Final = 33
_NO_SASL: Final = 34

_ALERTS: Final = {
    "alert certificate required": "the broker asks for a certificate that an authority of its own "
    "has signed: set kafka.ssl_certificate_location and kafka.ssl_key_location",
    "alert certificate expired": "our certificate has expired: renew the one of "
    "kafka.ssl_certificate_location",
    "alert certificate revoked": "our certificate was revoked: replace the one of "
    "kafka.ssl_certificate_location",
    **dict.fromkeys(
        (
            "alert certificate unknown",
            "alert bad certificate",
            "alert unknown ca",
            "alert unsupported certificate",
        ),
        "the broker does not accept our certificate: it has expired, or another authority has "
        "signed it: renew the one of kafka.ssl_certificate_location",
    ),
}
"""What to do, by the words of TLS with which a broker refuses a client's certificate. The client's
own error code says no more than that the connection has ended."""


def describe_alert(text: str) -> str:
    """Say what to do where a broker has refused our certificate; empty for any other text.

    Args:
        text: of the Kafka client's error.
    """
    return next((advice for words, advice in _ALERTS.items() if words in text), "")


def split_servers(addresses: str) -> Iterator[tuple[str, str, int | None]]:
    """Yield each broker's address as it is written, its host, and its port if it names one.

    Args:
        addresses: of the brokers, separated by commas.
    """
    for address in filter(None, map(str.strip, addresses.split(","))):
        place = address.rpartition("://")[2]
        host, _, port = place.rpartition(":")
        if port.isdigit():
            yield address, host.strip("[]"), int(port)
        else:
            yield address, place, None


def describe_mismatch(addresses: str, protocol: str) -> str:
    """Say that a listener uses TLS and the client does not, or the other way round.

    Args:
        addresses: of the brokers, separated by commas.
        protocol: `security.protocol` of the client.

    Returns:
        What to set; empty where nothing is certain.
    """
    uses_tls, uses_sasl = "ssl" in protocol.lower(), "sasl" in protocol.lower()
    for address, host, port in split_servers(addresses):
        if port is None:
            continue
        place = (host, port)
        if not uses_tls and answers_tls(*place):
            return f"the listener at {address} uses TLS: set security.protocol to SSL or SASL_SSL"
        if uses_tls and _answers_kafka(place):
            return (
                f"the listener at {address} uses no TLS: "
                "set security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use another port"
            )
        asks_for = _sasl_of(place, uses_tls=uses_tls)
        if asks_for and not uses_sasl:
            wanted = "SASL_SSL" if uses_tls else "SASL_PLAINTEXT"
            return f"the listener at {address} asks for SASL: set security.protocol to {wanted}"
        if asks_for is False and uses_sasl:
            wanted = "SSL" if uses_tls else "PLAINTEXT"
            return (
                f"the listener at {address} takes no SASL: "
                f"set security.protocol to {wanted}, or use another port"
            )
    return ""


def _sasl_of(place: tuple[str, int], *, uses_tls: bool) -> bool | None:
    """Tell whether a listener asks for SASL; None where it does not say."""
    try:
        with socket.create_connection(place, _PROBE_SECONDS) as plain:
            plain.settimeout(_PROBE_SECONDS)
            with _unverified().wrap_socket(plain) if uses_tls else plain as connection:
                connection.sendall(_SASL_HANDSHAKE)
                answer = connection.recv(10)
    except OSError:
        return None
    if len(answer) != 10 or struct.unpack_from(">i", answer, 4)[0] != 2:  # noqa: PLR2004
        return None
    (code,) = struct.unpack_from(">h", answer, 8)
    return {_UNSUPPORTED_MECHANISM: True, _NO_SASL: False}.get(code)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing secret is sent over such a connection
    return context


def answers_tls(host: str, port: int) -> bool:
    """Tell whether TLS is spoken at a port."""
    try:
        with (
            socket.create_connection((host, port), _PROBE_SECONDS) as plain,
            _unverified().wrap_socket(plain),
        ):
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

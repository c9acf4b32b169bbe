"""Owns the look at the certificates of servers: whether they are accepted, and for how long."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_common.listener_probe import split_servers
from llmlog_consumer.checks.doctor.findings import Check, Seen, green, red, skipped, yellow
from llmlog_consumer.elasticsearch.addresses import read_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmlog_common.settings import Settings

CONNECT_SECONDS: Final = 5.0
_DAY_SECONDS: Final = 86_400
_KAFKA_PORT: Final = 9092
_FEW_DAYS, _SOME_DAYS = 7, 30


class Certificate(NamedTuple):
    """What one server showed.

    Attributes:
        where: `host:port`.
        expires_at: epoch seconds; None where it is not known.
        problem: why it is not accepted; empty where it is.
    """

    where: str
    expires_at: float | None = None
    problem: str = ""


def look_at(
    servers: Iterable[tuple[str, int]], ca_file: Path | str | None, *, checks_name: bool = True
) -> list[Certificate]:
    """Connect to each server, and return what it shows; one that does not answer is left out.

    Args:
        servers: host and port of each.
        ca_file: certificates that are trusted; None for those of the system.
        checks_name: the certificate has to be of this host.
    """
    found = []
    for host, port in servers:
        where = f"{host}:{port}"
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            context.check_hostname = checks_name
            with (
                socket.create_connection((host, port), CONNECT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=host) as secured,
            ):
                shown = secured.getpeercert() or {}
            expires = shown.get("notAfter")
            moment = ssl.cert_time_to_seconds(expires) if isinstance(expires, str) else None
            found.append(Certificate(where, moment))
        except ssl.SSLCertVerificationError as error:
            found.append(Certificate(where, problem=error.verify_message))
        except ssl.SSLError as error:
            found.append(Certificate(where, problem=error.reason or str(error)))
        except OSError:
            continue  # the check of the connection tells
    return found


def read_certificates(settings: Settings) -> dict[str, float]:
    """Return when the certificates of servers end, in epoch seconds, by `host:port`.

    Those that are not accepted, and of servers that do not answer, are left out.
    """
    found = [
        *(kafka_certificates(settings) or ()),
        *(elasticsearch_certificates(settings) or ()),
    ]
    return {one.where: one.expires_at for one in found if one.expires_at is not None}


def kafka_certificates(settings: Settings) -> list[Certificate] | None:
    """Return what the brokers show; None where the connection has no TLS, or checks none."""
    properties = settings.admin_properties()
    if not str(properties.get("security.protocol", "")).lower().endswith("ssl"):
        return None
    if str(properties.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        return None
    checks_name = str(properties.get("ssl.endpoint.identification.algorithm", "https")) != "none"
    servers = split_servers(settings.kafka_bootstrap_servers)
    places = ((host, port or _KAFKA_PORT) for _, host, port in servers)
    return look_at(places, properties.get("ssl.ca.location"), checks_name=checks_name)


def elasticsearch_certificates(settings: Settings) -> list[Certificate] | None:
    """Return what the nodes show; None where none is asked by TLS, or a fingerprint decides."""
    try:
        urls = read_addresses(settings)
    except ValueError:
        return None
    servers = [(url.host, url.port) for url in urls if url.scheme == "https"]
    if not servers or settings.elasticsearch_ssl_assert_fingerprint:
        return None
    return look_at(servers, settings.elasticsearch_ca_certs)


def certificate_check(server: str, setting: str) -> Check:
    """Return the row about the certificates of one kind of server.

    Args:
        server: `kafka`, `elasticsearch`, `registry`.
        setting: that names the trusted certificates.
    """

    def judge(certificates: list[Certificate] | None, now_ms: int) -> Seen:
        if certificates is None:
            return skipped("the connection has no TLS")
        if not certificates:
            return skipped("no server answers")
        for one in certificates:
            if one.problem:
                return red(
                    f"{one.where}: {one.problem}",
                    f"renew the certificate of {one.where}, or set {setting} to the authority "
                    "that has signed it",
                )
        known = [(one.expires_at, one.where) for one in certificates if one.expires_at is not None]
        if not known:
            return skipped("it does not say when it ends")
        ends, where = min(known)
        days = (ends - now_ms / 1000) / _DAY_SECONDS
        text = f"that of {where} ends in {days:.0f} days"
        mend = f"renew the certificate of {where}"
        if days < _FEW_DAYS:
            return red(text, mend)
        return yellow(text, mend) if days < _SOME_DAYS else green(text)

    return Check(
        f"{server}.certificate",
        "its certificate is accepted, and for long",
        (f"{server}_certificates", "now_ms"),
        judge,
    )

"""Certificates of real TLS servers: how long they last, and why they are not accepted."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.certificates import (
    certificate_check,
    look_at,
    read_certificates,
)

HOST = "127.0.0.1"
Serve = Callable[..., tuple[str, int]]


def make(folder: Path, *, days: float, host: str = HOST) -> tuple[Path, Path]:
    """Write a certificate that signs itself, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llmlog test")])
    now = dt.datetime.now(dt.UTC)
    ends = now + dt.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, ends) - dt.timedelta(days=1))
        .not_valid_after(ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{days}.pem", folder / f"{days}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a TLS server with a certificate; return its address."""
    sockets = []

    def start(certificate: Path, key: Path) -> tuple[str, int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listening = socket.create_server((HOST, 0))
        sockets.append(listening)

        def answer() -> None:
            try:
                with listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
                    pass
            except OSError:
                return  # the client does not accept the certificate

        threading.Thread(target=answer, daemon=True).start()
        return HOST, listening.getsockname()[1]

    yield start
    for one in sockets:
        one.close()


def test_a_certificate_says_when_it_ends(serve, tmp_path):
    certificate, key = make(tmp_path, days=20)
    (found,) = look_at([serve(certificate, key)], certificate)
    assert found.problem == ""
    now = dt.datetime.now(dt.UTC).timestamp()
    assert 19.9 < (found.expires_at - now) / 86_400 < 20.1
    seen = certificate_check("kafka", "X").judge([found], now * 1000)
    assert seen.verdict == "yellow"
    assert "ends in 20 days" in seen.text


@pytest.mark.parametrize(
    ("days", "trusted", "host", "said"),
    [
        (-1, True, HOST, "expired"),
        (20, False, HOST, "self-signed"),
        (20, True, "127.0.0.2", "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted_says_why(serve, tmp_path, days, trusted, host, said):
    certificate, key = make(tmp_path, days=days, host=host)
    authority = certificate if trusted else make(tmp_path, days=99)[0]
    (found,) = look_at([serve(certificate, key)], authority)
    assert said in found.problem
    seen = certificate_check("kafka", "LLMLOG_CA").judge([found], 0)
    assert seen.verdict == "red"
    assert "set LLMLOG_CA" in seen.mend


def test_a_host_name_that_is_not_checked_may_differ(serve, tmp_path):
    certificate, key = make(tmp_path, days=20, host="127.0.0.2")
    (found,) = look_at([serve(certificate, key)], certificate, checks_name=False)
    assert found.problem == ""


def test_a_server_without_tls_and_one_that_is_away(tmp_path):
    certificate, _ = make(tmp_path, days=20)
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            with listening.accept()[0] as plain:
                plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        (found,) = look_at([(HOST, port)], certificate)
    assert found.problem
    assert look_at([(HOST, port)], certificate) == []


def test_the_ends_of_certificates_are_read_of_kafka_and_of_elasticsearch(serve, tmp_path):
    certificate, key = make(tmp_path, days=20)
    servers = [serve(certificate, key) for _ in range(2)]
    kafka, elasticsearch = (f"{host}:{port}" for host, port in servers)
    settings = load(
        environ={
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "LLMLOG_KAFKA_SSL_CA_LOCATION": str(certificate),
            "LLMLOG_ELASTICSEARCH_URL": f"https://{elasticsearch}",
            "LLMLOG_ELASTICSEARCH_CA_CERTS": str(certificate),
        }
    )
    ends = read_certificates(settings)
    assert ends.keys() == {kafka, elasticsearch}
    assert len(set(ends.values())) == 1


def test_connections_without_tls_have_no_certificates():
    assert read_certificates(load(environ={})) == {}

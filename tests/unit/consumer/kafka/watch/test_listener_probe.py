"""What a listener speaks: TLS, Kafka without TLS, or nothing that is certain."""

import datetime as dt
import socket
import ssl
import struct
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmlog_consumer.kafka.watch.listener_probe import describe_mismatch


@pytest.fixture
def listen():
    """Return a function that listens, and hands each connection to a server."""
    listeners = []

    def new(serve):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield new
    for listener in listeners:
        listener.close()


def answer_kafka(connection):
    connection.recv(100)
    connection.sendall(struct.pack(">iih", 6, 1, 0))


def hang_up(_connection):
    pass


@pytest.fixture
def answer_tls(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 1, begin, begin + dt.timedelta(days=36_500)
    ).sign(key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "both.pem"
    path.write_bytes(
        key.private_bytes(*form, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def serve(connection):
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return

    return serve


def test_a_client_without_tls_at_a_listener_with_tls_is_told(listen, answer_tls):
    address = listen(answer_tls)
    text = describe_mismatch(f"{listen(hang_up)}, PLAINTEXT://{address}", "sasl_plaintext")
    assert text.endswith(f"{address} uses TLS: set security.protocol to SSL or SASL_SSL")
    assert describe_mismatch(address, "SASL_SSL") == ""


def test_a_client_with_tls_at_a_listener_without_tls_is_told(listen):
    address = listen(answer_kafka)
    assert describe_mismatch(address, "ssl").startswith(f"the listener at {address} uses no TLS")
    assert describe_mismatch(address, "plaintext") == ""


@pytest.mark.parametrize("protocol", ["ssl", "plaintext"])
def test_a_proxy_whose_broker_is_away_is_not_taken_for_either(listen, protocol):
    assert describe_mismatch(listen(hang_up), protocol) == ""


@pytest.mark.parametrize("addresses", ["", "no port", "127.0.0.1:1", "[::1]:1", "a:b,c"])
@pytest.mark.parametrize("protocol", ["ssl", "plaintext"])
def test_addresses_that_cannot_be_reached_are_not_judged(addresses, protocol):
    assert describe_mismatch(addresses, protocol) == ""

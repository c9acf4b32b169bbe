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

from llmlog_common.listener_probe import describe_alert, describe_mismatch


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


def sasl_listener(code):
    """A listener that answers a handshake of SASL with this code, and everything else as Kafka."""

    def serve(connection):
        request = connection.recv(100)
        key, _, correlation = struct.unpack_from(">hhi", request, 4)
        body = struct.pack(">h", code if key == 17 else 0)
        connection.sendall(struct.pack(">ii", 4 + len(body), correlation) + body)

    return serve


@pytest.mark.parametrize(
    ("code", "protocol", "said"),
    [
        (33, "plaintext", "asks for SASL: set security.protocol to SASL_PLAINTEXT"),
        (34, "sasl_plaintext", "takes no SASL: set security.protocol to PLAINTEXT"),
        (33, "sasl_plaintext", ""),
        (34, "plaintext", ""),
        (35, "plaintext", ""),
    ],
)
def test_a_listener_that_asks_for_sasl_and_one_that_does_not_are_told_apart(
    listen, code, protocol, said
):
    text = describe_mismatch(listen(sasl_listener(code)), protocol)
    assert said in text
    assert bool(text) == bool(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Receive failed: SSL routines::tlsv13 alert certificate required: 116", "asks for a cert"),
        ("SSL routines::ssl/tls alert certificate unknown: SSL alert number 46", "does not accept"),
        ("SSL routines::tlsv1 alert unknown ca: SSL alert number 48", "does not accept"),
        ("sslv3 alert bad certificate", "does not accept"),
        ("sslv3 alert certificate expired", "has expired"),
        ("Connect to ipv4#127.0.0.1:9092 failed: Connection refused", ""),
        ("SSL handshake failed: certificate verify failed", ""),
    ],
)
def test_a_refused_certificate_of_ours_is_told_by_the_words_of_tls(text, said):
    assert said in describe_alert(text)
    assert bool(describe_alert(text)) == bool(said)

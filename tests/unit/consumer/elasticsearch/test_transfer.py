"""How a node is reached: our own certificate, a proxy, gzip, and certificates that change."""

import gzip
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from llmlog_common.errors import ConfigurationError, ElasticsearchError
from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.client import ElasticClient
from llmlog_consumer.elasticsearch.nodes import NodeTiming
from llmlog_local.certificates import Authority, Certificate
from support.fakes.http_nodes import HttpNodeStub, Reply
from support.forward_proxy import forward_proxy
from support.pipeline import wait_until

TIMING = NodeTiming(tick_seconds=0.02, certificate_seconds=0.02, renewal_seconds=0.02)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def serve(
    authority: Authority, server: Certificate, *, asks: bool = False, reply: object = None
) -> HttpNodeStub:
    """A node that serves HTTPS; where it asks, to those with a certificate alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.both)
    if asks:
        context.load_verify_locations(authority.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return HttpNodeStub(reply, tls=context)


@pytest.fixture
def node(authority: Authority) -> Iterator[HttpNodeStub]:
    stub = serve(authority, authority.get("server"), asks=True)
    yield stub
    stub.close()


def client(url: str, **more: object) -> ElasticClient:
    environ = {"LLMLOG_ELASTICSEARCH_URL": url}
    environ |= {f"LLMLOG_ELASTICSEARCH_{name.upper()}": str(value) for name, value in more.items()}
    return ElasticClient(load(environ=environ), 5.0, TIMING)


def ask(client: ElasticClient, body: object = None) -> int:
    return client.perform("POST", "/x", {}, body, None)[0]


@pytest.mark.parametrize("is_one_file", [True, False])
def test_a_server_that_asks_for_a_certificate_gets_ours(
    authority: Authority, node: HttpNodeStub, *, is_one_file: bool
) -> None:
    own = authority.get("client")
    files = {"client_cert": own.both} if is_one_file else {
        "client_cert": own.certificate, "client_key": own.key
    }  # fmt: skip
    with closing(client(node.url, ca_certs=authority.ca_file, **files)) as connected:
        assert ask(connected) == 200


def test_without_a_certificate_such_a_server_refuses(
    authority: Authority, node: HttpNodeStub
) -> None:
    with (
        closing(client(node.url, ca_certs=authority.ca_file)) as connected,
        pytest.raises(ElasticsearchError, match="TLS: "),
    ):
        ask(connected)


def test_http_at_a_port_with_tls_and_the_other_way_round_are_named(authority: Authority) -> None:
    secure, plain = serve(authority, authority.get("server")), HttpNodeStub()
    wrong = {
        secure.url.replace("https", "http"): "begin the URL with https://",
        plain.url.replace("http", "https"): "begin the URL with http://",
    }
    for url, words in wrong.items():
        with closing(client(url)) as connected, pytest.raises(ElasticsearchError, match=words):
            ask(connected)
    for stub in (secure, plain):
        stub.close()


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("no PEM", "cannot be used"), ("", "cannot be")]
)
def test_a_certificate_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "client.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"CLIENT_CERT {path}: .*{said}"):
        client("https://127.0.0.1:1", client_cert=path)


@pytest.mark.parametrize("is_tls", [True, False])
@pytest.mark.parametrize("login", ["", "me:p%40ss@"])
def test_requests_go_through_the_proxy(authority: Authority, login: str, *, is_tls: bool) -> None:
    stub = serve(authority, authority.get("server")) if is_tls else HttpNodeStub()
    trust = {"ca_certs": authority.ca_file} if is_tls else {}
    with forward_proxy() as proxy:
        url = proxy.url.replace("://", f"://{login}")
        with closing(client(f"{stub.url}/es", http_proxy=url, **trust)) as connected:
            assert ask(connected) == 200
        asked = {line for line, _ in proxy.asked}
        address = stub.url.partition("://")[2]
        assert f"CONNECT {address}" in asked if is_tls else f"POST {stub.url}/es/x" in asked
        assert {one for _, one in proxy.asked} == {"Basic bWU6cEBzcw==" if login else None}
        assert stub.requests[-1][:2] == ("POST", "/es/x")
    stub.close()


def test_bodies_are_sent_as_gzip_where_it_is_set() -> None:
    seen = []

    def reply(_method: str, _path: str, headers: dict, body: bytes) -> Reply:
        seen.append((headers.get("content-encoding"), body))
        return Reply()

    stub = HttpNodeStub(reply)
    body = {"text": "x" * 1000}
    for compress in (True, False):
        with closing(client(stub.url, compress=compress)) as connected:
            ask(connected, body)
    stub.close()
    (packed, sent), (plain, as_it_is) = seen
    assert (packed, plain) == ("gzip", None)
    assert gzip.decompress(sent) == as_it_is == orjson.dumps(body)


def test_an_authority_that_replaces_another_is_trusted_without_a_restart(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    file = tmp_path / "ca.pem"
    file.write_bytes(old.ca_file.read_bytes())
    stub = serve(new, new.get("server"))
    with closing(client(stub.url, ca_certs=file)) as connected:
        with pytest.raises(ElasticsearchError, match=r"(?i)certificate"):
            ask(connected)
        file.write_bytes(new.ca_file.read_bytes())

        def is_let_in() -> bool:
            try:
                return ask(connected) == 200
            except ElasticsearchError:
                return False

        wait_until(is_let_in, 5, "the new authority is trusted")
    stub.close()


def test_an_authority_that_was_taken_out_is_not_trusted_any_more(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    file = tmp_path / "ca.pem"
    file.write_bytes(old.ca_file.read_bytes())
    stub = serve(old, old.get("server"))
    with closing(client(stub.url, ca_certs=file)) as connected:
        assert ask(connected) == 200
        file.write_bytes(new.ca_file.read_bytes())

        def is_refused() -> bool:
            try:
                return ask(connected) != 200
            except ElasticsearchError:
                return True

        wait_until(is_refused, 3, "the old authority is not trusted")
    stub.close()

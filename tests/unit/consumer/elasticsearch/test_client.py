"""Several nodes as one server, credentials that are read again, and TLS."""

import datetime as dt
import ipaddress
import ssl
import threading
import time

import orjson
import pytest
import structlog

from llmlog_common.errors import (
    ConfigurationError,
    ElasticsearchError,
    ElasticsearchUnreachable,
)
from llmlog_common.settings import load
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.nodes import NodeTiming
from support.fakes.http_nodes import HttpNodeStub, Reply, cluster, foreign, refusal, unused_url
from support.pipeline import wait_until

QUICK = NodeTiming(
    tick_seconds=0.02,
    suspect_seconds=0.3,
    probe_seconds=2.0,
    backoff=Backoff(first_seconds=0.1, max_seconds=0.5),
    renewal_seconds=0.3,
)
SECRET = "Hunter2-do-not-print"


@pytest.fixture
def stubs():
    made = []

    def make(count, reply=None):
        made.extend(HttpNodeStub(reply) for _ in range(count))
        return made[-count:]

    yield make
    for stub in made:
        stub.close()


@pytest.fixture
def connect():
    made = []

    def make(*urls, timeout=20, timing=QUICK, **more):
        environ = {"LLMLOG_ELASTICSEARCH_URL": ",".join(urls), **more}
        made.append(Elastic(load(environ=environ), timeout=timeout, timing=timing))
        return made[-1]

    yield make
    for elastic in made:
        elastic.close()


def send(elastic, times=1):
    return [elastic.request("POST", "/_bulk", body=b"{}\n").status for _ in range(times)]


def test_requests_go_to_all_nodes_and_each_is_checked_before_its_first(stubs, connect):
    one, two = stubs(2)
    elastic = connect(one.url, two.url)
    wait_until(lambda: send(elastic) and two.asked and one.asked, what="both are used")
    assert {stub.requests[0][1] for stub in (one, two)} == {"/"}
    assert elastic.notice == ""


def test_a_single_node_is_never_checked_while_it_answers(stubs, connect):
    (one,) = stubs(1)
    elastic = connect(one.url)
    assert send(elastic, 3) == [200] * 3
    assert [path for _, path, _ in one.requests] == ["/_bulk"] * 3


def test_a_node_that_refuses_connections_costs_no_request(stubs, connect):
    (one,) = stubs(1)
    dead = unused_url()
    elastic = connect(dead, one.url)
    assert send(elastic, 20) == [200] * 20
    assert f"node {dead}: " in elastic.notice
    assert "refused" in elastic.notice


def test_a_node_that_comes_back_is_used_again(stubs, connect):
    one, two = stubs(2)
    two.root = foreign(502)
    elastic = connect(one.url, two.url)
    wait_until(lambda: send(elastic) and elastic.notice, what="it is aside")
    assert not two.asked
    two.root = cluster("one")
    wait_until(lambda: send(elastic) and two.asked, what="it is used")
    assert elastic.notice == ""


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (foreign(200), "200 that is not of Elasticsearch"),
        (Reply(200, b"[]"), "200 that is not of Elasticsearch"),
        (foreign(200, '{"version": {"distribution": "opensearch"}}'), "not of Elasticsearch"),
        (foreign(403, "<html>union select</html>"), "403: <html>union select"),
        (foreign(404), "404: <html>"),
        (foreign(500, "x" * 100_000), "500: xxx"),
        (foreign(502), "502: "),
        (refusal(503, "master_not_discovered_exception"), "503: "),
        (foreign(504), "504: "),
        (refusal(401), "401: "),
        (Reply(302, b"", {"location": "https://login.example/"}), "302 leads to https://login"),
    ],
)
def test_a_node_that_lies_is_aside_where_another_answers_the_same_request(
    stubs, connect, lie, said
):
    liar, one = stubs(2)
    elastic = connect(
        liar.url, one.url, timing=NodeTiming(tick_seconds=0.02, backoff=Backoff(36_000, 36_000))
    )
    wait_until(lambda: send(elastic) and liar.asked and one.asked, what="both are used")
    liar.reply = lie
    before = one.asked
    assert send(elastic, 6) == [200] * 6
    assert one.asked == before + 6
    assert f"node {liar.url}: " in elastic.notice
    assert said in elastic.notice
    assert len(elastic.notice) < 400


@pytest.mark.parametrize(
    "lie", [b"{}", b'{"ok": true}', b'{"items": []}', b'{"items": {}}', b'{"items": null}']
)
def test_a_node_whose_good_answer_lacks_what_was_asked_for_is_aside(stubs, connect, lie):
    liar, one = stubs(2)
    elastic = connect(liar.url, one.url)
    wait_until(lambda: send(elastic) and liar.asked and one.asked, what="both are used")
    liar.root = liar.reply = Reply(200, lie)
    one.reply = answer_as_elasticsearch
    bulk = BulkClient(elastic, "calls")
    for number in range(6):
        builder = BatchBuilder()
        builder.add(None, None, 7, "calls-1", str(number), b"{}", 0.0)
        assert bulk.send(builder.take()).all_created
    assert f"node {liar.url}: 200 without what was asked for" in elastic.notice
    checked = len(liar.requests)
    wait_until(lambda: len(liar.requests) > checked, what="it is checked")
    assert "200 without what was asked for" in elastic.notice


def answer_as_elasticsearch(method, path, _headers, body):
    if "_mapping" in path:
        found = {"calls-1": {"mappings": {"_meta": {"llmlog_version": 1}}}}
    else:
        ids = [orjson.loads(line)["create"]["_id"] for line in body.splitlines()[::2]]
        found = {"items": [{"create": {"_index": "calls-1", "_id": n, "status": 201}} for n in ids]}
    return Reply(200, orjson.dumps(found))


@pytest.mark.parametrize(
    "answer", [foreign(403), refusal(401), foreign(504), refusal(503, "x"), Reply(400, b"{}")]
)
def test_what_all_nodes_answer_alike_is_no_fault_of_a_node(stubs, connect, answer):
    one, two = stubs(2)
    elastic = connect(one.url, two.url)
    wait_until(lambda: send(elastic) and two.asked and one.asked, what="both are used")
    one.reply = two.reply = answer
    assert send(elastic, 5) == [answer.status] * 5
    assert elastic.notice == ""


@pytest.mark.parametrize("status", [413, 429])
def test_what_says_something_about_the_request_goes_to_no_other_node(stubs, connect, status):
    one, two = stubs(2)
    elastic = connect(one.url, two.url)
    wait_until(lambda: send(elastic) and two.asked and one.asked, what="both are used")
    one.reply = two.reply = foreign(status)
    before = one.asked + two.asked
    assert send(elastic) == [status]
    assert one.asked + two.asked == before + 1


def test_a_node_of_another_cluster_gets_nothing(stubs, connect):
    one, stranger = stubs(2)
    stranger.root = cluster("two")
    elastic = connect(one.url, stranger.url)
    wait_until(lambda: send(elastic) and elastic.notice, what="it is named")
    assert "another cluster: two, not one" in elastic.notice
    assert send(elastic, 5) == [200] * 5
    assert not stranger.asked


def test_a_node_that_may_not_tell_its_cluster_is_used(stubs, connect):
    one, two = stubs(2)
    one.root = two.root = refusal(403)
    elastic = connect(one.url, two.url)
    wait_until(lambda: send(elastic) and two.asked and one.asked, what="both are used")
    assert elastic.notice == ""


def test_a_node_that_hangs_is_aside_in_seconds_and_its_requests_go_elsewhere(stubs, connect):
    hung, one = stubs(2)
    elastic = connect(hung.url, one.url, timeout=300)
    wait_until(lambda: send(elastic) and hung.asked and one.asked, what="both are used")
    hung.hang()
    done = []
    threads = [
        threading.Thread(target=lambda: done.extend(send(elastic, 3)), daemon=True)
        for _ in range(4)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(250)
    assert done == [200] * 12
    assert time.monotonic() - began < 200  # and not the 300 of the request
    assert f"node {hung.url}: " in elastic.notice
    assert "no answer in time" in elastic.notice


def test_a_single_node_that_hangs_is_named_while_its_request_waits(stubs, connect):
    (hung,) = stubs(1)
    elastic = connect(hung.url, timeout=60)
    send(elastic)
    hung.hang()
    threading.Thread(target=lambda: send(elastic), daemon=True).start()
    wait_until(lambda: "no answer in time" in elastic.notice, what="it is named")


def test_where_all_nodes_are_away_each_is_named_and_they_are_tried_again(stubs, connect):
    urls = unused_url(), unused_url()
    elastic = connect(*urls)
    for _ in range(3):
        with pytest.raises(ElasticsearchUnreachable) as caught:
            send(elastic)
        assert all(url in str(caught.value) for url in urls)


def test_a_node_that_is_put_aside_is_logged_once(stubs, connect):
    (one,) = stubs(1)
    dead = unused_url()
    elastic = connect(dead, one.url)
    with structlog.testing.capture_logs() as lines:
        send(elastic, 10)
    (line,) = [line for line in lines if line["event"] == "node is put aside"]
    assert line["node"] == dead
    assert "refused" in line["why"]


def test_a_server_that_is_no_elasticsearch_is_named(stubs, connect):
    (one,) = stubs(1, foreign(200, "{}"))
    with pytest.raises(ElasticsearchError, match="is no Elasticsearch"):
        send(connect(one.url))


# Credentials


def guarded(valid):
    def reply(method, path, headers, body):
        return Reply() if headers.get("authorization") == valid[0] else refusal(401)

    return reply


@pytest.mark.parametrize(
    ("names", "contents", "header"),
    [
        (["API_KEY"], ["{}key"], "ApiKey {}key"),
        (["BEARER_AUTH"], ["{}token"], "Bearer {}token"),
        (["USERNAME", "PASSWORD"], ["me", "{}"], {"1": "Basic bWU6MQ==", "2": "Basic bWU6Mg=="}),
    ],
)
def test_credentials_are_read_again_from_their_files_when_they_are_refused(
    stubs, connect, tmp_path, names, contents, header
):
    def write(number):
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_text(content.format(number) + "\n")

    def valid(number):
        return header[number] if isinstance(header, dict) else header.format(number)

    accepted = [valid("1")]
    (one,) = stubs(1, guarded(accepted))
    write("1")
    files = {f"LLMLOG_ELASTICSEARCH_{name}_FILE": str(tmp_path / name) for name in names}
    elastic = connect(one.url, **files)
    assert send(elastic) == [200]
    write("2")
    assert send(elastic) == [200]
    accepted[0] = valid("2")
    with structlog.testing.capture_logs() as lines:
        assert send(elastic) == [200]
    assert any(str(tmp_path / names[-1]) in line["event"] for line in lines)


def test_credentials_in_the_url_are_read_again_too(stubs, connect, tmp_path):
    accepted = ["Basic bWU6MQ=="]
    (one,) = stubs(1, guarded(accepted))
    file = tmp_path / "url"
    file.write_text(one.url.replace("//", "//me:1@"))
    elastic = Elastic(load(environ={"LLMLOG_ELASTICSEARCH_URL_FILE": str(file)}), timeout=5)
    assert send(elastic) == [200]
    accepted[0] = "Basic bWU6Mg=="
    file.write_text(one.url.replace("//", "//me:2@"))
    assert send(elastic) == [200]
    elastic.close()


@pytest.mark.parametrize("broken", [None, "", "half of a key", "\x00"])
def test_a_file_that_cannot_be_used_now_is_named_and_read_again_later(
    stubs, connect, tmp_path, broken
):
    accepted = ["ApiKey 1"]
    (one,) = stubs(1, guarded(accepted))
    file = tmp_path / "key"
    file.write_text("1")
    elastic = connect(one.url, LLMLOG_ELASTICSEARCH_API_KEY_FILE=str(file))
    accepted[0] = "ApiKey 2"
    file.unlink() if broken is None else file.write_text(broken)
    with structlog.testing.capture_logs() as lines:
        assert send(elastic) == [401]
    (line,) = lines
    assert "LLMLOG_ELASTICSEARCH_API_KEY_FILE" in line["event"]
    assert "kept" in line["event"]
    assert "half of" not in line["event"]
    file.write_text("2")
    wait_until(lambda: send(elastic) == [200], what="it is read again")


def test_files_are_not_read_with_each_refusal(stubs, connect, tmp_path):
    accepted = ["ApiKey 2"]
    (one,) = stubs(1, guarded(accepted))
    file = tmp_path / "key"
    file.write_text("1")
    elastic = connect(one.url, LLMLOG_ELASTICSEARCH_API_KEY_FILE=str(file))
    assert send(elastic) == [401]
    file.write_text("2")
    assert send(elastic) == [401]  # within the same moment
    wait_until(lambda: send(elastic) == [200], what="it is read again")


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), ValueError("no file left")])
def test_new_credentials_are_used_once_connections_can_be_made(
    stubs, connect, tmp_path, monkeypatch, fault
):
    accepted = ["ApiKey 2"]
    (one,) = stubs(1, guarded(accepted))
    file = tmp_path / "key"
    file.write_text("1")
    elastic = connect(one.url, LLMLOG_ELASTICSEARCH_API_KEY_FILE=str(file))
    file.write_text("2")

    def fail(*_):
        raise fault

    with structlog.testing.capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr("llmlog_consumer.elasticsearch.client.HttpNode", fail)
        assert send(elastic) == [401]
    assert [line["event"] for line in lines if "read again" in line["event"]] == []
    with structlog.testing.capture_logs() as lines:
        wait_until(lambda: send(elastic) == [200], what="it is read again")
    assert any("credentials read again" in line["event"] for line in lines)


def test_an_error_quotes_no_header_that_cannot_be_sent(connect):
    for name in ("API_KEY", "BEARER_AUTH"):
        with pytest.raises(ConfigurationError) as caught:
            connect(unused_url(), **{f"LLMLOG_ELASTICSEARCH_{name}": f"{SECRET}\nX: y"})
        assert SECRET not in str(caught.value)
        assert f"LLMLOG_ELASTICSEARCH_{name}: it cannot be sent: it holds a" in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a certificate for 127.0.0.1 that it has signed, and their fingerprints."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, made = tmp_path_factory.mktemp("tls"), {}
    now = dt.datetime.now(dt.UTC)

    def name(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    keys = {kind: ec.generate_private_key(ec.SECP256R1()) for kind in ("ca", "node", "other")}
    for kind, key in keys.items():
        own = kind != "node"
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(kind))
            .issuer_name(name(kind if own else "ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(1))
            .not_valid_after(now + dt.timedelta(1))
            .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        made[kind] = builder.sign(keys[kind if own else "ca"], hashes.SHA256())
        (folder / f"{kind}.pem").write_bytes(made[kind].public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        keys["node"].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    prints = {kind: one.fingerprint(hashes.SHA256()).hex() for kind, one in made.items()}
    return folder, prints


@pytest.fixture
def secure(certificates):
    folder, _ = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = folder / "chain.pem"  # as Elasticsearch sends it: its own and its authority's
    chain.write_bytes((folder / "node.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    context.load_cert_chain(chain, folder / "key.pem")
    stub = HttpNodeStub(tls=context)
    yield stub
    stub.close()


def test_a_node_whose_authority_is_trusted_is_asked(secure, connect, certificates):
    folder, _ = certificates
    file = str(folder / "ca.pem")
    assert send(connect(secure.url, LLMLOG_ELASTICSEARCH_CA_CERTS=file)) == [200]


@pytest.mark.parametrize("trusted", [None, "other.pem"])
def test_a_node_whose_authority_is_not_trusted_gets_nothing(secure, connect, certificates, trusted):
    folder, _ = certificates
    more = {"LLMLOG_ELASTICSEARCH_CA_CERTS": str(folder / trusted)} if trusted else {}
    with pytest.raises(ElasticsearchError, match=r"TLS: .*certificate verify failed"):
        send(connect(secure.url, **more))
    assert not secure.asked


def test_a_fingerprint_is_that_of_the_node_or_of_its_authority(secure, connect, certificates):
    _, prints = certificates
    colons = bytes.fromhex(prints["node"]).hex(":")
    for text in (prints["node"], prints["node"].upper(), colons, prints["ca"]):
        elastic = connect(secure.url, LLMLOG_ELASTICSEARCH_SSL_ASSERT_FINGERPRINT=text)
        assert send(elastic) == [200]


def test_another_fingerprint_is_refused_and_nothing_is_sent(secure, connect, certificates):
    _, prints = certificates
    elastic = connect(
        secure.url,
        LLMLOG_ELASTICSEARCH_SSL_ASSERT_FINGERPRINT=prints["other"],
        LLMLOG_ELASTICSEARCH_API_KEY="key",
    )
    with pytest.raises(ElasticsearchError, match=r"(?i)fingerprint"):
        send(elastic)
    assert not secure.requests


@pytest.mark.parametrize("text", ["abc", "x" * 64])
def test_a_text_that_is_no_fingerprint_is_refused(connect, text):
    with pytest.raises(ConfigurationError, match="SSL_ASSERT_FINGERPRINT"):
        connect("https://127.0.0.1:1", LLMLOG_ELASTICSEARCH_SSL_ASSERT_FINGERPRINT=text)

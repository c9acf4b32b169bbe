"""The connection to Elasticsearch: what it says about itself, and to whom it says no."""

import gc
import socket
import sys
import threading
from contextlib import contextmanager, suppress

import orjson
import pytest

from llmlog_common.errors import (
    ConfigurationError,
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchUnreachable,
)
from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.error_rules import BROKEN_ANSWER, FOREIGN_PAGE, Disposition

SECRET = "Hunter2-do-not-print"


def elastic_at(url, **more):
    return Elastic(load(environ={"LLMLOG_ELASTICSEARCH_URL": url, **more}), timeout=1)


@contextmanager
def answering(status, kind, body, mapping=None):
    """Serve this answer to each request; to a GET the mapping, where there is one."""

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                talk(stream)

    def talk(stream):
        while request := stream.readline():
            length = 0
            while (line := stream.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            stream.read(length)
            answer = (status, kind, body)
            if mapping is not None and request.startswith(b"GET"):
                answer = ("200 OK", "application/json", mapping)
            head = [
                f"HTTP/1.1 {answer[0]}",
                "x-elastic-product: Elasticsearch",
                f"content-length: {len(answer[2])}",
            ]
            head += [f"content-type: {answer[1]}"] if answer[1] else []
            stream.write("\r\n".join([*head, "", ""]).encode() + answer[2])
            stream.flush()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        elastic = elastic_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield elastic
        finally:
            elastic.close()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (f"http://me:{SECRET}@127.0.0.1:1", "http://127.0.0.1:1"),
        (f"http://{SECRET}@127.0.0.1:1/path", "http://127.0.0.1:1/path"),
        (
            f"http://me:{SECRET}@127.0.0.1:1,http://me:{SECRET}@[::1]:1",
            "http://127.0.0.1:1,http://[::1]:1",
        ),
        (f"http://me:{SECRET}%40@127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_credentials_in_the_url_are_in_no_message(url, where):
    elastic = elastic_at(url)
    assert elastic.where == where
    with pytest.raises(ElasticsearchUnreachable) as caught:
        elastic.request("GET", "/")
    assert all(one in str(caught.value) for one in where.split(","))
    assert SECRET not in str(caught.value)
    elastic.close()


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host:x", f"http://me:{SECRET}@host"])
def test_an_invalid_url_is_refused_without_quoting_its_credentials(url):
    with pytest.raises(ConfigurationError, match="LLMLOG_ELASTICSEARCH_") as caught:
        elastic_at(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_cannot_be_read_are_refused_at_once(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        elastic_at("https://localhost:1", LLMLOG_ELASTICSEARCH_CA_CERTS=str(file))
    assert f"CA_CERTS {file}" in str(caught.value)


def test_a_connection_that_is_cut_off_is_told_from_one_that_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        elastic = elastic_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ElasticsearchCutOff):
            elastic.request("POST", "/_bulk", body=b"x" * 100_000)
        thread.join()
    with pytest.raises(ElasticsearchUnreachable) as refused:
        elastic.request("GET", "/")
    assert not isinstance(refused.value, ElasticsearchCutOff)
    elastic.close()


def test_a_request_without_an_answer_does_not_keep_its_body_in_memory():
    """The collector hardly ever looks: what stood in a cycle would be megabytes an attempt."""
    elastic, body = elastic_at("http://127.0.0.1:1"), b"x" * 1000
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(body)
        for _ in range(3):
            with suppress(ElasticsearchUnreachable):
                elastic.request("POST", "/_bulk", body=body)
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()
    elastic.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/xml", b"<error>too large</error>"),
        ("application/octet-stream", b"too large \xff"),
        ("application/json", b"{too large"),
        ("application/problem+json", b'{"title": "too large"}'),
        ("text/html", b"<html>too large</html>"),
        (None, b"too large"),
        ("nonsense", b"too large"),
    ],
)
def test_an_answer_keeps_its_status_whatever_its_body_is(kind, body):
    with answering("413 Content Too Large", kind, body) as elastic:
        answer = elastic.request("POST", "/_bulk", body=b"{}")
        with pytest.raises(ElasticsearchError, match=r"413 (too large|.*too large|an HTML page)"):
            elastic.demand("GET", "/")
    assert answer.status == 413


def test_an_answer_without_a_body_keeps_its_status():
    with answering("403 Forbidden", "application/json", b"") as elastic:
        assert elastic.request("GET", "/").describe() == "403 an empty answer"


BROKEN = (b'{"errors":false,"items":[{"create":{"_id":"a"', b"<html>hello</html>", b"[]", b"")


@pytest.mark.parametrize("body", BROKEN)
def test_a_good_answer_that_is_no_json_object_is_a_broken_one(body):
    mapping = orjson.dumps({"logs-1": {"mappings": {"_meta": {"llmlog_version": 1}}}})
    with answering("200 OK", "application/json", body, mapping) as elastic:
        builder = BatchBuilder()
        builder.add(None, None, 7, "logs-1", "a", b"{}", 0.0)
        answered = BulkClient(elastic, "logs").send(builder.take())
    assert answered.verdict is (FOREIGN_PAGE if b"html" in body else BROKEN_ANSWER)


@pytest.mark.parametrize("body", BROKEN)
def test_a_body_that_is_no_json_object_is_never_returned(body):
    with answering("200 OK", "application/json", body) as elastic:
        with pytest.raises(
            ElasticsearchError, match=r"200 (without a JSON object|an HTML page)"
        ) as caught:
            elastic.demand("GET", "/")
        builder = BatchBuilder()
        builder.add(None, None, 7, "logs-1", "a", b"{}", 0.0)
        answered = BulkClient(elastic, "logs").send(builder.take())
    assert "hello" not in str(caught.value)
    assert answered.verdict.disposition is Disposition.CONFIGURATION
    assert "200 without a JSON object" in answered.detail or "an HTML page" in answered.detail

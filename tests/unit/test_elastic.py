"""The connection to Elasticsearch: what it says about itself, and to whom it says no."""

import gc
import socket
import sys
import threading
from contextlib import suppress

import pytest

from llmlog_consumer.elastic import Elastic
from llmlog_schemas.errors import (
    ConfigurationError,
    ElasticsearchCutOff,
    ElasticsearchUnreachable,
)
from llmlog_schemas.settings import load

SECRET = "Hunter2-do-not-print"


def elastic_at(url, **more):
    return Elastic(load(environ={"LLMLOG_ELASTICSEARCH_URL": url, **more}), timeout=1)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (f"http://me:{SECRET}@127.0.0.1:1", "http://127.0.0.1:1"),
        (f"http://{SECRET}@127.0.0.1:1/path", "http://127.0.0.1:1/path"),
        (f"http://me:{SECRET}@127.0.0.1:1,http://me:{SECRET}@[::1]:1",
         "http://127.0.0.1:1,http://[::1]:1"),
        (f"http://me:{SECRET}%40@127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)  # fmt: skip
def test_credentials_in_the_url_are_in_no_message(url, where):
    elastic = elastic_at(url)
    assert elastic.where == where
    with pytest.raises(ElasticsearchUnreachable) as caught:
        elastic.request("GET", "/")
    assert where in str(caught.value)
    assert SECRET not in str(caught.value)
    elastic.close()


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host:x", f"http://me:{SECRET}@host"])
def test_a_url_that_is_none_is_refused_without_its_credentials(url):
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


def test_a_connection_that_is_closed_in_the_middle_is_told_from_none():
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


def test_a_request_that_is_not_answered_keeps_nothing_of_its_body():
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

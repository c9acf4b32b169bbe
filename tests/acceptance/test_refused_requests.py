"""Something between answers in Elasticsearch's place: how each event ends, and what is said.

The commands run against real servers, with a proxy before Elasticsearch that a test switches.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from support.http_proxy import HttpProxy, elasticsearch_reply, http_proxy, page
from support.judge import judge
from support.payloads import ndjson, payload
from support.pipeline import SLOW, Pipeline, wait_until

PROMPT = "union select password from users"


@pytest.fixture
def proxy(pipeline: Pipeline) -> Iterator[HttpProxy]:
    """A proxy between the commands of `pipeline` and Elasticsearch."""
    with http_proxy(pipeline.elasticsearch) as running:
        pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = running.url
        yield running


def question(seed: int, text: str) -> dict:
    return payload(seed, messages=[{"role": "user", "content": text}])


def produce(pipeline: Pipeline, seeds: range, *more: dict) -> None:
    pipeline.run("produce", "-", input=ndjson([*map(payload, seeds), *more]))


def letters(pipeline: Pipeline) -> list[dict]:
    shown = pipeline.run("dlq", "list", "--json", "--show-content").stdout
    return [json.loads(line) for line in shown.splitlines()]


def assert_exact(pipeline: Pipeline) -> None:
    bootstrap = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    judge(bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index).assert_exact()


def stop(pipeline: Pipeline, process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0, pipeline.stderr_of(process)


# One prompt that a firewall dislikes


@pytest.mark.parametrize("reply", [page(403), page(200)], ids=["403", "page"])
def test_one_prompt_that_a_firewall_dislikes_is_a_letter_and_all_others_are_indexed(
    pipeline: Pipeline, proxy: HttpProxy, reply
) -> None:
    proxy.rule = lambda _method, path, body: (
        reply if path.startswith("/_bulk") and PROMPT.encode() in body else None
    )
    produce(pipeline, range(400), question(1000, f"explain: {PROMPT}"))
    done = pipeline.run("consume", "--until-end")
    assert pipeline.count() == 400, done.stderr
    (letter,) = letters(pipeline)
    assert letter["stage"] == "index"
    assert "credentials" not in letter["es"]["reason"]
    assert PROMPT not in done.stderr
    assert_exact(pipeline)


# Everything is refused, for a while


def test_a_proxy_that_refuses_every_size_for_a_while_makes_no_letter(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    process = pipeline.start("consume", "--workers", "1")
    produce(pipeline, range(20))
    wait_until(lambda: pipeline.count() == 20)
    proxy.rule = lambda _method, path, _body: page(413) if path.startswith("/_bulk") else None
    produce(pipeline, range(20, 60))
    wait_until(lambda: "indexing paused" in pipeline.stderr_of(process), 60)
    assert "too large for Elasticsearch or a proxy" in pipeline.stderr_of(process)
    proxy.rule = lambda *_: None
    wait_until(lambda: pipeline.count() == 60, 60)
    del proxy.bulks[:]
    produce(pipeline, range(100, 3100))
    wait_until(lambda: pipeline.count() == 3060, 60)
    assert max(proxy.bulks) > 100_000, "the size of requests is what it was"
    stop(pipeline, process)
    assert letters(pipeline) == []
    assert_exact(pipeline)


NAMED = [
    (page(301, Location="https://u:p@login.invalid/?secret"), "a redirect to https://login.invalid"),
    (page(407), "a proxy between wants credentials"),
    (page(411), "it wants their length"),
    (page(421), "another host than LLMLOG_ELASTICSEARCH_URL"),
    (page(200), "a proxy or a login page answers"),
    ((406, b'{"error":"Content-Type header [x] is not supported","status":406}',
      {"Content-Type": "application/json"}), "OpenSearch"),
]  # fmt: skip


def test_what_answers_in_elasticsearchs_place_is_named(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    process = pipeline.start("consume", "--workers", "1")
    produce(pipeline, range(5))
    wait_until(lambda: pipeline.count() == 5)
    for number, (reply, said) in enumerate(NAMED, start=1):
        proxy.rule = lambda _method, path, _body, reply=reply: (
            reply if path.startswith("/_bulk") else None
        )
        produce(pipeline, range(number * 5, number * 5 + 5))
        wait_until(lambda said=said: said in pipeline.stderr_of(process), 30, said)
        proxy.rule = lambda *_: None
        wait_until(lambda end=number * 5 + 5: pipeline.count() == end, 60)
    stop(pipeline, process)
    told = pipeline.stderr_of(process)
    assert "secret" not in told
    assert "u:p" not in told
    assert letters(pipeline) == []


# A gateway that does not wait


def test_what_a_gateway_gave_up_on_is_halved_and_what_is_there_already_is_seen(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    """It answers 504 for large requests, and Elasticsearch indexes them."""
    proxy.after = lambda path, body, _status, _content: (
        page(504) if path.startswith("/_bulk") and body.count(b"\n") > 2 * 300 else None
    )
    produce(pipeline, range(1500))
    done = pipeline.run("consume", "--until-end")
    assert pipeline.count() == 1500, done.stderr
    assert letters(pipeline) == []
    assert_exact(pipeline)


# Ingest pipelines: their processors are no part of the servers at hand, so the proxy plays them


def ingest_pipeline(body: bytes, items: list[dict], **changed) -> None:
    """Change the items whose document holds `dropme`, as Elasticsearch would answer."""
    documents = body.split(b"\n")[1::2]
    for document, item in zip(documents, items, strict=False):
        if b"dropme" in document:
            item["create"] = {"_id": item["create"]["_id"]} | changed


def drop(path: str, body: bytes, _status: int, content: bytes):
    """Play the `drop` processor."""
    if not path.startswith("/_bulk"):
        return None
    answer = json.loads(content)
    ingest_pipeline(body, answer["items"], status=200)
    return elasticsearch_reply(answer)


def test_a_document_that_an_ingest_pipeline_drops_is_a_letter(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    proxy.after = drop
    produce(pipeline, range(20), *(question(seed, "dropme") for seed in (100, 101)))
    done = pipeline.run("consume", "--until-end")
    assert "indexed=20" in done.stderr
    assert "dead=2" in done.stderr
    found = letters(pipeline)
    assert len(found) == 2
    assert "ingest pipeline" in found[0]["es"]["reason"]


def test_a_declared_drop_is_counted_by_itself(pipeline: Pipeline, proxy: HttpProxy) -> None:
    proxy.after = drop
    pipeline.environment["LLMLOG_INGEST_DROP"] = "drop"
    produce(pipeline, range(20), question(100, "dropme"))
    done = pipeline.run("consume", "--until-end")
    assert "indexed=20" in done.stderr
    assert "dropped=1" in done.stderr
    assert letters(pipeline) == []


def test_a_document_that_an_ingest_pipeline_gives_another_id_is_a_letter(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    """The worker goes on with all others, and does not make the document once more."""

    def rename(path, body, _status, content):
        if not path.startswith("/_bulk"):
            return None
        answer = json.loads(content)
        ingest_pipeline(body, answer["items"], status=201, _id="another")
        return elasticsearch_reply(answer)

    proxy.after = rename
    produce(pipeline, range(20), question(100, "dropme"))
    done = pipeline.run("consume", "--until-end")
    assert "indexed=20" in done.stderr
    assert "dead=1" in done.stderr
    (letter,) = letters(pipeline)
    assert letter["es"]["reason"].endswith("it is 'another'")


def test_a_document_that_an_ingest_pipeline_sends_elsewhere_is_said(
    pipeline: Pipeline, proxy: HttpProxy
) -> None:
    def reroute(path, body, _status, content):
        if not path.startswith("/_bulk"):
            return None
        answer = json.loads(content)
        ingest_pipeline(body, answer["items"], status=201, _index="elsewhere")
        return elasticsearch_reply(answer)

    proxy.after = reroute
    produce(pipeline, range(20), question(100, "dropme"))
    done = pipeline.run("consume", "--until-end")
    assert "indexed=21" in done.stderr
    assert "sends documents to another index" in done.stderr
    assert "elsewhere" in done.stderr

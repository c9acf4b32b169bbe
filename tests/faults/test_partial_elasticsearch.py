"""One index, one node, one document is wrong, under load: `make faults ONLY=partial`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from llmlog_local.ports import free_ports
from support.fault_proxy import FaultProxy
from support.fault_run import LONG, Arena
from support.http_proxy import HttpProxy, Reply, elasticsearch_reply, http_proxy, page
from support.partial_run import PartialRun, index_of, run_partially
from support.pipeline import Pipeline

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

LATE = 30
"""Events that are for the bad part."""
DAYS_AGO = 2
DROPPED = "dropme, says the ingest pipeline"
PROMPT = "1 union select password from users"
Change = Callable[[PartialRun, str], None]


def put_setting(name: str, value: object) -> Change:
    """Return what sets one setting of an index."""
    return lambda run, index: run.elastic("PUT", f"/{index}/_settings", json={name: value}) and None


def block(name: str) -> tuple[Change, Change]:
    """Return what sets a block, and what takes it off."""
    setting = f"index.blocks.{name}"
    return put_setting(setting, "true"), put_setting(setting, None)


def close(run: PartialRun, index: str) -> None:
    run.elastic("POST", f"/{index}/_close")


def reopen(run: PartialRun, index: str) -> None:
    run.elastic("POST", f"/{index}/_open")


# One index


@pytest.mark.parametrize(
    ("name", "break_it", "mend_it"),
    [
        ("an index blocked", *block("write")),
        ("an index read-only", *block("read_only")),
        ("an index at flood stage", *block("read_only_allow_delete")),
        ("an index closed", close, reopen),
    ],
)
def test_an_index_takes_nothing_for_a_while(
    arena: Arena, pipeline: Pipeline, name: str, break_it: Change, mend_it: Change
) -> None:
    def fault(run: PartialRun) -> None:
        index = run.make_index(DAYS_AGO)
        break_it(run, index)
        since = time.monotonic()
        run.send_bad_part(run.late(LATE))
        run.wait_until_said(index, since)
        run.measure_during()
        mend_it(run, index)

    run_partially(name, fault, arena, pipeline)


def test_an_index_is_blocked_for_good(arena: Arena, new_pipeline: Callable[..., Pipeline]) -> None:
    """As a searchable snapshot is: its events are letters once they have waited."""
    pipeline = new_pipeline(LLMLOG_INDEX_WAIT="15 seconds")

    def fault(run: PartialRun) -> None:
        index = run.make_index(DAYS_AGO)
        block("write")[0](run, index)
        since = time.monotonic()
        run.send_bad_part(run.late(LATE), letters=LATE)
        run.wait_until_said(index, since)
        run.measure_during()
        run.wait(lambda: len(run.letters("blocked by")) == LATE, what="they are letters")

    run_partially("an index blocked for good", fault, arena, pipeline)


def test_an_index_is_deleted(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: PartialRun) -> None:
        index = run.make_index(DAYS_AGO)
        run.elastic("DELETE", f"/{index}")
        since = time.monotonic()
        run.send_bad_part(run.late(LATE), letters=LATE)
        run.wait_for_letters(LATE, f"index {index} was deleted", since)
        run.measure_during()
        assert httpx.head(f"{pipeline.elasticsearch}/{index}").status_code == 404

    run_partially("an index deleted", fault, arena, pipeline)


def test_the_cluster_has_no_shards_for_one_more_index(arena: Arena, pipeline: Pipeline) -> None:
    def limit(run: PartialRun, number: int | None) -> None:
        body = {"persistent": {"cluster.max_shards_per_node": number}}
        run.elastic("PUT", "/_cluster/settings", json=body)

    def fault(run: PartialRun) -> None:
        limit(run, 1)
        try:
            since = time.monotonic()
            run.send_bad_part(run.late(LATE))
            run.wait_until_said(index_of(pipeline, DAYS_AGO), since)
            run.measure_during()
        finally:
            limit(run, None)

    run_partially("an index full: no shards left", fault, arena, pipeline)


def test_the_shard_of_an_index_is_on_no_node(arena: Arena, pipeline: Pipeline) -> None:
    allocation = "index.routing.allocation.include._name"

    def fault(run: PartialRun) -> None:
        index = run.make_index(DAYS_AGO, {"settings": {allocation: "gone"}})
        since = time.monotonic()
        run.send_bad_part(run.late(LATE))
        run.wait_until_said(index, since)
        run.measure_during()
        put_setting(allocation, None)(run, index)

    run_partially("an index without its shard", fault, arena, pipeline)


def test_an_index_has_a_wrong_mapping(arena: Arena, pipeline: Pipeline) -> None:
    wrong = {"mappings": {"dynamic": False, "properties": {"model": {"type": "long"}}}}

    def fault(run: PartialRun) -> None:
        index = run.make_index(DAYS_AGO, wrong)
        since = time.monotonic()
        run.send_bad_part(run.late(LATE), letters=LATE)
        run.wait_for_letters(LATE, index, since)
        run.measure_during()

    run_partially("an index with a wrong mapping", fault, arena, pipeline)


def test_the_newest_index_is_blocked(arena: Arena, new_pipeline: Callable[..., Pipeline]) -> None:
    """Its events wait, longer than those of other indices may, and late ones flow."""
    pipeline = new_pipeline(LLMLOG_INDEX_WAIT="1 second")

    def fault(run: PartialRun) -> None:
        index = index_of(pipeline, 0)
        block("write")[0](run, index)
        since = time.monotonic()
        run.send_bad_part(run.late(LATE, 0))
        run.wait_until_said(index, since)
        run.measure_during()
        block("write")[1](run, index)

    run_partially("the newest index blocked", fault, arena, pipeline, days_ago=DAYS_AGO)


# One document


@pytest.fixture
def proxy(arena: Arena) -> Iterator[HttpProxy]:
    """A proxy that reads requests."""
    with http_proxy(arena.servers.elasticsearch.url) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "status"),
    [("a prompt that a firewall refuses", 403), ("a document that a gateway breaks at", 502)],
)
def test_one_document_is_refused_by_what_is_between(
    arena: Arena, pipeline: Pipeline, proxy: HttpProxy, name: str, status: int
) -> None:
    proxy.rule = lambda _method, path, body: (
        page(status) if path.startswith("/_bulk") and PROMPT.encode() in body else None
    )
    messages = [{"role": "user", "content": PROMPT}]

    def fault(run: PartialRun) -> None:
        since = time.monotonic()
        run.send_bad_part(run.late(1, 0, messages=messages), letters=1)
        run.measure_during()
        run.wait_for_letters(1, str(status), since)

    run_partially(name, fault, arena, pipeline, settings={"LLMLOG_ELASTICSEARCH_URL": proxy.url})


def test_an_ingest_pipeline_drops_one_per_cent(
    arena: Arena, pipeline: Pipeline, proxy: HttpProxy
) -> None:
    """Played by the proxy, for its processors are no part of the servers at hand."""
    number = LONG // 100
    messages = [{"role": "user", "content": DROPPED}]
    proxy.rule = lambda _method, path, body: (
        without_dropped(arena.servers.elasticsearch.url + path, body)
        if path.startswith("/_bulk") and DROPPED.encode() in body
        else None
    )

    def fault(run: PartialRun) -> None:
        since = time.monotonic()
        run.send_bad_part(run.late(number, 0, messages=messages), letters=number)
        run.measure_during()
        run.wait_for_letters(number, "ingest pipeline", since)

    run_partially(
        "1% dropped by an ingest pipeline", fault, arena, pipeline,
        settings={"LLMLOG_ELASTICSEARCH_URL": proxy.url},
    )  # fmt: skip


def without_dropped(url: str, body: bytes) -> Reply:
    """Index what is not dropped, and answer for all, as Elasticsearch does."""
    lines = body.rstrip(b"\n").split(b"\n")
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    kept = b"".join(b"%b\n%b\n" % pair for pair in pairs if DROPPED.encode() not in pair[1])
    items: Iterator[dict] = iter(())
    if kept:
        headers = {"Content-Type": "application/x-ndjson"}
        answer = httpx.post(url, content=kept, headers=headers, timeout=60).raise_for_status()
        items = iter(answer.json()["items"])
    noop = {"_version": -3, "result": "noop", "status": 200}
    told = [
        {"create": json.loads(operation)["create"] | noop}
        if DROPPED.encode() in document
        else next(items)
        for operation, document in pairs
    ]
    errors = any("error" in item["create"] for item in told)
    return elasticsearch_reply({"took": 1, "errors": errors, "items": told})


# One node


@contextmanager
def two_nodes(arena: Arena) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """Two ways to the one Elasticsearch, as two nodes are."""
    target = arena.servers.elasticsearch.port
    proxies = [FaultProxy(target, port) for port in free_ports(2)]
    try:
        for proxy in proxies:
            proxy.start()
        yield proxies[0], proxies[1]
    finally:
        for proxy in proxies:
            proxy.close()


NODE_FAULTS: list[tuple[str, Callable[[FaultProxy], None], Callable[[FaultProxy], None]]] = [
    ("a node dead", FaultProxy.stop, FaultProxy.start),
    ("a node that hangs", FaultProxy.hang, FaultProxy.mend),
    ("a node slow", lambda node: node.delay(1.0), FaultProxy.mend),
    ("a node lying", lambda node: node.answer("200 OK", b'{"ok":true}'), FaultProxy.mend),
    ("a node without its security", lambda node: node.answer("503 Service Unavailable", b"busy"),
     FaultProxy.mend),
]  # fmt: skip


@pytest.mark.parametrize(("name", "break_it", "mend_it"), NODE_FAULTS)
def test_a_node_is_wrong(
    arena: Arena,
    pipeline: Pipeline,
    name: str,
    break_it: Callable[[FaultProxy], None],
    mend_it: Callable[[FaultProxy], None],
) -> None:
    with two_nodes(arena) as (good, bad):
        urls = ",".join(f"http://127.0.0.1:{node.port}" for node in (bad, good))

        def fault(run: PartialRun) -> None:
            break_it(bad)
            since = time.monotonic()
            run.send_bad_part(run.late(LATE, 0))
            run.wait_until_said(str(bad.port), since)
            run.measure_during()
            mend_it(bad)

        settings = {"LLMLOG_ELASTICSEARCH_URL": urls}
        run_partially(name, fault, arena, pipeline, settings=settings)

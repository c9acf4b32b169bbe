"""Indices that take nothing: their own events wait and end, and all others flow."""

from __future__ import annotations

import json
import signal
import time

import httpx
import pytest

from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.payloads import payload, send
from support.pipeline import Pipeline, wait_until

WRITE_BLOCK = {"index.blocks.write": True}
READ_ONLY = {"index.blocks.read_only": True}


def values_of(seeds: range, days_ago: int = 0) -> list[bytes | None]:
    """Return the values of events that began so many days ago."""
    values: list[bytes | None] = []
    for seed in seeds:
        began = payload(seed)["startTime"] - days_ago * DAY_MS / 1000
        event = to_event(payload(seed, startTime=began, endTime=began + 0.5))
        values.append(Encoder().encode(event))
    return values


def write(pipeline: Pipeline, values: list[bytes | None]) -> None:
    send(pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"], pipeline.topic, values)


def index_of(pipeline: Pipeline, days_ago: int) -> str:
    began_ms = int(payload(1)["startTime"] * 1000)
    return daily_index(pipeline.index, began_ms - days_ago * DAY_MS)


def put(pipeline: Pipeline, path: str, body: object = None) -> None:
    answer = httpx.put(f"{pipeline.elasticsearch}{path}", json=body)
    assert answer.is_success, answer.text


def put_settings(pipeline: Pipeline, index: str, settings: dict[str, object]) -> None:
    put(pipeline, f"/{index}/_settings", settings)


def count(pipeline: Pipeline) -> int:
    """Return the documents behind the alias, without those of closed indices."""
    pipeline.refresh()
    path = f"/{pipeline.index}/_count?ignore_unavailable=true"
    return int(pipeline.get(path).get("count", 0))


def status_of(pipeline: Pipeline) -> str:
    return pipeline.run("status", check=False).stdout


def letters_of(pipeline: Pipeline) -> list[dict]:
    lines = pipeline.run("dlq", "list", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_indices_that_take_nothing_stop_no_other_and_their_events_become_letters(
    pipeline: Pipeline,
) -> None:
    blocked, closed, deleted, read_only = (index_of(pipeline, days) for days in (2, 3, 4, 5))
    for index in (blocked, closed, deleted, read_only):
        put(pipeline, f"/{index}")
    put_settings(pipeline, blocked, WRITE_BLOCK)
    put_settings(pipeline, read_only, READ_ONLY)
    httpx.post(f"{pipeline.elasticsearch}/{closed}/_close").raise_for_status()
    httpx.delete(f"{pipeline.elasticsearch}/{deleted}").raise_for_status()
    pipeline.environment["LLMLOG_INDEX_WAIT"] = "4 seconds"
    consumer = pipeline.start("consume")
    for days, seeds in enumerate((range(5), range(5, 10), range(10, 15), range(15, 20)), start=2):
        write(pipeline, values_of(seeds, days))
    write(pipeline, values_of(range(100, 300)))
    wait_until(lambda: count(pipeline) == 200, what="today's events are documents")
    wait_until(lambda: len(letters_of(pipeline)) == 20, what="the late events are letters")
    reasons = {letter["index"]: letter["es"]["reason"] for letter in letters_of(pipeline)}
    assert "blocked by" in reasons[blocked]
    assert "the index took none for 4 s" in reasons[closed]
    assert f"index {deleted} was deleted" in reasons[deleted]
    assert "blocked by" in reasons[read_only]
    assert httpx.head(f"{pipeline.elasticsearch}/{deleted}").status_code == 404
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(60) == 0
    put_settings(pipeline, blocked, {"index.blocks.write": None})
    pipeline.run("dlq", "replay", "--yes", "--index", blocked, check=False)
    assert count(pipeline) == 205
    pipeline.run("verify")


def test_a_closed_index_is_named_and_resumes_by_itself(pipeline: Pipeline) -> None:
    closed = index_of(pipeline, 3)
    put(pipeline, f"/{closed}")
    httpx.post(f"{pipeline.elasticsearch}/{closed}/_close").raise_for_status()
    consumer = pipeline.start("consume")
    write(pipeline, values_of(range(3), 3))
    wait_until(lambda: closed in status_of(pipeline), what="status names the index")
    status = status_of(pipeline)
    assert "index_closed_exception" in status
    assert "open the index" in status
    write(pipeline, values_of(range(100, 150)))
    wait_until(lambda: count(pipeline) == 50)
    httpx.post(f"{pipeline.elasticsearch}/{closed}/_open").raise_for_status()
    wait_until(lambda: count(pipeline) == 53, what="it resumes by itself")
    wait_until(lambda: "CURRENT" in status_of(pipeline))
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(60) == 0
    assert not letters_of(pipeline)


def test_the_newest_index_never_becomes_letters_and_old_events_flow_meanwhile(
    pipeline: Pipeline,
) -> None:
    today = index_of(pipeline, 0)
    put_settings(pipeline, today, WRITE_BLOCK)
    pipeline.environment["LLMLOG_INDEX_WAIT"] = "1 second"
    consumer = pipeline.start("consume")
    write(pipeline, values_of(range(50)))
    write(pipeline, values_of(range(100, 120), 2))
    wait_until(lambda: count(pipeline) == 20, what="yesterday's events are documents")
    wait_until(lambda: f"index {today}: 403" in status_of(pipeline))
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3.0, what="the wait of other indices is over")
    assert not letters_of(pipeline)
    put_settings(pipeline, today, {"index.blocks.write": None})
    wait_until(lambda: count(pipeline) == 70)
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(60) == 0


@pytest.mark.parametrize("is_newest", [True, False])
def test_an_index_that_is_deleted_while_the_worker_runs(
    pipeline: Pipeline, *, is_newest: bool
) -> None:
    days = 0 if is_newest else 2
    index = index_of(pipeline, days)
    consumer = pipeline.start("consume")
    write(pipeline, values_of(range(20)))
    write(pipeline, values_of(range(100, 110), 2))
    wait_until(lambda: count(pipeline) == 30)
    httpx.delete(f"{pipeline.elasticsearch}/{index}").raise_for_status()
    write(pipeline, values_of(range(200, 205), days))
    if is_newest:
        wait_until(lambda: count(pipeline) == 15, what="today's index is created again")
    else:
        wait_until(lambda: len(letters_of(pipeline)) == 5, what="late events are letters")
        assert httpx.head(f"{pipeline.elasticsearch}/{index}").status_code == 404
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(60) == 0

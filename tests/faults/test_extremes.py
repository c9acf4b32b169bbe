"""The extremes of what can be set, each with a fault in the middle: `make faults`.

No option, size or concurrency may make it lose, double or wedge. In each run a worker is killed and
Elasticsearch goes away, and everything is counted after it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.transform import describe
from llmlog_consumer.elasticsearch.document import ExpiredError
from support.fault_run import (
    LONG,
    Arena,
    Load,
    Run,
    another_elasticsearch,
    patience,
    run_under_load,
    settle,
    stop,
)
from support.judge import judge
from support.payloads import encoded, send
from support.pipeline import Pipeline

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

BOUNDS = Path(__file__).parents[1] / "support" / "bounds.py"
RECORDS = LONG // 4
"""Extremes are slow: a request for each document, for one."""
MANY_WORKERS = 100


def killed_and_away(run: Run) -> None:
    """Kill a worker, then let Elasticsearch go away and come back."""
    run.kill(run.worker())
    run.wait_for_line("worker died, starting it again")
    run.arena.elastic_proxy.stop()
    run.wait_for_line("waiting for Elasticsearch")
    run.arena.elastic_proxy.start()


def through_proxy(arena: Arena) -> dict[str, str]:
    """Return the setting that leads to Elasticsearch through its proxy."""
    name = "LLMLOG_ELASTICSEARCH_URL"
    return {name: arena.through_proxies()[name]}


# Bounds of ours


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("1 record per batch", {"operations": 1, "age": 0.0}),
        ("1 record at a time", {"chunk": 1, "commit_records": 1, "bulks": 1}),
        ("1 byte of a body", {"body_bytes": 1}),
        ("1 byte in flight", {"in_flight_bytes": 1}),
        ("1 of everything",
         {"operations": 1, "body_bytes": 1, "in_flight_bytes": 1, "bulks": 1, "chunk": 1,
          "commit_records": 1, "age": 0.0}),
        ("100 bulks at once, 1 record each", {"operations": 1, "bulks": 100}),
        ("no bounds", {"operations": 10**9, "body_bytes": 10**12, "in_flight_bytes": 10**12,
                       "chunk": 100_000, "bulks": 16, "commit_records": 10**9}),
    ],
)  # fmt: skip
def test_bounds(arena: Arena, pipeline: Pipeline, name: str, changed: dict[str, float]) -> None:
    pipeline.program = (sys.executable, str(BOUNDS), json.dumps(changed))
    run_under_load(
        name, killed_and_away, arena, pipeline, records=RECORDS, bad_share=0.05,
        settings=through_proxy(arena),
    )  # fmt: skip


# Properties of the clients


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("fetches of 1 byte",
         {"FETCH_MESSAGE_MAX_BYTES": "1", "QUEUED_MAX_MESSAGES_KBYTES": "1",
          "QUEUED_MIN_MESSAGES": "1", "FETCH_WAIT_MAX_MS": "0"}),
        ("fetches of everything",
         {"FETCH_MESSAGE_MAX_BYTES": "1000000000", "FETCH_MAX_BYTES": "1000000000",
          "RECEIVE_MESSAGE_MAX_BYTES": "1000000512",
          "QUEUED_MAX_MESSAGES_KBYTES": "2097151", "QUEUED_MIN_MESSAGES": "10000000"}),
        ("shortest poll interval", {"MAX_POLL_INTERVAL_MS": "6000"}),
        ("eager assignment", {"PARTITION_ASSIGNMENT_STRATEGY": "range"}),
        ("the new group protocol", {"GROUP_PROTOCOL": "consumer"}),
        ("static members", {"GROUP_INSTANCE_ID": "extreme"}),
    ],
)  # fmt: skip
def test_consumer_properties(
    arena: Arena, pipeline: Pipeline, name: str, properties: dict[str, str]
) -> None:
    settings = {f"LLMLOG_KAFKA_CONSUMER_{key}": value for key, value in properties.items()}

    def fault(run: Run) -> None:
        killed_and_away(run)
        run.arena.elastic_proxy.hang()
        run.outlast(14.0)  # longer than the poll interval, and than a session
        run.arena.elastic_proxy.reset()
        run.arena.elastic_proxy.mend()

    run_under_load(
        name, fault, arena, pipeline, records=RECORDS, bad_share=0.05,
        settings=settings | through_proxy(arena),
    )  # fmt: skip


def test_letters_one_at_a_time(arena: Arena, pipeline: Pipeline) -> None:
    properties = {
        "QUEUE_BUFFERING_MAX_MESSAGES": "1",
        "QUEUE_BUFFERING_MAX_KBYTES": "1",
        "BATCH_NUM_MESSAGES": "1",
        "LINGER_MS": "0",
        "MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION": "1",
    }
    settings = {f"LLMLOG_KAFKA_PRODUCER_{key}": value for key, value in properties.items()}
    run_under_load(
        "letters one at a time", killed_and_away, arena, pipeline, records=RECORDS, bad_share=0.1,
        settings=settings | through_proxy(arena),
    )  # fmt: skip


# Sizes and numbers


def test_far_more_workers_than_partitions(
    arena: Arena, new_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = new_pipeline(LLMLOG_PARTITIONS="3")

    def fault(run: Run) -> None:
        run.wait(lambda: len(run.worker_processes()) == MANY_WORKERS, what="all of them run")
        owners = re.findall(r"event=assigned.* partitions=\d.* worker=(\d+)", run.said())
        for number in dict.fromkeys(owners[-3:]):
            kill_worker(run, number)
        killed_and_away(run)

    run_under_load(
        f"{MANY_WORKERS} workers on 3 partitions", fault, arena, pipeline, records=RECORDS,
        workers=MANY_WORKERS, bad_share=0.05, settings=through_proxy(arena),
    )  # fmt: skip


def kill_worker(run: Run, number: str) -> None:
    for process in run.worker_processes():
        if " ".join(process.cmdline()).endswith(f"worker {number}"):
            run.kill(process)


def test_far_more_partitions_than_workers(
    arena: Arena, new_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = new_pipeline(LLMLOG_PARTITIONS="200")
    run_under_load(
        "2 workers on 200 partitions", killed_and_away, arena, pipeline, records=RECORDS,
        bad_share=0.05, settings=through_proxy(arena),
    )  # fmt: skip


def test_bulks_and_records_larger_than_the_server_takes(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    with another_elasticsearch(tmp_path, http__max_content_length="1mb") as server:
        pipeline = new_pipeline(server.url)
        fits, does_not = (b'{"messages":"%b"}' % (b"x" * size) for size in (300_000, 1_500_000))
        large = [encoded(seed, document=fits) for seed in range(100)]
        oversize = [encoded(seed, document=does_not) for seed in range(100, 110)]

        def fault(run: Run) -> None:
            mixed = [value for at in range(10) for value in (*large[at::10], oversize[at])]
            send(arena.bootstrap, pipeline.topic, mixed, **{"message.max.bytes": 4_000_000})
            run.load.bad += len(oversize)
            run.load.extra += len(mixed)
            run.kill(run.worker())
            run.wait_for_line("worker died, starting it again")
            run.wait_for_line("stage=oversize")
            server.kill()
            run.wait_for_line("waiting for Elasticsearch")
            server.start()

        run_under_load(
            "bulks over the limit", fault, arena, pipeline, records=RECORDS, bad_share=0.05
        )


# Time


@pytest.mark.parametrize("age", ["1 ms", "999999999 days"])
def test_oldest_events(arena: Arena, new_pipeline: Callable[..., Pipeline], age: str) -> None:
    """Everything expires, and becomes letters; or nothing ever does."""
    pipeline = new_pipeline(LLMLOG_MAX_EVENT_AGE=age)
    # The circuit breaker would hold them: it would take them for a wrong clock's.
    error = describe(ExpiredError(2.0, timedelta(milliseconds=1)))
    accepted = Cause(Stage.EXPIRED, Ending.PERMANENT, error).fingerprint
    began = time.monotonic()
    run = Run(arena, pipeline, Load(arena.bootstrap, pipeline.topic, RECORDS), {}, 2)
    run.consuming = run.consume("--accept", accepted)
    run.load.start()
    run.wait(lambda: run.unsettled() > 0, what="something to consume")
    run.kill(run.worker())
    run.load.finish()
    settle(run)
    stop(run)
    verdict = judge(arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    expired = RECORDS if age == "1 ms" else 0
    assert (len(verdict.documents), len(verdict.dead)) == (RECORDS - expired, expired)
    verdict.assert_exact()
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    assert (proof["ok"], proof["dead_letters"], proof["retired"]) == (True, expired, 0)
    run.row(f"events at most {age} old", verdict, began)


def test_half_a_second_at_a_time(arena: Arena, pipeline: Pipeline) -> None:
    """Each run gives up almost at once; together they come to the end."""
    began = time.monotonic()
    run = Run(arena, pipeline, Load(arena.bootstrap, pipeline.topic, RECORDS), {}, 2)
    run.load.start()
    run.load.finish()
    command = ["consume", "--workers", "2", "--until-end", "--timeout"]
    assert pipeline.run(*command, "0", check=False).returncode == 1
    deadline, codes = time.monotonic() + patience(RECORDS), []
    while time.monotonic() < deadline and codes[-1:] != [0]:
        codes.append(pipeline.run(*command, "2.5", check=False).returncode)
    assert codes[-1:] == [0], codes
    assert set(codes) <= {0, 1}, codes
    verdict = judge(arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    verdict.assert_exact()
    assert len(verdict.documents) == RECORDS
    run.row("--timeout 0 and 2.5", verdict, began)

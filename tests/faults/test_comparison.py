"""The five faults that pipelines of this kind are compared by, with 200,000 records each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fault_run import UNAUTHORIZED, Arena, Run, another_elasticsearch, run_under_load
from support.payloads import encoded, send
from support.pipeline import Pipeline

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]

RECORDS = int(os.environ.get("FAULT_RECORDS") or 200_000)


def test_elasticsearch_goes_away_for_a_minute(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.servers.elasticsearch.kill()
        run.outlast(60)
        arena.servers.elasticsearch.start()

    run_under_load("compared: Elasticsearch away", fault, arena, pipeline, records=RECORDS)


def test_items_are_answered_with_429(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    with another_elasticsearch(
        tmp_path, node__processors="1", thread_pool__write__queue_size="1"
    ) as server:

        def fault(run: Run) -> None:
            run.wait_for_line("es_rejected_execution_exception")
            run.wait_for_progress()

        pipeline = new_pipeline(server.url)
        run_under_load("compared: 429 for items", fault, arena, pipeline, records=RECORDS)


def test_elasticsearch_stops_answering(arena: Arena, pipeline: Pipeline) -> None:
    """Requests time out, carried out or not, and their connections break."""

    def fault(run: Run) -> None:
        for _ in range(3):
            arena.elastic_proxy.hang()
            run.outlast(15)
            arena.elastic_proxy.reset()
            arena.elastic_proxy.mend()
            run.wait_for_progress()

    run_under_load(
        "compared: no answers", fault, arena, pipeline, records=RECORDS,
        settings=arena.through_proxies(),
    )  # fmt: skip


def test_requests_are_refused_for_a_minute(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.elastic_proxy.answer(*UNAUTHORIZED)
        run.outlast(60)
        arena.elastic_proxy.mend()

    run_under_load(
        "compared: 401 for a minute", fault, arena, pipeline, records=RECORDS,
        settings=arena.through_proxies(),
    )  # fmt: skip


def test_one_record_is_bad(arena: Arena, pipeline: Pipeline) -> None:
    bad = [b"garbage", encoded(2_000_000_000, document=b'{"messages":{"broken": }')]

    def fault(run: Run) -> None:
        for partition in range(2):
            send(arena.bootstrap, pipeline.topic, bad[partition:][:1], partition=partition)
        run.load.bad += len(bad)
        run.load.extra += len(bad)

    run_under_load("compared: one bad record", fault, arena, pipeline, records=RECORDS)

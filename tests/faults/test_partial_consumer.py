"""One member, one host, one partition, one schema id is wrong: `make faults ONLY=partial`."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from llmlog_schemas.codec import Encoder
from support.fake_registry import OURS, FakeRegistry
from support.fault_run import LONG, Arena, frozen, stop
from support.partial_run import PartialRun, run_partially
from support.payloads import encoded, event
from support.pipeline import SLOW, Pipeline

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

CLOCK = str(Path(__file__).parents[1] / "support" / "clock")
DAY = 86_400
BAD = 30
OTHERS = (1, 2, 3)
"""Partitions beside the bad one, which is 0."""


def consume_with(run: PartialRun, **environment: str) -> subprocess.Popen[str]:
    """Start another host's consumer, whose environment differs."""
    plain = run.settings
    run.settings = plain | environment
    try:
        return run.consume(workers=1)
    finally:
        run.settings = plain


def partitions_of(run: PartialRun, process: subprocess.Popen[str]) -> set[int]:
    """Return the partitions that a consumer of one worker has by its log."""
    owned: set[int] = set()
    for word, names in re.findall(
        r"event=(assigned|released).* partitions=\[?([\d, ]*)", run.pipeline.stderr_of(process)
    ):
        numbers = {int(number) for number in re.findall(r"\d+", names)}
        owned = owned | numbers if word == "assigned" else owned - numbers
    return owned


def end(run: PartialRun, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0, run.pipeline.stderr_of(process)[-4000:]


# One member


def test_a_member_is_fenced(arena: Arena, pipeline: Pipeline) -> None:
    """Two hosts have one `group.instance.id`: the older one has to go, and says why."""

    def fault(run: PartialRun) -> None:
        since = time.monotonic()
        fenced, run.consuming = run.consuming, run.consume(workers=1)
        run.undisturbed = False
        run.wait_until_said("group.instance.id", since)
        run.measure_during()
        if fenced.poll() is None:
            fenced.send_signal(signal.SIGTERM)
        fenced.wait(60 * SLOW)
        assert "group.instance.id" in pipeline.stderr_of(fenced)

    settings = {"LLMLOG_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "host"}
    run_partially("a member fenced", fault, arena, pipeline, workers=1, settings=settings)


def test_a_worker_is_frozen(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: PartialRun) -> None:
        run.undisturbed = False
        with frozen(run.worker().pid):
            since = time.monotonic()
            run.wait_until_said("no word from", since, on_page="gives no report")
            run.wait(lambda: run.status()["members"] == 1, what="it is missed")
            run.measure_during()

    settings = {"LLMLOG_KAFKA_CONSUMER_SESSION_TIMEOUT_MS": "30000"}  # else it is soon missed
    run_partially("a worker frozen", fault, arena, pipeline, settings=settings)


@pytest.mark.parametrize(
    ("name", "days", "age"),
    [
        ("clock of one host 2 days behind", -2, "400 days"),
        ("clock of one host 2 days ahead", 2, "1 day"),
    ],
)
def test_the_clock_of_one_host_is_wrong(
    arena: Arena, pipeline: Pipeline, name: str, days: int, age: str
) -> None:
    """Its circuit breaker opens before a thousand letters; the other host's events flow."""
    pipeline.environment["LLMLOG_MAX_EVENT_AGE"] = age
    path = os.pathsep.join(filter(None, (CLOCK, os.environ.get("PYTHONPATH", ""))))

    def fault(run: PartialRun) -> None:
        wrong = consume_with(run, PYTHONPATH=path, CLOCK_OFFSET=str(days * DAY))
        run.wait(lambda: len(partitions_of(run, wrong)) == 2, what="two partitions for each")
        bad = partitions_of(run, wrong)
        since = time.monotonic()
        for partition in bad:
            values = [encoded(seed) for seed in run.seeds(1500)]
            run.send_bad_part(values, partition=partition)
        run.wait_until_said("check the clock of", since)
        run.partitions = sorted({0, 1, 2, 3} - bad)
        run.measure_during()
        end(run, wrong)
        run.undisturbed = False

    run_partially(name, fault, arena, pipeline, workers=1, exact=False)


# One schema id


def framed(run: PartialRun, number: int, schema_id: int) -> list[bytes]:
    return [Encoder(schema_id).encode(event(seed)) for seed in run.seeds(number)]  # type: ignore[arg-type]


def test_a_schema_id_is_unknown_for_a_while(arena: Arena, pipeline: Pipeline) -> None:
    with FakeRegistry() as registry:

        def fault(run: PartialRun) -> None:
            since = time.monotonic()
            run.send_bad_part(framed(run, BAD, 7))
            run.wait_until_said("schema id 7", since)
            run.measure_during()
            registry.answers[7] = OURS

        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = registry.url
        run_partially("a schema id unknown for a while", fault, arena, pipeline)


def test_a_schema_id_is_unknown_for_good(arena: Arena, pipeline: Pipeline) -> None:
    """The registry knows another one, so it is no empty one: the records are letters."""
    with FakeRegistry() as registry:
        registry.answers[1] = OURS

        def fault(run: PartialRun) -> None:
            since = time.monotonic()
            run.send_bad_part(framed(run, BAD, 99), letters=BAD)
            run.wait_until_said("schema id 99", since)
            run.send_bad_part(framed(run, BAD, 1))
            run.measure_during()
            run.wait(lambda: len(run.letters("99")) == BAD, what="they are letters")

        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = registry.url
        run_partially("a schema id unknown for good", fault, arena, pipeline)


# One partition


def test_a_transaction_hangs(arena: Arena, pipeline: Pipeline) -> None:
    """Behind it wait records of others, acknowledged ones; on its partition alone."""

    def fault(run: PartialRun) -> None:
        producer = Producer(
            {"bootstrap.servers": arena.bootstrap, "transactional.id": pipeline.topic,
             "transaction.timeout.ms": 600_000}
        )  # fmt: skip
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(pipeline.topic, b"never committed", partition=0)
        producer.flush(60)
        since = time.monotonic()
        run.send_bad_part([encoded(seed) for seed in run.seeds(BAD)], partition=0)
        run.wait_until_said(
            "behind an open transaction", since, also="partition 0", on_page="gives no record since"
        )
        run.measure_during()
        producer.abort_transaction(60)

    run_partially("a transaction hangs", fault, arena, pipeline, partitions=OTHERS)


def test_a_batch_is_rotten(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: PartialRun) -> None:
        stop(run)
        values = [encoded(seed) for seed in run.seeds(BAD)]
        run.send_bad_part(values, partition=0, **{"linger.ms": 500})
        (path,) = arena.servers.kafka.folder.rglob(f"{pipeline.topic}-0/*.log")
        at, good = rot(path, len(values))
        run.consuming = run.consume()
        since = time.monotonic()
        run.wait_until_said("damaged batch", since, also="partition 0")
        run.measure_during()
        with path.open("r+b") as file:
            file.seek(at)
            file.write(good)

    run_partially(
        "a batch rotten", fault, arena, pipeline, partitions=OTHERS, loaded=OTHERS
    )  # fmt: skip


def rot(path: Path, records: int) -> tuple[int, bytes]:
    """Damage the last batch of a log; return where, and what was there."""
    data = path.read_bytes()
    at = place = 0
    while place + 12 <= len(data) and (length := struct.unpack_from(">i", data, place + 8)[0]) > 0:
        at, place = place, place + 12 + length
    assert struct.unpack_from(">i", data, at + 57)[0] <= records
    middle = at + 61 + (place - at - 61) // 2
    good = data[middle : middle + 8]
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(bytes(byte ^ 0xFF for byte in good))
    return middle, good


# What is bad, where letters go


def test_letters_are_refused(arena: Arena, pipeline: Pipeline) -> None:
    def limit(run: PartialRun, number: int) -> None:
        entry = ConfigEntry(
            "max.message.bytes", str(number), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(
            ResourceType.TOPIC, f"{pipeline.topic}.dlq", incremental_configs=[entry]
        )
        admin = run.admin()
        admin.incremental_alter_configs([resource])[resource].result(30)

    def fault(run: PartialRun) -> None:
        limit(run, 100)
        since = time.monotonic()
        garbage = [f"garbage {seed}".encode() for seed in run.seeds(LONG // 100)]
        run.send_bad_part(garbage, letters=len(garbage))
        run.wait_until_said(f"{pipeline.topic}.dlq", since)
        run.measure_during()
        limit(run, 8 * 1024 * 1024)

    run_partially("1% bad, and letters refused", fault, arena, pipeline)


def test_a_worker_is_killed_again_and_again(
    arena: Arena, new_pipeline: Callable[..., Pipeline]
) -> None:
    """As by a kernel without memory; the other worker takes its partitions."""
    pipeline = new_pipeline()

    def fault(run: PartialRun) -> None:
        run.undisturbed = False
        since = time.monotonic()
        victim = run.worker()
        run.kill(victim)
        psutil.wait_procs([victim], timeout=10)
        run.wait_until_said("signal 9", since, on_page=None)
        run.measure_during()

    run_partially("a worker killed", fault, arena, pipeline)

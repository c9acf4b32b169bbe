"""What stands still, and how `status`, `offsets`, `verify` and `--until-end` say so."""

from __future__ import annotations

import json
import os
import signal

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from support.payloads import encoded, send
from support.pipeline import SLOW, Pipeline, wait_until, workers_of


def bootstrap(pipeline: Pipeline) -> str:
    return pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]


def write(pipeline: Pipeline, seeds: range) -> None:
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in seeds])


def status_of(pipeline: Pipeline) -> tuple[int, dict]:
    done = pipeline.run("status", "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def worker_of(process):
    """Return the process of the first worker of `pipeline consume`."""
    (worker,) = workers_of(process)
    return worker


def commit(
    pipeline: Pipeline, offsets: dict[int, int], metadata: dict[int, str] | None = None
) -> None:
    """Commit offsets of the group, as another tool does."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap(pipeline), "group.id": pipeline.group,
         "enable.auto.commit": False}
    )  # fmt: skip
    notes = metadata or dict.fromkeys(offsets, "")
    places = [TopicPartition(pipeline.topic, p, o, metadata=notes[p]) for p, o in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


@pytest.fixture
def transaction(pipeline: Pipeline) -> Producer:
    """An open transaction with one record on partition 0, and a record of another producer."""
    producer = Producer(
        {"bootstrap.servers": bootstrap(pipeline), "transactional.id": pipeline.topic,
         "transaction.timeout.ms": 600_000}
    )  # fmt: skip
    producer.init_transactions(60 * SLOW)
    write(pipeline, range(20))
    producer.begin_transaction()
    producer.produce(pipeline.topic, b"never committed", partition=0)
    producer.flush()
    other = Producer({"bootstrap.servers": bootstrap(pipeline)})
    for seed in range(100, 105):
        other.produce(pipeline.topic, encoded(seed), partition=0)
    other.flush()
    return producer


def test_what_an_open_transaction_holds_back_is_lag_everywhere(
    pipeline: Pipeline, transaction: Producer
) -> None:
    running = pipeline.start("consume", "--until-end")
    wait_until(lambda: "behind an open transaction" in pipeline.stderr_of(running), 10)
    code, status = wait_until(lambda: (s := status_of(pipeline))[0] == 10 and s, 20)
    assert code == 10
    assert "6 records of partition 0 are behind an open transaction since 20" in status["verdict"]
    assert f"--topic {pipeline.topic} --partition 0" in status["verdict"]
    first = status["partitions"][0]
    assert (first["lag"], first["held_back"]) == (6, 6)
    assert first["log_end"] - first["last_stable"] == 6
    shown = pipeline.run("offsets", "show", "--json").stdout.splitlines()[0]
    assert json.loads(shown)["state"] == first["state"] == "behind an open transaction"
    late = pipeline.run("consume", "--until-end", "--timeout", "6", check=False)
    assert late.returncode == 1
    assert f"{pipeline.topic}/0: 6 records of partition 0 are behind an open" in late.stderr
    assert pipeline.count() == 20
    assert running.poll() is None

    transaction.abort_transaction(60 * SLOW)
    assert running.wait(60 * SLOW) == 0, pipeline.stderr_of(running)
    assert pipeline.count() == 25


@pytest.mark.parametrize("offsets", [{0: 5000}, {0: 0, 1: 0, 2: 0, 3: 77}], ids=["far", "empty"])
def test_an_offset_beyond_the_log_is_no_end(pipeline: Pipeline, offsets: dict[int, int]) -> None:
    """The log was truncated, a cluster was restored, or the offsets are those of another one."""
    if len(offsets) == 1:
        write(pipeline, range(20))
    commit(pipeline, offsets)
    late = pipeline.run("consume", "--until-end", "--timeout", "3", check=False)
    assert late.returncode == 1
    stuck = max(offsets)
    assert f"partition {stuck} is out of range: the log ends before the committed" in late.stderr
    code, status = status_of(pipeline)
    assert (code, status["health"]) == (12, "stuck")
    assert status["verdict"].startswith(f"STUCK: partition {stuck} is out of range: the log ends")


def test_a_worker_that_stands_still_is_named_within_ten_seconds(pipeline: Pipeline) -> None:
    process = pipeline.start("consume")
    wait_until(lambda: status_of(pipeline)[0] == 0, 30)
    # A frozen worker leaves the group when its session ends; until then it has no word.
    worker = worker_of(process)
    worker.send_signal(signal.SIGSTOP)
    try:
        code, status = wait_until(lambda: (s := status_of(pipeline))[0] and s, 10)
        assert (code, status["health"]) in {(11, "unhealthy"), (12, "stopped")}
        if code == 11:
            assert f"no word from {os.uname().nodename}/0, member " in status["verdict"]
    finally:
        worker.send_signal(signal.SIGCONT)
    wait_until(lambda: status_of(pipeline)[0] == 0, 60)


def test_notes_of_other_tools_are_read_and_do_no_harm(pipeline: Pipeline) -> None:
    write(pipeline, range(4))
    foreign = {0: '{"at":"noon","rate":{},"circuit":[1]}', 1: "[" * 3000, 2: '"x"', 3: "€\x01{"}
    commit(pipeline, {0: 0, 1: 0, 2: 0, 3: 0}, foreign)
    assert status_of(pipeline)[0] == 12
    pipeline.run("consume", "--until-end")
    assert pipeline.count() == 4

"""Whether the dashboards are current, and how that is known."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import KafkaError, cimpl
from typer.testing import CliRunner

from llmlog_consumer.checks.status import (
    MAX_CURRENT_AGE_MS,
    MAX_NOTE_AGE_MS,
    PartitionStatus,
    Status,
    Timing,
    read_status,
)
from llmlog_consumer.cli import status as command
from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.local import follow_files
from llmlog_consumer.cli.output import repeat
from support.fakes.checks import SETTINGS, FakeConsumer, FakeKafka

NOW = time.time()


def one_partition(**more) -> FakeKafka:
    """Return a topic of one partition with 900 records, 100 of them settled, and one worker."""
    return FakeKafka({0: (0, 900)}, {0: 100}, **more)


def status_of(kafka: FakeKafka, *messages) -> Status:
    consumer = FakeConsumer(list(messages))
    return read_status(
        SETTINGS,
        kafka,
        kafka,
        timing=Timing(ages_seconds=0.02),
        open_partitions=consumer.open,
        clock=lambda: NOW,
    )


def answer(code=None, age=0.0, partition=0):
    written = (1, int((NOW - age) * 1000))
    if code is None:
        return cimpl.Message(topic="t", partition=partition, offset=100, timestamp=written)
    return cimpl.Message(topic="t", partition=partition, error=KafkaError(code))


END = answer(KafkaError._PARTITION_EOF)


# The age of what waits


@pytest.mark.parametrize("answers", [[], [answer(KafkaError.TOPIC_AUTHORIZATION_FAILED)]])
def test_an_unknown_age_is_not_current(answers):
    status = status_of(one_partition(), *answers)
    assert status.verdict.startswith("BEHIND: 800 records wait, age unknown")
    assert not status.ok
    printed = json.loads(json.dumps(status.as_json()))
    assert printed["behind_ms"] is printed["partitions"][0]["behind_ms"] is None


def test_one_partition_of_unknown_age_makes_the_whole_age_unknown():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9)}, {0: 5, 1: 5})
    status = status_of(kafka, answer(age=1, partition=1))
    assert status.behind_ms is None
    assert status.verdict.startswith("BEHIND: 8 records wait, age unknown")


def test_the_age_is_that_of_the_first_waiting_record():
    assert status_of(one_partition(), answer(age=10), END).verdict.startswith(
        "CURRENT: 800 records wait, the oldest for 10 s"
    )
    late = status_of(one_partition(), answer(age=90), answer(), END)
    assert late.behind_ms >= 90_000
    assert late.verdict.startswith("BEHIND: 800 records wait, the oldest for 90 s")


def test_the_age_is_that_of_the_partition_that_is_furthest_behind():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9)}, {0: 5, 1: 5})
    status = status_of(kafka, answer(age=90), answer(age=1, partition=1))
    assert [p.behind_ms for p in status.partitions] == pytest.approx([90_000, 1_000], abs=2)
    assert status.behind_ms == pytest.approx(90_000, abs=2)


@pytest.mark.parametrize(("age_ms", "ok"), [(MAX_CURRENT_AGE_MS, True), (30_001, False)])
def test_dashboards_are_current_up_to_thirty_seconds(age_ms, ok):
    partition = PartitionStatus(0, 1, 0, 2, 0, "host/0", age_ms)
    assert Status("t", "g", "stable", 1, [partition], 0.0).ok is ok


def test_where_the_log_ends_without_a_record_nothing_waits():
    """Only markers of transactions are there."""
    status = status_of(one_partition(), END)
    assert status.ok
    assert status.behind_ms == 0


def test_a_topic_that_is_settled_is_current_and_is_not_read():
    consumer = FakeConsumer([])
    kafka = FakeKafka({0: (0, 900)}, {0: 900})
    status = read_status(SETTINGS, kafka, kafka, open_partitions=consumer.open)
    assert status.verdict == "CURRENT: nothing waits"
    assert (status.lag, status.behind_ms, consumer.starts) == (0, 0, [])


def test_the_last_record_of_the_log_waits_too():
    status = status_of(FakeKafka({0: (0, 900)}, {0: 899}), answer(age=90))
    assert status.verdict.startswith("BEHIND: 1 records wait, the oldest for 90 s")


# Where the group stands


def test_a_partition_without_a_committed_offset_waits_from_its_start():
    """Nothing is known to be settled there: it may not count as current."""
    consumer = FakeConsumer([answer(age=90)])
    kafka = FakeKafka({0: (40, 900)})
    status = read_status(SETTINGS, kafka, kafka, open_partitions=consumer.open, clock=lambda: NOW)
    assert consumer.starts == [{0: 40}]
    assert (status.lag, status.partitions[0].committed) == (860, None)
    assert status.verdict.startswith("BEHIND: 860 records wait, the oldest for 90 s")


@pytest.mark.parametrize("log", [(200, 900), (0, 50)])
def test_a_group_outside_of_the_log_is_stuck(log):
    """Retention deleted its next record, or the topic was recreated."""
    status = status_of(FakeKafka({0: log}, {0: 100}), answer())
    assert status.verdict.startswith("STUCK: partition 0 is out of range")
    assert status.partitions[0].out_of_range
    assert not status.ok


@pytest.mark.parametrize("committed", [0, 900])
def test_a_group_at_either_end_of_the_log_is_not_stuck(committed):
    status = status_of(FakeKafka({0: (0, 900)}, {0: committed}), answer())
    assert not status.partitions[0].out_of_range


def test_a_group_without_members_is_stopped_even_when_nothing_waits():
    kafka = FakeKafka({0: (0, 900)}, {0: 900}, member_count=0)
    status = status_of(kafka)
    assert status.verdict == "STOPPED: no worker runs, nothing waits"
    assert not status.ok


# The notes of workers


def note(age_ms: float = 0, **fields):
    return {"at": NOW * 1000 - age_ms, "worker": "host/0", "rate": 50.0, "in_flight": 7, **fields}


def test_a_worker_that_reports_a_problem_makes_the_group_unhealthy():
    problem = "Elasticsearch refuses: 401"
    status = status_of(one_partition(notes={0: note(unhealthy=problem)}), answer())
    assert status.verdict.startswith("UNHEALTHY, 800 records wait")
    assert status.verdict.endswith(problem)
    assert not status.ok


def test_a_problem_that_two_workers_report_is_shown_once():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9)}, {0: 9, 1: 9})
    kafka.notes = {0: note(unhealthy="x"), 1: note(worker="host/1", unhealthy="x")}
    assert status_of(kafka).unhealthy == ["x"]


def test_problems_are_named_in_the_order_of_partitions_however_the_broker_answers():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9)}, {1: 9, 0: 9})
    kafka.notes = {1: note(unhealthy="second"), 0: note(unhealthy="first")}
    assert status_of(kafka).unhealthy == ["first", "second"]


@pytest.mark.parametrize(("age_ms", "counts"), [(0, True), (MAX_NOTE_AGE_MS + 1, False)])
def test_an_old_note_says_nothing_about_now(age_ms, counts):
    kafka = one_partition(notes={0: note(age_ms, unhealthy="x")})
    (partition,) = status_of(kafka, answer()).partitions
    assert partition.in_flight == (7 if counts else None)
    assert partition.worker == ("host/0" if counts else "")
    status = status_of(kafka, answer())
    assert status.unhealthy == (["x"] if counts else [])
    assert (status.rate, status.in_flight) == ((50.0, 7) if counts else (0.0, 0))


def test_the_rate_of_a_worker_with_two_partitions_counts_once():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9), 2: (0, 9)}, {0: 9, 1: 9, 2: 9})
    kafka.notes = {0: note(), 1: note(), 2: note(worker="host/1", rate=5.0)}
    status = status_of(kafka)
    assert (status.rate, status.in_flight) == (55.0, 21)


@pytest.mark.parametrize(("log", "letters"), [(None, None), ((3, 10), 7)])
def test_dead_letters_on_their_topic_are_counted(log, letters):
    assert status_of(one_partition(dead_letter_log=log), answer()).letters == letters


# Ctrl-C


def test_ctrl_c_ends_what_goes_on_until_then_as_any_other_command(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_status", interrupted)
    assert CliRunner().invoke(app, ["status", "--watch"]).exit_code == 130
    log = tmp_path / "log"
    log.touch()
    for go_on in (
        lambda: repeat(lambda: True, 2.0, sleep=interrupted),
        lambda: follow_files([log], sleep=interrupted),
    ):
        with pytest.raises(KeyboardInterrupt):
            go_on()


def test_a_step_is_repeated_until_it_is_the_last_one():
    steps, pauses = [True, True, False], []
    repeat(lambda: steps.pop(0), 2.0, sleep=pauses.append)
    assert (steps, pauses) == ([], [2.0, 2.0])

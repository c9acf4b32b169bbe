"""Whether the dashboards are current, and how that is known."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest
from confluent_kafka import KafkaError, cimpl
from typer.testing import CliRunner

from llmlog_common.errors import KafkaUnreachable
from llmlog_consumer.checks.status import MAX_CURRENT_AGE_MS, Health, PartitionStatus, Status
from llmlog_consumer.checks.status_reader import Timing, read_status
from llmlog_consumer.cli import status as command
from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.local import follow_files
from llmlog_consumer.cli.output import repeat, write_json
from llmlog_consumer.kafka.admin import Member
from llmlog_consumer.kafka.committed import parse_note
from llmlog_consumer.kafka.places import Log, Place, PlaceState, classify
from support.fakes.checks import SETTINGS, FakeConsumer, FakeKafka
from support.fakes.service import Clock

NOW = time.time()


def note(age_ms: float = 0, **fields):
    return {"at": NOW * 1000 - age_ms, "worker": "host/0", "rate": 50.0, "in_flight": 7, **fields}


def one_partition(**more) -> FakeKafka:
    """Return a topic of one partition with 900 records, 100 of them settled, and one worker."""
    more.setdefault("notes", {0: note()})
    return FakeKafka({0: (0, 900)}, {0: 100}, **more)


def two_partitions(settled: int, **more) -> FakeKafka:
    """Return a topic of two partitions with nine records each, and one worker."""
    more.setdefault("notes", {0: note(), 1: note()})
    return FakeKafka({0: (0, 9), 1: (0, 9)}, {0: settled, 1: settled}, **more)


def status_of(kafka: FakeKafka, *messages) -> Status:
    consumer = FakeConsumer(list(messages))
    return read_status(
        SETTINGS,
        kafka,
        kafka,
        timing=Timing(ages=0.02),
        open_partitions=consumer.open,
        clock=lambda: NOW,
        sleep=lambda _: None,
    )


def answer(code=None, age=0.0, partition=0, offset=100):
    written = (1, int((NOW - age) * 1000))
    if code is None:
        return cimpl.Message(topic="t", partition=partition, offset=offset, timestamp=written)
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
    kafka = two_partitions(5)
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
    kafka = two_partitions(5)
    status = status_of(kafka, answer(age=90), answer(age=1, partition=1))
    assert [p.behind_ms for p in status.partitions] == pytest.approx([90_000, 1_000], abs=2)
    assert status.behind_ms == pytest.approx(90_000, abs=2)


@pytest.mark.parametrize(("age_ms", "ok"), [(MAX_CURRENT_AGE_MS, True), (30_001, False)])
def test_dashboards_are_current_up_to_thirty_seconds(age_ms, ok):
    partition = PartitionStatus(Place("t", 0, 1, Log(0, 2, 2)), 0, "host/0", age_ms)
    status = Status("t", "g", "stable", 1, [partition])
    assert status.ok is ok
    assert status.health.exit_code == (0 if ok else 10)


def test_where_the_log_ends_without_a_record_nothing_waits():
    """Only markers of transactions are there."""
    status = status_of(one_partition(), END)
    assert status.ok
    assert status.behind_ms == 0


def test_a_topic_that_is_settled_is_current_and_is_not_read():
    consumer = FakeConsumer([])
    kafka = FakeKafka({0: (0, 900)}, {0: 900}, notes={0: note()})
    status = read_status(SETTINGS, kafka, kafka, open_partitions=consumer.open, clock=lambda: NOW)
    assert status.verdict == "CURRENT: nothing waits"
    assert (status.lag, status.behind_ms, consumer.starts) == (0, 0, [])


def test_the_last_record_of_the_log_waits_too():
    status = status_of(FakeKafka({0: (0, 900)}, {0: 899}, notes={0: note()}), answer(age=90))
    assert status.verdict.startswith("BEHIND: 1 records wait, the oldest for 90 s")


# Where the group stands


def test_a_partition_without_a_committed_offset_waits_from_its_start():
    """Nothing is known to be settled there: it may not count as current."""
    consumer = FakeConsumer([answer(age=90)])
    kafka = FakeKafka({0: (40, 900)}, group_members=(Member("m", "h", frozenset()),))
    kafka.group_state = "preparing_rebalance"
    status = read_status(SETTINGS, kafka, kafka, open_partitions=consumer.open, clock=lambda: NOW)
    assert consumer.starts == [{0: 40}]
    assert (status.lag, status.partitions[0].place.committed) == (860, None)
    assert status.verdict.startswith("BEHIND: 860 records wait, the oldest for 90 s")


@pytest.mark.parametrize("log", [(200, 900), (0, 50)])
def test_a_group_outside_of_the_log_is_stuck(log):
    """Retention deleted its next record, or the topic was recreated."""
    status = status_of(FakeKafka({0: log}, {0: 100}, notes={0: note()}), answer())
    assert status.verdict.startswith("STUCK: partition 0 is out of range")
    assert status.partitions[0].as_json()["out_of_range"]
    assert not status.ok
    assert status.health.exit_code == 12


@pytest.mark.parametrize("committed", [0, 900])
def test_a_group_at_either_end_of_the_log_is_not_stuck(committed):
    status = status_of(FakeKafka({0: (0, 900)}, {0: committed}, notes={0: note()}), answer())
    assert status.ok


def test_a_group_without_members_is_stopped_even_when_nothing_waits():
    kafka = FakeKafka({0: (0, 900)}, {0: 900}, member_count=0)
    status = status_of(kafka)
    assert status.verdict == "STOPPED: no worker runs, nothing waits"
    assert not status.ok
    assert status.health.exit_code == 12


# The notes of workers


def test_a_worker_that_reports_a_problem_makes_the_group_unhealthy():
    problem = "Elasticsearch refuses: 401"
    status = status_of(one_partition(notes={0: note(unhealthy=problem)}), answer())
    assert status.verdict.startswith("UNHEALTHY, 800 records wait")
    assert status.verdict.endswith(problem)
    assert not status.ok
    assert status.health.exit_code == 11


def test_a_problem_that_two_workers_report_is_shown_once():
    kafka = two_partitions(9)
    kafka.notes = {0: note(unhealthy="x"), 1: note(worker="host/1", unhealthy="x")}
    assert status_of(kafka).unhealthy == ["x"]


def test_problems_are_named_in_the_order_of_partitions_however_the_broker_answers():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9)}, {1: 9, 0: 9})
    kafka.notes = {1: note(unhealthy="second"), 0: note(unhealthy="first")}
    assert status_of(kafka).unhealthy == ["first", "second"]


@pytest.mark.parametrize(("age_ms", "counts"), [(0, True), (4_500, True), (4_501, False)])
def test_an_old_note_that_stays_as_it_is_says_nothing_about_now(age_ms, counts):
    status = status_of(one_partition(notes={0: note(age_ms, unhealthy="x")}), answer())
    (partition,) = status.partitions
    assert partition.in_flight == (7 if counts else None)
    assert partition.worker == ("host/0" if counts else "")
    assert status.unhealthy[0] == "x" if counts else status.unhealthy[0].endswith("last word: x")
    assert (status.rate, status.in_flight) == ((50.0, 7) if counts else (0.0, 0))


def test_a_member_whose_notes_stand_still_is_named_with_its_partitions():
    """Kafka refuses its commits, or it is frozen: nothing that stands looks healthy."""
    kafka = one_partition(notes={0: note(42_000)})
    status = status_of(kafka, answer())
    assert status.health is Health.UNHEALTHY
    assert status.verdict.startswith(
        "UNHEALTHY, 800 records wait, the oldest for 0 s: no word from host/0, member member-0 on "
        "127.0.0.1 for 42 s (partition 0): "
    )


@pytest.mark.parametrize("days", [-2, 2])
def test_a_worker_whose_clock_is_days_off_is_heard_by_what_it_changes(days):
    kafka = one_partition(notes={0: note(days * 86_400_000)}, changing=True)
    status = status_of(kafka, answer())
    assert (status.unhealthy, status.partitions[0].worker) == ([], "host/0")
    still = status_of(one_partition(notes={0: note(days * 86_400_000)}), answer())
    since = "for 172800 s" if days > 0 else "for 4 s at least"
    assert since in still.unhealthy[0]


def test_a_worker_that_commits_without_a_note_is_heard():
    kafka = one_partition(notes={}, later_offsets=[{0: 100}, {0: 101}])
    assert status_of(kafka, answer()).unhealthy == []


def test_a_silent_member_is_named_beside_one_that_works():
    kafka = two_partitions(9, notes={0: note(), 1: note(60_000, worker="host/1")})
    kafka.group_members = (Member("a", "h1", frozenset({0})), Member("b", "h2", frozenset({1})))
    (silent,) = status_of(kafka).unhealthy
    assert silent.startswith("no word from host/1, member b on h2 for 60 s (partition 1)")


def test_a_member_without_partitions_writes_no_note_and_is_not_silent():
    kafka = one_partition(member_count=2)
    assert status_of(kafka, answer()).ok


def test_a_group_that_rebalances_has_no_silent_members():
    kafka = one_partition(notes={}, group_state="preparing_rebalance")
    assert status_of(kafka, answer()).unhealthy == []


def test_a_partition_with_records_that_no_member_has_is_named():
    kafka = two_partitions(5, group_members=(Member("a", "h", frozenset({0})),))
    status = status_of(kafka, answer(), answer(partition=1))
    assert status.unhealthy == ["no worker has partition 1, where 4 records wait"]
    assert status_of(two_partitions(9, group_members=(Member("a", "h", frozenset({0})),))).ok


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"at": "yesterday", "worker": 7, "rate": "fast", "in_flight": [1], "unhealthy": {"a": 1}},
        {"at": None, "rate": True},
        {"at": {"deep": [[]]}, "unhealthy": 3},
        {"unhealthy": "x" * 100_000, "worker": "y" * 100_000},
    ],
)
def test_notes_of_other_tools_are_no_words(foreign):
    status = status_of(one_partition(notes={0: parse_note(json.dumps(foreign))}), answer())
    assert status.health is Health.UNHEALTHY
    assert "no word from" in status.unhealthy[-1]
    assert len(status.verdict) < 2_000


# Open transactions


def held_back(committed: int, **more) -> FakeKafka:
    """Return a log of 900 offsets of which an open transaction holds back the last 200."""
    more.setdefault("notes", {0: note()})
    return FakeKafka({0: (0, 900)}, {0: committed}, stable_ends={0: 700}, **more)


def test_what_an_open_transaction_holds_back_is_lag_with_the_reason():
    consumer = FakeConsumer([answer(age=90, offset=700)])
    status = read_status(
        SETTINGS,
        kafka := held_back(700),
        kafka,
        timing=Timing(ages=0.02),
        open_partitions=consumer.open,
        clock=lambda: NOW,
    )
    assert (consumer.starts, consumer.uncommitted) == ([{0: 700}], [True])
    assert (status.lag, status.health) == (200, Health.BEHIND)
    assert status.verdict.startswith(
        "BEHIND, 200 records wait, the oldest for 90 s: 200 records of partition 0 are behind an "
        "open transaction since 20"
    )
    assert "--topic litellm-logs --partition 0 --start-offset 700" in status.verdict
    row = status.as_json()["partitions"][0]
    assert (row["state"], row["log_end"], row["last_stable"], row["held_back"]) == (
        "behind an open transaction", 900, 700, 200,
    )  # fmt: skip
    assert row["held_back_since"].endswith("+00:00")


def test_a_transaction_at_work_is_current():
    status = status_of(held_back(700), answer(age=4, offset=700))
    assert status.verdict == "CURRENT: 200 records wait, the oldest for 4 s"


@pytest.mark.parametrize("answers", [[answer(age=6, offset=700)], []])
def test_a_transaction_that_hangs_is_behind_long_before_its_records_are_old(answers):
    status = status_of(held_back(700), *answers)
    assert status.health is Health.BEHIND
    assert "behind an open transaction" in status.verdict


def test_the_age_before_a_transaction_is_that_of_what_can_be_read():
    consumer = FakeConsumer([])
    answers = [[answer(age=40, offset=700)], [answer(age=70, offset=650)]]
    consumer.consume = lambda *_: answers.pop(0) if answers else []
    status = read_status(
        SETTINGS, kafka := held_back(650), kafka, timing=Timing(ages=0.02),
        open_partitions=consumer.open, clock=lambda: NOW,
    )  # fmt: skip
    assert status.behind_ms == pytest.approx(70_000, abs=2)
    assert status.partitions[0].held_back_since_ms == int((NOW - 40) * 1000)


# Several problems, and partitions that no broker leads


def test_the_verdict_names_the_worst_problem_and_how_many_more_there_are():
    kafka = FakeKafka({0: (200, 900), 1: (0, 9)}, {0: 100, 1: 9})
    kafka.notes = {0: note(unhealthy="x"), 1: note(worker="host/1", unhealthy="y")}
    status = status_of(kafka, answer(age=90))
    assert status.verdict.startswith("STUCK: partition 0 is out of range: retention has deleted")
    assert status.verdict.endswith("(and 3 more)")
    assert [p.health.word for p in status.problems] == ["STUCK", "UNHEALTHY", "UNHEALTHY", "BEHIND"]
    assert status.as_json()["problems"] == [p.text for p in status.problems]
    assert status.as_json()["health"] == "stuck"


def test_a_partition_without_a_leader_is_unhealthy_and_the_others_are_shown():
    kafka = two_partitions(5, leaderless=frozenset({1}))
    status = status_of(kafka, answer(age=1))
    assert status.health is Health.UNHEALTHY
    assert "partition 1 has no leader that answers" in status.verdict
    assert [p.behind_ms for p in status.partitions] == [pytest.approx(1000, abs=2), None]
    assert status.partitions[1].as_json()["log_end"] is None


@pytest.mark.parametrize(
    ("committed", "log", "state"),
    [
        (None, None, PlaceState.NO_LEADER),
        (5, None, PlaceState.NO_LEADER),
        (None, Log(10, 90, 90), PlaceState.NOT_BEGUN),
        (9, Log(10, 90, 90), PlaceState.DELETED),
        (10, Log(10, 90, 90), PlaceState.BEHIND),
        (89, Log(10, 90, 95), PlaceState.BEHIND),
        (90, Log(10, 90, 95), PlaceState.TRANSACTION),
        (94, Log(10, 90, 95), PlaceState.TRANSACTION),
        (90, Log(10, 90, 90), PlaceState.CURRENT),
        (91, Log(10, 90, 90), PlaceState.BEYOND),
        (0, Log(0, 0, 0), PlaceState.CURRENT),
    ],
)
def test_one_function_says_where_the_group_stands(committed, log, state):
    assert classify(committed, log) is state


@pytest.mark.parametrize(
    ("committed", "end", "settled"),
    [(90, 90, True), (89, 90, False), (91, 90, False), (9, 5, False), (None, 0, True),
     (None, 5, False), (90, 80, True)],
)  # fmt: skip
def test_only_what_the_log_has_counts_as_settled(committed, end, settled):
    assert (
        Place("t", 0, committed, Log(10 if committed else 0, 90, 90)).is_settled_to(end) is settled
    )
    assert not Place("t", 0, committed, None).is_settled_to(end)


# What `--until-end` waits for


def test_what_is_waited_for_names_the_partitions_and_the_reason():
    status = status_of(held_back(700), answer(age=5, offset=700))
    assert status.waits_for({0: 900}).startswith(
        "litellm-logs/0: 200 records of partition 0 are behind an open transaction since"
    )
    assert status.waits_for({0: 700}) == "the workers' last commits"
    slow = status_of(one_partition(), answer(age=5))
    assert slow.waits_for({0: 900}) == "litellm-logs/0: 800 records are not settled yet"
    assert slow.waits_for({0: None}).startswith("litellm-logs/0: ")
    stuck = status_of(FakeKafka({0: (0, 40)}, {0: 5000}, notes={0: note()}))
    assert "the log ends before the committed offset" in stuck.waits_for({0: 40})
    held = status_of(one_partition(notes={0: note(unhealthy="index x is closed")}), answer(age=90))
    assert held.waits_for({0: 900}) == "litellm-logs/0: index x is closed"


def test_the_rate_of_a_worker_with_two_partitions_counts_once():
    kafka = FakeKafka({0: (0, 9), 1: (0, 9), 2: (0, 9)}, {0: 9, 1: 9, 2: 9})
    kafka.notes = {0: note(), 1: note(), 2: note(worker="host/1", rate=5.0)}
    status = status_of(kafka)
    assert (status.rate, status.in_flight) == (55.0, 21)


@pytest.mark.parametrize(("log", "letters"), [(None, None), ((3, 10), 7)])
def test_dead_letters_on_their_topic_are_counted(log, letters):
    assert status_of(one_partition(dead_letter_log=log), answer()).letters == letters


# The command


@pytest.mark.parametrize(
    ("kafka", "code"),
    [
        (FakeKafka({0: (0, 9)}, {0: 9}, member_count=0), 12),
        (FakeKafka({0: (0, 9)}, {0: 99}, member_count=1), 12),
        (FakeKafka({0: (0, 9)}, {0: 9}, notes={0: note(unhealthy="x")}), 11),
        (FakeKafka({0: (0, 9)}, {0: 9}, notes={0: note()}), 0),
    ],
)
def test_the_exit_code_says_how_the_group_is(kafka, code, monkeypatch):
    monkeypatch.setattr(command, "read_status", lambda *_: status_of(kafka))
    for arguments in (["status"], ["status", "--json"]):
        assert CliRunner().invoke(app, arguments).exit_code == code


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


def test_a_watch_outlasts_brokers_that_do_not_answer(monkeypatch):
    answers = [KafkaUnreachable("no broker answers"), KafkaUnreachable("still none")]

    def read(*_):
        raise answers.pop(0) if answers else KeyboardInterrupt

    monkeypatch.setattr(command, "read_status", read)
    monkeypatch.setattr(command, "repeat", lambda step, _: repeat(step, 0.0, sleep=lambda _: None))
    done = CliRunner().invoke(app, ["status", "--watch"])
    assert done.exit_code == 130
    assert "no broker answers" in done.output
    assert "still none" in done.output


def test_a_step_is_repeated_each_two_seconds_and_at_once_behind_a_slow_one():
    steps, pauses, clock = [0.0, 0.5, 7.0, None], [], Clock()

    def step():
        seconds = steps.pop(0)
        clock.now += seconds or 0.0
        return seconds is not None

    repeat(step, 2.0, sleep=pauses.append, clock=clock)
    assert (steps, pauses) == ([], [2.0, 1.5, 0.0]), (
        "each two seconds, and at once behind a slow one"
    )


def test_what_a_step_has_written_is_seen_at_once_through_a_pipe_as_well(monkeypatch):
    pipe, seen, steps = io.BytesIO(), [], [True, False]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="utf-8"))

    def step():
        write_json({"lag": 0})
        return steps.pop(0)

    repeat(step, 2.0, sleep=lambda _: seen.append(pipe.getvalue()))
    assert seen == [b'{"lag":0}\n']

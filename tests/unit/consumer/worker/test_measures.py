"""What a worker tells the metrics: its counts balance, and its gauges are those of the moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.kafka.watch.standstill import Flaw
from llmlog_consumer.metric_list import EVENT_TO_INDEXED, PausedKind
from llmlog_consumer.outcomes import Outcome
from support.fakes.delivery import FakeRecord
from support.fakes.worker import WorkerRig

ACTIONS = st.one_of(
    st.tuples(st.just("consume"), st.integers(0, 2), st.integers(1, 40)),
    st.tuples(st.just("settle"), st.sampled_from(list(Outcome)), st.integers(1, 40)),
    st.tuples(st.sampled_from(["assign", "revoke", "lose"]), st.integers(0, 2), st.just(0)),
)


class Rig(WorkerRig):
    """A worker whose delivery settles records one by one, as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self._offsets = [0, 0, 0]
        self._open = []

    def consume(self, partition, number, written_ms=0):
        first = self._offsets[partition]
        self._offsets[partition] += number
        self.consumer.chunks.append(
            [
                FakeRecord(first + n, b"x", partition, written_ms=written_ms and written_ms + n)
                for n in range(number)
            ]
        )

    def take_open(self):
        for span, records in self.delivery.accepted:
            self._open += [(span, len(record)) for record in records]
        self.delivery.accepted = []

    def settle(self, outcome, number):
        self.take_open()
        settled, self._open = self._open[:number], self._open[number:]
        for span, size in settled:
            self.delivery._settle(span, outcome, 1, size)

    def balance(self):
        """Return the records consumed, and all that they have become."""
        report = self.worker.report()
        rest = sum(report.get(name, 0) for name in (*Outcome, "released", "in_flight"))
        return report.get("consumed", 0), rest


@given(st.lists(ACTIONS, max_size=25))
def test_consumed_is_outcomes_and_released_and_in_flight_at_any_moment(actions):
    rig = Rig()
    assigned = set()

    def act(turn):
        consumed, rest = rig.balance()
        assert consumed == rest
        if turn >= len(actions):
            return
        action, what, number = actions[turn]
        if action == "consume":
            rig.consume(what, number)
        elif action == "settle":
            rig.settle(what, number)
        elif action == "assign":
            if what not in assigned:  # Kafka gives no partition that the member has
                rig.worker.on_assigned({what: rig._offsets[what]}, {})
                assigned.add(what)
        else:
            assigned.discard(what)
            (rig.worker.on_lost if action == "lose" else rig.worker.on_revoked)([what])

    rig.run(len(actions) + 1, act)
    consumed, rest = rig.balance()
    assert consumed == rest


def test_records_of_a_partition_that_is_assigned_again_are_released():
    rig = Rig()
    rig.worker.on_assigned({0: 0}, {})
    rig.consume(0, 3)
    rig.run(1)
    rig.worker.on_assigned({0: 0}, {})
    assert rig.balance() == (3, 3)
    assert rig.worker.counts["released"] == 3


def latencies(rig):
    report = rig.worker.report()
    return dict(EVENT_TO_INDEXED.buckets(report)), EVENT_TO_INDEXED.sum(report)


def test_the_time_from_kafka_to_the_document_counts_each_record_of_a_span():
    rig = Rig()
    now_ms = round(rig.wall_clock.now * 1000)
    rig.consumer.assign = {0: 0}
    rig.consume(0, 4, now_ms - 2003)
    rig.delivery.settles = True
    rig.run(2)
    buckets, total = latencies(rig)
    assert (buckets["1.0"], buckets["2.5"], buckets["+Inf"]) == (0, 4, 4)
    assert total == pytest.approx(4 * 2.0015, abs=0.001)


@pytest.mark.parametrize("outcome", [Outcome.DUPLICATE, Outcome.DEAD, Outcome.DROPPED])
def test_the_time_of_a_record_without_a_new_document_does_not_count(outcome):
    rig = Rig()
    rig.consumer.assign = {0: 0}
    rig.consume(0, 4, 1000)
    rig.run(3, lambda turn: rig.settle(outcome, 4) if turn == 2 else None)
    assert latencies(rig) == (dict.fromkeys(latencies(rig)[0], 0), 0)


def test_a_record_without_a_timestamp_and_one_of_the_future_are_no_negative_time():
    rig = Rig()
    rig.consumer.assign = {0: 0}
    rig.consume(0, 1)
    rig.consume(0, 2, round(rig.wall_clock.now * 1000) + 60_000)
    rig.delivery.settles = True
    rig.run(3)
    buckets, total = latencies(rig)
    assert buckets["0.1"] == buckets["+Inf"] == 2
    assert total == 0


def test_a_report_has_the_gauges_of_its_moment():
    rig = Rig()
    reports = []
    rig.delivery.gauges = {"pending_letters": 3}
    rig.delivery.paused_scopes = {PausedKind.INDEX: 2}
    rig.consumer.assign = {0: 0, 1: 0}
    rig.consume(0, 5)
    rig.run(3, lambda _: reports.append(rig.worker.report()))
    before, *_, last = reports
    assert before["gauges"]["assigned_partitions"] == before["gauges"]["commit_age_seconds"] == 0
    gauges = last["gauges"]
    assert gauges["assigned_partitions"] == 2
    assert gauges["pending_letters"] == 3
    assert gauges["in_flight_bytes"] > 5
    assert gauges["oldest_unsettled_seconds"] > 0
    assert gauges["commit_age_seconds"] > 0
    assert last["partitions"] == (0, 1)
    assert last["paused"] == {PausedKind.INDEX: 2, PausedKind.PARTITION: 0}


def test_a_partition_that_stands_still_is_a_paused_scope():
    rig = Rig()
    rig.consumer.standstills.record(1, Flaw.GONE, 5, "gone")
    assert rig.worker.report()["paused"][PausedKind.PARTITION] == 1


def test_a_worker_that_has_not_joined_says_so_and_idle_time_ends_with_an_outcome():
    rig = Rig()
    rig.consumer.joined = False
    assert rig.worker.report()["partitions"] is None
    rig.clock.now += 50
    assert rig.worker.report()["idle_seconds"] == 50
    rig.worker.on_assigned({0: 0}, {})
    rig.consume(0, 1)
    rig.delivery.settles = True
    rig.run(2)
    assert rig.worker.report()["idle_seconds"] < 2

"""The look at partitions that give neither a record nor an error."""

import threading
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from llmlog_consumer.kafka.watch.partition_watch import PartitionWatch, WatchTiming
from support.fakes.service import Clock


class Rig:
    """A watch of one topic, whose metadata and log ends a test sets."""

    def __init__(self):
        self.clock = Clock()
        self.leaders = {0: 1, 1: 1}
        self.error = None
        self.answers = True
        self.log_ends = {}
        self.asked = 0
        timing = WatchTiming(silent_seconds=7.0, silent_polls=3)
        self.watch = PartitionWatch(
            "t", self.ask, lambda p: self.log_ends.get(p, -1001), timing, self.clock
        )

    def ask(self, topic, seconds):
        self.asked += 1
        self.seconds, self.thread = seconds, threading.current_thread()
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        partitions = {p: SimpleNamespace(leader=leader) for p, leader in self.leaders.items()}
        return SimpleNamespace(
            topics={topic: SimpleNamespace(error=self.error, partitions=partitions)}
        )

    def check(self, *, seconds=0.0, polls=0, **expected):
        self.clock.now += seconds
        for _ in range(polls):
            self.watch.record_empty_poll()
        idle = {int(name[1:]): offset for name, offset in expected.items()}
        self.watch.check(frozenset({0, 1}), idle)
        return self.watch.describe()


@pytest.fixture
def rig():
    return Rig()


def test_a_partition_without_a_leader_is_named_until_it_has_one(rig):
    rig.leaders[1] = -1
    rig.check()
    rig.watch.look()
    assert "partition 1 of t has no leader" in rig.watch.describe()
    rig.leaders[1] = 2
    rig.watch.look()
    assert rig.watch.describe() == ""


def test_a_partition_of_another_member_without_a_leader_is_not_ours_to_name(rig):
    rig.leaders = {0: 1, 1: 1, 2: -1}
    rig.check()
    rig.watch.look()
    assert rig.watch.describe() == ""


def test_a_topic_that_is_refused_is_named_with_what_to_do(rig):
    rig.error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    rig.watch.look()
    assert "run `pipeline setup`" in rig.watch.describe()


def test_a_topic_that_elects_its_leaders_is_not_refused(rig):
    rig.error = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    rig.watch.look()
    assert rig.watch.describe() == ""


def test_brokers_that_do_not_answer_twice_are_named_with_the_clients_reason(rig):
    rig.answers = False
    rig.watch.record_trouble("Connection refused")
    rig.watch.look()
    assert rig.watch.describe() == ""
    rig.watch.look()
    assert rig.watch.describe() == "Kafka does not answer: Connection refused"
    rig.answers = True
    rig.watch.look()
    assert rig.watch.describe() == ""


def test_after_trouble_with_a_connection_each_check_asks_for_a_while(rig):
    """A broker may be gone: its partitions get another leader, or none."""

    def asks(seconds):
        before = rig.asked
        rig.check(seconds=seconds)
        for thread in [
            t for t in threading.enumerate() if t.daemon and t.name == "llmlog-metadata"
        ]:
            thread.join(5)
        return rig.asked > before

    assert asks(0.0), "the first"
    assert not asks(1.0)
    rig.watch.record_trouble("Connection refused")
    assert [asks(1.0), asks(6.0), asks(7.9)] == [True] * 3
    assert [asks(1.0), asks(1.0), asks(1.0)] == [False, False, True], "each three seconds again"


def test_the_client_is_not_asked_once_it_is_closed(rig):
    with rig.watch.lock:
        rig.watch.close()
    rig.watch.look()
    assert rig.asked == 0


def test_a_partition_whose_log_goes_on_and_that_gives_nothing_is_named(rig):
    rig.log_ends = {0: 225, 1: 8}
    assert rig.check(polls=1, p0=200, p1=8) == ""
    assert rig.check(seconds=6.9, polls=5, p0=200, p1=8) == ""
    text = rig.check(seconds=0.1, p0=200, p1=8)
    assert "partition 0 gives no record since offset 200, although its log goes on to 225" in text
    assert "partition 1" not in text
    assert rig.check(seconds=1.0, p0=201, p1=8) == "", "a record came"


def test_a_partition_whose_turn_does_not_come_is_not_silent(rig):
    """The client gives other records without a pause: this one may still be in its queue."""
    rig.log_ends = {0: 225}
    rig.check(p0=200)
    assert rig.check(seconds=100.0, polls=2, p0=200) == ""


def test_a_partition_that_is_paused_meanwhile_is_not_silent(rig):
    rig.log_ends = {0: 225}
    rig.check(polls=1, p0=200)
    rig.check(seconds=5.0, polls=9)
    assert rig.check(seconds=5.0, polls=1, p0=200) == ""


def test_a_broker_of_the_number_0_is_a_leader(rig):
    rig.leaders = {0: 0, 1: 0}
    rig.check()
    rig.watch.look()
    assert rig.watch.describe() == ""


def test_partitions_without_a_leader_and_silent_ones_are_all_named_with_what_to_do(rig):
    rig.leaders = {0: -1, 1: -1, 2: 1}
    rig.log_ends = {2: 9}
    rig.clock.now = 100.0
    rig.watch.check(frozenset({0, 1, 2}), {2: 5})
    rig.watch.look()
    rig.check(seconds=7.0, polls=3)
    rig.watch.check(frozenset({0, 1, 2}), {2: 5})
    lost = "partition 0, 1 of t has no leader: start the brokers that have its replicas"
    assert rig.watch.describe() == lost, "it was paused meanwhile: its silence begins anew"
    for _ in range(3):
        rig.watch.record_empty_poll()
    rig.clock.now += 7.0
    assert rig.watch.describe() == (
        f"{lost}; partition 2 gives no record since offset 5, although its log goes on to 9: "
        "an open transaction, or a damaged batch on its broker"
    )


def test_polls_before_a_partition_fell_silent_do_not_count(rig):
    rig.log_ends = {0: 225}
    rig.check(polls=10, p0=200)
    assert rig.check(seconds=100.0, polls=2, p0=200) == ""
    assert "partition 0" in rig.check(polls=1, p0=200)


def test_brokers_that_give_no_reason_have_timed_out(rig):
    rig.answers = False
    rig.watch.look()
    rig.watch.look()
    assert rig.watch.describe() == "Kafka does not answer: the request timed out"


def test_a_look_runs_in_a_thread_that_no_exit_waits_for_and_waits_two_seconds_at_most(rig):
    rig.clock.now = 0.0
    rig.check()
    for thread in threading.enumerate():
        if thread.name == "llmlog-metadata":
            thread.join(5)
    assert (rig.seconds, rig.thread.name, rig.thread.daemon) == (2.0, "llmlog-metadata", True)

"""Partitions that stand still: each for a cause of its own, and until that ends."""

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmlog_consumer.kafka.watch.standstill import Flaw, Standstills
from support.fakes.service import Clock

PARTITIONS = st.integers(0, 2)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def still(clock):
    return Standstills("topic", 60.0, clock)


def test_what_follows_a_damaged_batch_changes_nothing(still):
    """The client takes the bytes of the batch for an offset, and then finds no such offset."""
    assert still.record(0, Flaw.DAMAGED, 200, "CRC")
    assert not still.record(0, Flaw.DAMAGED, 3618986586872898926, "magic")
    assert not still.record(0, Flaw.GONE, 3618986586872898927, "out of range")
    assert "offset 200: the broker hands out a damaged batch (CRC)" in still.describe()


def test_a_batch_that_retention_deleted_meanwhile_is_gone_and_no_more_damaged(still, clock):
    still.record(0, Flaw.DAMAGED, 200, "CRC")
    still.probe(0)
    assert still.record(0, Flaw.GONE, 200, "out of range")
    clock.now += 1e9
    assert still.due() == []
    assert "damaged" not in still.describe()


def test_every_partition_is_named_with_a_cause_of_its_own(still):
    still.record(5, Flaw.GONE, 7, "out of range")
    still.record(1, Flaw.DAMAGED, 200, "CRC")
    still.record(3, Flaw.TRUNCATED, None, "epoch 0")
    first, second, third = still.describe().split("; ")
    assert first.startswith("partition 1 stands still at offset 200: ")
    assert second.startswith("partition 3 stands still: the log was truncated")
    assert third.startswith("partition 5 stands still at offset 7: the log does not have")


def test_a_damaged_batch_is_due_again_after_its_time_and_nothing_else_is(still, clock):
    clock.now = 100.0
    still.record(0, Flaw.DAMAGED, 200, "CRC")
    still.record(1, Flaw.GONE, 7, "out of range")
    clock.now = 159.9
    assert still.due() == []
    clock.now = 160.0
    assert still.due() == [0]
    still.probe(0)
    assert still.due() == [], "it is being fetched"


def test_what_to_do_is_said_for_a_damaged_batch_and_for_a_gap(still):
    still.record(0, Flaw.DAMAGED, 200, "CRC")
    still.record(1, Flaw.TRUNCATED, 7, "epoch 0")
    assert still.advice(0) == (
        "restore the replica (it is read again every 60 s), "
        "or give the batch up: `pipeline offsets accept-gap topic/0`"
    )
    assert still.advice(1) == (
        "see `pipeline offsets show`, then `pipeline offsets accept-gap topic/1`"
    )


class Machine(RuleBasedStateMachine):
    """Whatever the client says, in whatever order, no record passes a flaw but by a probe."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.still = Standstills("topic", 60.0, self.clock)
        self.standing, self.probed = set(), set()

    @rule(partition=PARTITIONS, flaw=st.sampled_from(list(Flaw)))
    def record(self, partition, flaw):
        self.still.record(partition, flaw, 7, "why")
        self.standing.add(partition)
        self.probed.discard(partition)

    @rule(partition=PARTITIONS)
    def probe(self, partition):
        self.still.probe(partition)
        self.probed |= self.standing & {partition}

    @rule(partition=PARTITIONS)
    def admit(self, partition):
        admitted = self.still.admit(partition)
        assert admitted == (partition not in self.standing - self.probed)
        if partition in self.probed:
            self.standing.discard(partition)
            self.probed.discard(partition)

    @rule(partition=PARTITIONS)
    def forget(self, partition):
        self.still.forget([partition])
        self.standing.discard(partition)
        self.probed.discard(partition)

    @rule(seconds=st.floats(0.0, 100.0))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def what_stands_is_paused_and_said(self):
        assert set(self.still) == self.standing
        assert self.still.paused() == self.standing - self.probed
        assert set(self.still.due()) <= self.still.paused()
        assert bool(self.still) == bool(self.still.describe()) == bool(self.standing)


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis_settings(deadline=None, stateful_step_count=20)

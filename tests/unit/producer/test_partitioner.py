"""Which partition an event goes to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_producer.sending.partitioner import BURST_BYTES, BURST_PAUSE_SECONDS, BY_KEY
from llmlog_producer.sending.partitioner import BurstPartitioner as Partitioner

SECONDS_LATER = st.sampled_from([0.0, 0.001, 0.09, 0.2, 5.0])
SIZES = st.integers(1, 2 * BURST_BYTES)


@pytest.fixture
def eight() -> Partitioner:
    """The partitioner of a topic of eight."""
    partitioner = Partitioner()
    partitioner.partition_count = 8
    return partitioner


def test_a_burst_goes_to_one_partition_and_the_next_to_the_next(eight: Partitioner) -> None:
    bursts = [
        {eight.next_partition(1000, start + n / 1000) for n in range(50)} for start in range(16)
    ]
    assert all(len(burst) == 1 for burst in bursts)
    assert all(one != other for one, other in pairwise(bursts))
    assert set.union(*bursts) == set(range(8)), "all have their turn"


def test_a_burst_without_end_goes_on_to_the_next_once_a_batch_is_full(eight: Partitioner) -> None:
    chosen = [eight.next_partition(BURST_BYTES // 4, 0.0) for _ in range(32)]
    assert [chosen.count(partition) for partition in range(8)] == [4] * 8


def test_a_burst_is_as_long_as_its_pauses_are_short(eight: Partitioner) -> None:
    first = eight.next_partition(1, 0.0)
    assert eight.next_partition(1, BURST_PAUSE_SECONDS) == first
    assert eight.next_partition(1, 2 * BURST_PAUSE_SECONDS) == first, "since the event before"
    assert eight.next_partition(1, 3.1 * BURST_PAUSE_SECONDS) == (first + 1) % 8


def test_a_new_burst_may_be_as_large_as_the_one_before(eight: Partitioner) -> None:
    first = eight.next_partition(BURST_BYTES - 1, 0.0)
    second = eight.next_partition(BURST_BYTES - 1, 1.0)
    assert second == (first + 1) % 8
    assert eight.next_partition(1, 1.0) == second


def test_while_the_number_of_partitions_is_unknown_the_key_decides() -> None:
    assert Partitioner().next_partition(1, 0.0) == BY_KEY


def test_gateways_that_start_together_begin_anywhere() -> None:
    begun = set()
    for _ in range(100):
        one = Partitioner()
        one.partition_count = 8
        begun.add(one.next_partition(1, 0.0))
    assert len(begun) > 1


@given(st.lists(st.tuples(st.integers(0, 50), SECONDS_LATER, SIZES), max_size=50))
def test_a_partition_is_always_one_of_the_topics(events: list[tuple[int, float, int]]) -> None:
    partitioner = Partitioner()
    now = 0.0
    for count, seconds_later, size in events:
        partitioner.partition_count = count
        now += seconds_later
        assert partitioner.next_partition(size, now) in (range(count) if count else (BY_KEY,))


def test_a_partition_that_is_left_out_costs_the_others_no_turn(eight: Partitioner) -> None:
    eight.leaderless = frozenset({2})
    eight.add_late(5, "event")
    eight.pause(7, 10.0)
    chosen = [eight.next_partition(1000, start / 1.0) for start in range(10)]
    assert set(chosen) == {0, 1, 3, 4, 6}
    assert eight.closed(0.0) == [2, 5, 7]
    assert eight.closed(10.0) == [2, 5]
    eight.remove_late(5, "another")
    assert eight.closed(10.0) == [2, 5]
    eight.remove_late(5, "event")
    assert eight.closed(10.0) == [2]


def test_where_all_are_left_out_there_is_no_partition(eight: Partitioner) -> None:
    eight.leaderless = frozenset(range(7))
    assert eight.takes_events(0.0)
    assert eight.next_partition(1, 0.0) == 7
    eight.add_late(7, "event")
    assert not eight.takes_events(0.0)
    assert eight.next_partition(1, 0.0) is None


def test_late_partitions_may_be_paused_instead(eight: Partitioner) -> None:
    eight.add_late(5, "event")
    eight.pause_late(30.0)
    assert eight.closed(29.9) == [5]
    assert eight.closed(30.0) == []

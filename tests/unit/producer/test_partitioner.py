"""Which partition an event goes to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_producer.sending import partitioner as partitions
from llmlog_producer.sending.partitioner import BY_KEY, BurstPartitioner

GONE_BY = st.sampled_from([0.0, 0.001, 0.09, 0.2, 5.0])
SIZES = st.integers(1, 2 * partitions._FILL)


@pytest.fixture
def eight() -> BurstPartitioner:
    """Of a topic of eight."""
    made = BurstPartitioner()
    made.count = 8
    return made


def test_a_burst_goes_to_one_partition_and_the_next_to_the_next(eight: BurstPartitioner) -> None:
    bursts = [{eight.take(1000, start + n / 1000) for n in range(50)} for start in range(16)]
    assert all(len(burst) == 1 for burst in bursts)
    assert all(one != other for one, other in pairwise(bursts))
    assert set.union(*bursts) == set(range(8)), "all have their turn"


def test_a_burst_without_end_goes_on_to_the_next_once_a_batch_is_full(
    eight: BurstPartitioner,
) -> None:
    went = [eight.take(partitions._FILL // 4, 0.0) for _ in range(32)]
    assert [went.count(partition) for partition in range(8)] == [4] * 8


def test_where_the_number_is_not_known_the_key_decides() -> None:
    unknown = BurstPartitioner()
    assert unknown.take(1, 0.0) == BY_KEY


def test_gateways_that_start_together_begin_anywhere() -> None:
    begun = set()
    for _ in range(100):
        one = BurstPartitioner()
        one.count = 8
        begun.add(one.take(1, 0.0))
    assert len(begun) > 1


@given(st.lists(st.tuples(st.integers(0, 50), GONE_BY, SIZES), max_size=50))
def test_a_partition_is_always_one_of_those_that_there_are(
    events: list[tuple[int, float, int]],
) -> None:
    made = BurstPartitioner()
    now = 0.0
    for count, gone_by, size in events:
        made.count = count
        now += gone_by
        assert made.take(size, now) in (range(count) if count else (BY_KEY,))

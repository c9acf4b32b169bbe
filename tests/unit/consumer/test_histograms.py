"""Histograms as counts: each value is in one bucket, and the sum is that of the values."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.histograms import Histogram

SECONDS = Histogram("seconds", (0.1, 1.0, 10.0))


def buckets(counts):
    return [number for _, number in SECONDS.buckets(counts)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, [1, 1, 1, 1]), (0.1, [1, 1, 1, 1]), (0.11, [0, 1, 1, 1]), (11, [0, 0, 0, 1])],
)
def test_a_value_counts_in_each_bucket_whose_bound_it_does_not_pass(value, expected):
    counts = Counter()
    SECONDS.observe(counts, value)
    assert buckets(counts) == expected
    assert SECONDS.sum(counts) == pytest.approx(value)


def test_the_last_bucket_has_no_bound():
    assert [bound for bound, _ in SECONDS.buckets({})] == ["0.1", "1.0", "10.0", "+Inf"]


def test_a_range_is_spread_evenly_over_its_buckets():
    counts = Counter()
    SECONDS.observe_range(counts, 0.0, 20.0, 100)
    assert buckets(counts) == [0, 5, 50, 100]
    assert SECONDS.sum(counts) == pytest.approx(1000)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(1, 5000)), max_size=10))
def test_no_value_is_lost_or_doubled_and_the_sum_is_that_of_the_middle(ranges):
    counts = Counter()
    for least, most, number in ranges:
        SECONDS.observe_range(counts, min(least, most), max(least, most), number)
    found = buckets(counts)
    assert found == sorted(found)
    assert found[-1] == sum(number for *_, number in ranges)
    expected = sum((least + most) / 2 * number for least, most, number in ranges)
    assert SECONDS.sum(counts) == pytest.approx(expected, abs=0.01)


@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 1000))
def test_a_range_counts_as_its_values_one_by_one_within_one_of_each_bucket(one, other, number):
    least, most = sorted((one, other))
    at_once, one_by_one = Counter(), Counter()
    SECONDS.observe_range(at_once, least, most, number)
    for place in range(number):
        SECONDS.observe(one_by_one, least + (most - least) * (place + 0.5) / number)
    pairs = zip(buckets(at_once), buckets(one_by_one), strict=True)
    assert all(abs(a - b) <= 1 for a, b in pairs)

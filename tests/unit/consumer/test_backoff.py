"""Delays between attempts."""

import pytest

from llmlog_consumer.backoff import Backoff


@pytest.mark.parametrize(
    ("attempt", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (40, 30.0), (10_000, 30.0)]
)
def test_delays_double_up_to_the_longest(attempt, bound):
    delays = [Backoff(first=0.5, longest=30.0).delay(attempt) for _ in range(300)]
    assert all(bound / 10 <= delay <= bound for delay in delays)
    assert max(delays) > bound * 0.7
    assert min(delays) < bound * 0.3


def test_no_two_delays_are_alike():
    backoff = Backoff(first=1.0, longest=60.0)
    assert len({backoff.delay(3) for _ in range(50)}) == 50


def test_what_the_server_asks_for_is_honoured():
    backoff = Backoff(first=0.5, longest=30.0)
    assert backoff.delay(1, at_least=90.0) == 90.0
    assert backoff.delay(7, at_least=0.001) >= 3.0

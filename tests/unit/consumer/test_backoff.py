"""Delays between attempts, and what a batch remembers of them."""

import pytest

from llmlog_consumer.backoff import Backoff, RetryState


@pytest.mark.parametrize(
    ("attempt", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (40, 30.0), (10_000, 30.0)]
)
def test_delays_double_up_to_the_maximum(attempt, bound):
    delays = [Backoff(first_seconds=0.5, max_seconds=30.0).delay(attempt) for _ in range(300)]
    assert all(bound / 10 <= delay <= bound for delay in delays)
    assert max(delays) > bound * 0.7
    assert min(delays) < bound * 0.3


def test_delays_are_random():
    backoff = Backoff(first_seconds=1.0, max_seconds=60.0)
    assert len({backoff.delay(3) for _ in range(50)}) == 50


def test_a_delay_is_no_shorter_than_the_server_asks_for():
    backoff = Backoff(first_seconds=0.5, max_seconds=30.0)
    assert backoff.delay(1, at_least=90.0) == 90.0
    assert backoff.delay(7, at_least=0.001) >= 3.0


def test_the_last_refusal_that_a_bound_allows_is_told_once():
    state = RetryState()
    assert [state.record_refusal(3) for _ in range(7)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_batch_that_starts_again_has_no_refusals_and_no_proof():
    state = RetryState(attempts=4, refusals=3, not_before=2.0, is_proven=True)
    state.start_again()
    assert state == RetryState(attempts=4, not_before=2.0)

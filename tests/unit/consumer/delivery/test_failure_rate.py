"""The share of failures: what it counts, what it forgets, and when it means something."""

import pytest

from llmlog_consumer.delivery.failure_rate import MIN_RECORDS, FailureRate


def rate_of(*, failed, seen):
    rate = FailureRate()
    rate.record_success(seen - failed)
    for _ in range(failed):
        rate.record_failure("a")
    return rate


@pytest.mark.parametrize(
    ("failed", "seen", "exceeds"),
    [
        (11, 11, True),
        (11, 109, True),
        (10, 10, False),  # no more records than 10
        (11, 110, False),  # no larger share than 0.1
        (11, 111, False),
        (0, 0, False),
    ],
)
def test_both_the_number_and_the_share_have_to_be_exceeded(failed, seen, exceeds):
    assert rate_of(failed=failed, seen=seen).exceeds(share=0.1, records=10) is exceeds


def test_a_share_means_nothing_before_enough_records_are_seen():
    assert rate_of(failed=500, seen=MIN_RECORDS - 1).value == 0.0
    assert rate_of(failed=500, seen=MIN_RECORDS).value == 0.5


def test_older_records_count_for_half_and_the_share_stays():
    rate = rate_of(failed=1000, seen=4 * MIN_RECORDS - 1)
    assert (rate.seen, rate.failed) == (4 * MIN_RECORDS - 1, 1000)
    rate.record_success(1)
    assert (rate.seen, rate.failed) == (2 * MIN_RECORDS, 500)
    assert rate.value == 0.25


def test_failures_make_older_records_count_for_half_too():
    rate = rate_of(failed=0, seen=4 * MIN_RECORDS - 1)
    rate.record_failure("a")
    assert (rate.seen, rate.failed) == (2 * MIN_RECORDS, 0.5)


def test_failures_in_a_row_have_one_cause_and_no_success_between():
    rate = FailureRate()
    for cause, in_a_row in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)):
        rate.record_failure(cause)
        assert (rate.cause, rate.in_a_row) == (cause, in_a_row)
    rate.record_success(0)
    assert rate.in_a_row == 3
    rate.record_success(1)
    assert rate.in_a_row == 0

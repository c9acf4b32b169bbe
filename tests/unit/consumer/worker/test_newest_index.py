"""Which daily index is the newest, by the timestamps of Kafka's records."""

import pytest

from llmlog_consumer.elasticsearch.index_names import DAY_MS
from llmlog_consumer.worker.newest_index import NewestIndex

DAY = 20_000 * DAY_MS  # 2024-10-04


def newest_of(*runs):
    newest = NewestIndex("logs")
    for timestamp_ms, records in runs:
        newest.record(timestamp_ms, records)
    return newest.name


def test_it_is_the_day_of_the_records():
    assert newest_of((DAY, 10)) == "logs-2024.10.04"
    assert newest_of((DAY + DAY_MS - 1, 10)) == "logs-2024.10.04"


def test_it_is_unknown_before_the_first_record():
    assert newest_of() == ""


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62])
def test_a_record_without_a_usable_timestamp_tells_nothing(timestamp):
    assert newest_of((timestamp, 1000)) == ""
    assert newest_of((DAY, 1), (timestamp, 1000)) == "logs-2024.10.04"


@pytest.mark.parametrize("days", [-2, 2, 20_000])
def test_one_host_whose_clock_is_wrong_does_not_decide(days):
    runs = [(DAY, 90), (DAY + days * DAY_MS, 10)] * 200
    assert newest_of(*runs) == "logs-2024.10.04"


def test_it_follows_the_records_into_the_next_day():
    runs = [(DAY, 1000)] * 50 + [(DAY + DAY_MS, 1000)] * 4
    assert newest_of(*runs) == "logs-2024.10.05"


def test_a_backlog_of_old_records_makes_their_day_the_newest():
    runs = [(DAY, 1000)] * 10 + [(DAY - 5 * DAY_MS, 1000)] * 10
    assert newest_of(*runs) == "logs-2024.09.29"


def test_of_two_days_with_as_many_records_the_later_is_the_newest():
    assert newest_of((DAY + DAY_MS, 10), (DAY, 10)) == "logs-2024.10.05"

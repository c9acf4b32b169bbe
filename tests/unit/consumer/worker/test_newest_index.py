"""Which daily index is the newest, by the timestamps of Kafka's records."""

import pytest

from llmlog_consumer.elasticsearch.index_names import DAY_MS
from llmlog_consumer.worker.newest_index import RECENT_RECORDS, NewestIndex
from llmlog_schemas.event import LATEST_MS

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


@pytest.mark.parametrize("timestamp", [-1, 0, LATEST_MS, 2**62])
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


def test_the_records_of_one_day_count_together():
    assert newest_of((DAY, 3), (DAY + DAY_MS, 5), (DAY + 7_000, 3)) == "logs-2024.10.04"


def test_a_single_record_of_a_later_day_does_not_outweigh_two():
    assert newest_of((DAY, 2), (DAY + DAY_MS, 1)) == "logs-2024.10.04"


def test_older_records_count_for_half_once_there_are_more_than_the_bound():
    later = DAY + DAY_MS
    within = (DAY, RECENT_RECORDS - 10), (later, 10)
    assert newest_of(*within, (later, 0)) == "logs-2024.10.04"
    # 4,001 records: the older half as much. Then the later day needs more than 1,995 to lead.
    beyond = (*within, (DAY, 1))
    assert newest_of(*beyond, (later, 1_990)) == "logs-2024.10.04"
    assert newest_of(*beyond, (later, 1_991)) == "logs-2024.10.05"


@pytest.mark.parametrize(("records", "is_kept"), [(1, False), (2, True), (3, True)])
def test_a_day_is_forgotten_where_less_than_one_of_its_records_is_left(records, is_kept):
    """Kept, it leads again with as many as another day has, and less than that of its own."""
    other = DAY - DAY_MS
    runs = [(DAY, records), (other, RECENT_RECORDS)]  # halved
    left = RECENT_RECORDS // 2 - (records / 2 if is_kept else 0)
    assert newest_of(*runs, (DAY, left)) == "logs-2024.10.04"
    assert newest_of(*runs, (DAY, left - 0.25)) == "logs-2024.10.03"

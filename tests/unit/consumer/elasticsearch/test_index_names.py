"""Names of daily indices: each event has one, whatever its period and group are."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.groups import GROUP, PERIODS, make_place
from llmlog_consumer.elasticsearch.index_names import (
    DAY_MS,
    PERIOD_DAYS,
    daily_index,
    daily_indices,
    group_of,
    is_before,
    is_daily_index,
    read_name,
)
from llmlog_schemas.event import EARLIEST_MS, LATEST_MS

TIMES = st.integers(EARLIEST_MS, LATEST_MS - 1)
GROUPS = st.one_of(st.just(""), st.from_regex(GROUP, fullmatch=True))
PLACES = st.builds(make_place, st.sampled_from(PERIODS), GROUPS)


def ms(year, month, day, hour=0):
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("time_ms", "place", "name"),
    [
        (ms(2026, 11, 30), "", "logs-2026.11.30"),
        (ms(2026, 11, 30, 23), "-pay", "logs-2026.11.30-pay"),
        (ms(2026, 11, 30), "month", "logs-2026.11"),
        (ms(2026, 12, 1), "month-pay", "logs-2026.12-pay"),
        (ms(2026, 11, 29), "week", "logs-2026.w48"),
        (ms(2026, 11, 30), "week", "logs-2026.w49"),
        (ms(2027, 1, 3), "week-2", "logs-2026.w53-2"),
        (ms(2024, 12, 30), "week", "logs-2025.w01"),
    ],
)
def test_time_and_place_of_an_event_name_its_index(time_ms, place, name):
    assert daily_index("logs", time_ms, place) == name
    read = read_name("logs", name)
    assert read
    assert (read.place, read.group) == (place, group_of(place))


@pytest.mark.parametrize(
    "place", ["-", "day", "year", "week-", "-Pay", "-a-b", "-" + "x" * 33, "pay", "-a\n"]
)
def test_another_place_is_refused(place):
    with pytest.raises(ValueError, match="index_place"):
        daily_index("logs", EARLIEST_MS, place)
    assert group_of(place) == ""


@given(time_ms=TIMES, place=PLACES)
def test_a_name_says_its_place_and_holds_its_time(time_ms, place):
    name = daily_index("a.b-2x", time_ms, place)
    read = read_name("a.b-2x", name)
    assert read
    assert read.place == place
    end = ms(read.last_day.year, read.last_day.month, read.last_day.day) + DAY_MS
    assert end - PERIOD_DAYS[read.period] * DAY_MS <= time_ms < end
    assert len(name) <= 255


@given(one=TIMES, other=TIMES, place=PLACES, day=st.just(""))
def test_an_index_is_before_the_newest_only_when_its_period_has_ended(one, other, place, day):
    index, newest = daily_index("logs", one, place), daily_index("logs", other, day)
    read = read_name("logs", index)
    assert read
    last = ms(read.last_day.year, read.last_day.month, read.last_day.day)
    assert is_before(index, newest) == (last // DAY_MS < other // DAY_MS)


@pytest.mark.parametrize(
    "name",
    ["logs", "logs-", "logs-v2-2026.11.30", "logs-2026.11.31", "logs-2026.13", "logs-2026.w54",
     "logs-2026.w00", "logs-2026.11.30-", "logs-2026.11.30-A", "logs-2026.11.30-a-b", "logs-2026",
     "logs-2026.11.30\n", "other-2026.11.30", "logs-2026.11.30-x.y"],
)  # fmt: skip
def test_other_names_are_not_those_of_daily_indices(name):
    assert not is_daily_index("logs", name)


def test_a_group_has_a_pattern_that_is_no_other_groups():
    assert daily_indices("logs") == "logs-2*"
    assert daily_indices("logs", "pay") == "logs-2*-pay"

"""Owns the names of the daily indices behind an alias. Pure.

    ALIAS-2026.11.30, ALIAS-2026.w49, ALIAS-2026.11      of a day, an ISO week, a month
    ALIAS-2026.11.30-GROUP                               the same of a group

A daily index is one of these: it holds a day unless its events say otherwise.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from llmlog_common.groups import PLACE, make_place
from llmlog_schemas.event import EARLIEST_MS, LATEST_MS, event_time_ms

if TYPE_CHECKING:
    from collections.abc import Container

    from llmlog_common.groups import Period

DAY_MS: Final = 86_400_000

PERIOD_DAYS: Final[dict[Period, int]] = {"day": 1, "week": 7, "month": 31}
"""The longest that each period is."""

_FORMS: Final[dict[str, str]] = {"day": "%Y.%m.%d", "week": "%G.w%V", "month": "%Y.%m"}
_NAME: Final = re.compile(
    r"-(2\d{3})\.(?:w(\d\d)|(\d\d)(?:\.(\d\d))?)(?:-([a-z0-9_]{1,32}))?\Z", re.ASCII
)


class DailyIndexName(NamedTuple):
    """What the name of a daily index says.

    Attributes:
        period: of its events.
        group: of its events; empty for the default group.
        last_day: the last one of its period.
    """

    period: Period
    group: str
    last_day: date

    @property
    def place(self) -> str:
        """The place that its events have."""
        return make_place(self.period, self.group)


def daily_index(alias: str, time_ms: int, place: str = "") -> str:
    """Return the name of the index that holds this moment, by UTC.

    Args:
        alias: the common prefix.
        time_ms: epoch milliseconds.
        place: period and group, as an event has it.

    Raises:
        ValueError: the place is none.
    """
    match = PLACE.fullmatch(place)
    if match is None:
        raise ValueError(f"index_place {place[:64]!r} is not a period and a group")
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    name = f"{alias}-{moment:{_FORMS[match[1] or 'day']}}"
    return f"{name}-{match[2]}" if match[2] else name


def home_index(alias: str, event_id: str, place: str) -> str | None:
    """Return the index that an event's document belongs into; None where there is none for it.

    Args:
        alias: the common prefix.
        event_id: well-formed.
        place: period and group, as the event has it.
    """
    time_ms = event_time_ms(event_id)
    if not (EARLIEST_MS <= time_ms < LATEST_MS and PLACE.fullmatch(place)):
        return None
    return daily_index(alias, time_ms, place)


def daily_indices(alias: str, group: str = "") -> str:
    """Return a pattern of the daily indices that leaves out other indices with the same prefix.

    Args:
        alias: the common prefix.
        group: for those of one group; empty for those of all of them.
    """
    return f"{alias}-2*-{group}" if group else f"{alias}-2*"


def read_name(alias: str, name: str) -> DailyIndexName | None:
    """Return what the name of a daily index says; None for another index."""
    return _read(_NAME.match(name.removeprefix(alias))) if name.startswith(f"{alias}-") else None


def is_daily_index(
    alias: str, name: str, groups: Container[str] = (), period: Period = "day"
) -> bool:
    """Tell whether an index has the name of one of the daily indices that settings speak of.

    Another may be a user's own, such as a copy `ALIAS-2026.11.30-old`.

    Args:
        alias: the common prefix.
        name: of the index.
        groups: that settings name, beside the default group.
        period: that settings name, beside a day.
    """
    read = read_name(alias, name)
    if read is None or read.period not in {"day", period}:
        return False
    return not read.group or read.group in groups


def group_of(place: str) -> str:
    """Return the group of a place; empty for the default group, or where it is no place."""
    match = PLACE.fullmatch(place)
    return (match[2] or "") if match else ""


@lru_cache(maxsize=1000)
def is_before(index: str, newest: str) -> bool:
    """Tell whether the period of a daily index ended before that of the newest one.

    Indices of one period are told by it, whatever their groups are.
    """
    one, other = _read(_NAME.search(index)), _read(_NAME.search(newest))
    if one is None or other is None:
        return index < newest
    return one.last_day < other.last_day


def _read(match: re.Match[str] | None) -> DailyIndexName | None:
    if match is None:
        return None
    year, week, month, day, group = match.groups()
    try:
        if week:
            last = date.fromisocalendar(int(year), int(week), 7)
        else:
            last_of_month = monthrange(int(year), int(month))[1]
            last = date(int(year), int(month), int(day or last_of_month))
    except ValueError:  # no such day
        return None
    period = "week" if week else "day" if day else "month"
    return DailyIndexName(cast("Period", period), group or "", last)

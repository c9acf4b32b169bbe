"""Owns groups and periods: which index a team's events belong into, as settings say it. Pure.

A gateway writes the place of an event's document into the event, so that no setting that is changed
later gives the document of a redelivery, or of a replay, another index.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, Literal, get_args

from llmlog_common.units import parse_duration, parse_names

Period = Literal["day", "week", "month"]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)

MAX_GROUPS: Final = 32
MAX_PLACE_CHARACTERS: Final = 38
"""Of `month-` and a group."""
GROUP: Final = re.compile(r"[a-z0-9_]{1,32}")
PLACE: Final = re.compile(r"(week|month)?(?:-([a-z0-9_]{1,32}))?")
"""The place of a document, see `make_place`."""

_FORM: Final = "1 to 32 of a-z 0-9 _"


def make_place(period: Period, group: str) -> str:
    """Return the place of a document: its index's period, then `-` and its group.

    Both are left out where they are the usual ones, a day and the default group: `month-payments`,
    `-payments`, `month`, or nothing.
    """
    return ("" if period == "day" else period) + (f"-{group}" if group else "")


def parse_groups(value: object) -> object:
    """Return the group of each team id in `TEAM_ID=GROUP, …`; another type as it is.

    Raises:
        ValueError: an entry is none; the text names it.
    """
    if isinstance(value, dict):  # the default
        return value
    groups: dict[str, str] = {}
    for number, entry, team, group in _pairs(value, "TEAM_ID=GROUP"):
        if GROUP.fullmatch(group) is None:
            raise ValueError(f"entry {number} ({entry!r}): a group is {_FORM}")
        if groups.setdefault(team, group) != group:
            raise ValueError(
                f"entry {number} ({entry!r}): team {team!r} is in group {groups[team]!r} already"
            )
        if len(set(groups.values())) > MAX_GROUPS:
            raise ValueError(f"entry {number} ({entry!r}): more than {MAX_GROUPS} groups")
    return groups


def parse_ages(value: object) -> object:
    """Return the greatest age of each group in `GROUP=90 days, …`; another type as it is.

    Raises:
        ValueError: an entry is none; the text names it.
    """
    if isinstance(value, dict):
        return value
    ages: dict[str, timedelta] = {}
    for number, entry, group, text in _pairs(value, "GROUP=DURATION"):
        where = f"entry {number} ({entry!r})"
        if GROUP.fullmatch(group) is None:
            raise ValueError(f"{where}: a group is {_FORM}")
        if group in ages:
            raise ValueError(f"{where}: group {group!r} has an age already")
        try:
            age = parse_duration(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if not isinstance(age, timedelta) or age <= timedelta(0):
            raise ValueError(f"{where}: an age is more than 0")
        ages[group] = age
    return ages


def _pairs(value: object, form: str) -> list[tuple[int, str, str, str]]:
    """Return number, text, left and right side of each entry.

    Raises:
        ValueError: the value is no list of entries.
    """
    entries = parse_names(value)
    if not isinstance(entries, (list, tuple)):
        raise ValueError(f"write it as {form}, …")  # noqa: TRY004 - pydantic reports no TypeError
    pairs = []
    for number, entry in enumerate(entries, start=1):
        left, is_pair, right = (part.strip() for part in str(entry).rpartition("="))
        if not (left and is_pair and right):
            raise ValueError(f"entry {number} ({str(entry)!r}): write it as {form}")
        pairs.append((number, str(entry), left, right))
    return pairs

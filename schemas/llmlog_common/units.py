"""Reads durations, sizes and lists of names, as people write them in settings. Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION_PATTERN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_UNIT_SECONDS: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_SIZE_PATTERN: Final = re.compile(r"(\d+)\s*(|b|kib|mib|gib|kb|mb|gb)", re.IGNORECASE)
_UNIT_BYTES: Final = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}


def parse_duration(value: object) -> object:
    """Return the duration in `400 days`, `7d` or `90 s`.

    A number without a unit is refused, except 0: 400 of what? A value of another type is returned
    as it is, for pydantic to check.
    """
    if isinstance(value, timedelta) or not isinstance(value, (str, int, float)):
        return value
    text = str(value).strip().lower()
    match = _DURATION_PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("not a duration: write a number and a unit, as in `7 days` or `90 s`")
    number, unit = match.groups()
    if not unit:
        if float(number) == 0:
            return timedelta(0)
        raise ValueError(
            f"a number without a unit: write `{number} days`, or another of ms, s, min, h"
        )
    if unit not in _UNIT_SECONDS:
        raise ValueError("not a duration: the units are ms, s, min, h and days, as in `7 days`")
    return _seconds(float(number) * _UNIT_SECONDS[unit])


def format_duration(duration: timedelta) -> str:
    """Return a duration as people write it in settings: `400 days`, `90 min`, `1.5 s`."""
    seconds = duration.total_seconds()
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= unit and seconds % unit == 0:
            return f"{int(seconds // unit)} {name}"
    return f"{seconds:g} s"


def _seconds(number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except OverflowError:
        raise ValueError("longer than a duration can be") from None


def parse_bytes(value: object) -> object:
    """Return the bytes in `1 GiB`, `500 MB` or a bare number; another type as it is."""
    if not isinstance(value, (str, bool)):
        return value
    match = _SIZE_PATTERN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("not a size: write a number and a unit, as in `1 GiB`")
    return int(match[1]) * _UNIT_BYTES[match[2].lower()]


def parse_names(value: object) -> object:
    """Return the names in `a, b.c`; another type, such as a list in the file, as it is."""
    if not isinstance(value, str):
        return value
    return tuple(name.strip() for name in value.split(",") if name.strip())

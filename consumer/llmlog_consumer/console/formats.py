"""Owns how values are written for people: numbers, money, durations, names. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

NONE_RECORDED: Final = "not recorded"
MAX_LABEL_CHARACTERS: Final = 120
EMAIL_HIDDEN: Final = "(e-mail address)"
_MAX_SEARCHED_CHARACTERS: Final = 1000
# What follows the `@` has a dot: names of models have an `@` and a number.
_EMAIL: Final = re.compile(r"[\w.+%'-]{1,64}+@[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,8}+")


def write_count(value: Any) -> str:
    """Return a whole number with commas between its thousands."""
    return NONE_RECORDED if not _is_number(value) else f"{value:,.0f}"


def write_usd(value: Any) -> str:
    """Return an amount of US dollars; small ones with four digits that count."""
    if not _is_number(value):
        return NONE_RECORDED
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    return f"${value:.4g}" if abs(value) >= 0.0001 else f"${value:.2e}"  # noqa: PLR2004


def write_seconds(value: Any) -> str:
    """Return a duration, in the unit that people say it in."""
    if not _is_number(value):
        return NONE_RECORDED
    if abs(value) < 1:
        return f"{value * 1000:,.0f} ms"
    if abs(value) < 120:  # noqa: PLR2004
        return f"{value:,.2f} s"
    return f"{value / 60:,.1f} min"


def write_value(value: Any, kind: str) -> str:
    """Return a value by the kind of its field: `usd`, `count`, `seconds`, `text`."""
    writers = {"usd": write_usd, "count": write_count, "seconds": write_seconds}
    if kind in writers:
        return writers[kind](value)
    if value is None or value in ("", []):
        return NONE_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_label(value: Any, *, shows_contents: bool) -> str:
    """Return a name of a team, a key, a tag; an e-mail address in it only with the right to it."""
    text = str(value)[:_MAX_SEARCHED_CHARACTERS]
    if not shows_contents:
        text = _EMAIL.sub(EMAIL_HIDDEN, text)
    return text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 1] + "…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value

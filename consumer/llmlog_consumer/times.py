"""Owns the text form of times, for people and for JSON. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def iso(ms: Any, timespec: str = "seconds") -> str | None:
    """Return epoch milliseconds as ISO 8601 in UTC; None for a value that is not a time.

    Args:
        ms: epoch milliseconds; anything else is allowed.
        timespec: of `datetime.isoformat`.
    """
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec=timespec)
    except (TypeError, ValueError, OverflowError, OSError):
        return None

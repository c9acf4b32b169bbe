"""Owns the names of the daily indices behind an alias. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

DAY_MS: Final = 86_400_000


def daily_index(alias: str, time_ms: int) -> str:
    """Return the name of the index that holds this moment's UTC day."""
    return f"{alias}-{datetime.fromtimestamp(time_ms / 1000, UTC):%Y.%m.%d}"


def daily_indices(alias: str) -> str:
    """Return a pattern of the daily indices that leaves out other indices with the same prefix."""
    return f"{alias}-2*"

"""Owns the names of the daily indices behind an alias. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

DAY_MS: Final = 86_400_000
_DAY: Final = re.compile(r"\d{4}\.\d\d\.\d\d")


def daily_index(alias: str, time_ms: int) -> str:
    """Return the name of the index that holds this moment's UTC day."""
    return f"{alias}-{datetime.fromtimestamp(time_ms / 1000, UTC):%Y.%m.%d}"


def daily_indices(alias: str) -> str:
    """Return a pattern of the daily indices that leaves out other indices with the same prefix."""
    return f"{alias}-2*"


def is_daily_index(alias: str, name: str) -> bool:
    """Tell whether an index has the name of one of the daily indices."""
    prefix = f"{alias}-"
    return name.startswith(prefix) and _DAY.fullmatch(name.removeprefix(prefix)) is not None

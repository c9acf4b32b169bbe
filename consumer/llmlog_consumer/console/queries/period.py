"""Owns the period that a page is about: from its address to moments, and its intervals. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

SPANS: Final[dict[str, tuple[str, int]]] = {
    "15m": ("15 minutes", 900),
    "1h": ("hour", 3600),
    "24h": ("24 hours", 86_400),
    "7d": ("7 days", 7 * 86_400),
    "30d": ("30 days", 30 * 86_400),
    "90d": ("90 days", 90 * 86_400),
}
"""What the address names, the words for it, and its seconds."""
DEFAULT: Final = "24h"
ROUND_MS: Final = 10_000
"""Periods of people who look at the same time are equal: their numbers are asked for once."""
MAX_SPAN_SECONDS: Final = 400 * 86_400
_BUCKETS: Final = 60
_STEPS: Final = (10, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800)
"""Seconds of a bar: lengths that people think in."""


@dataclass(frozen=True, slots=True)
class Period:
    """From one moment to before another, in epoch milliseconds.

    Attributes:
        since_ms: the first moment.
        until_ms: the first moment after it.
        name: of `SPANS`; empty for moments that a person has chosen.
        problem: what is wrong with the address; empty where nothing is.
    """

    since_ms: int
    until_ms: int
    name: str = ""
    problem: str = ""

    @property
    def step_seconds(self) -> int:
        """Length of one bar: so that there are sixty or fewer."""
        seconds = max(1, (self.until_ms - self.since_ms) / 1000)
        return next((s for s in _STEPS if seconds / s <= _BUCKETS), _STEPS[-1])

    def as_filter(self) -> dict[str, Any]:
        """Return the clause of a query."""
        bounds = {"gte": self.since_ms, "lt": self.until_ms, "format": "epoch_millis"}
        return {"range": {"@timestamp": bounds}}


def read_period(params: Mapping[str, str], now_ms: int) -> Period:
    """Return the period that an address names; the last 24 hours where it names none.

    Args:
        params: of the address: `period`, or `since` and `until` with the reader's `zone`.
        now_ms: epoch milliseconds.
    """
    name = params.get("period") or DEFAULT
    if name != "custom":
        known = name if name in SPANS else DEFAULT
        problem = "" if name in SPANS else f"there is no period {name[:20]}"
        now_ms = now_ms // ROUND_MS * ROUND_MS
        return Period(now_ms - SPANS[known][1] * 1000, now_ms + 60_000, known, problem)
    try:
        zone = ZoneInfo(params.get("zone") or "UTC")
        since = _read_moment(params.get("since", ""), zone)
        until = _read_moment(params.get("until", ""), zone) if params.get("until") else now_ms
    except (ValueError, KeyError, OSError, OverflowError):
        day = Period(now_ms - SPANS[DEFAULT][1] * 1000, now_ms, DEFAULT)
        return Period(day.since_ms, day.until_ms, DEFAULT, "from and to are not times")
    if until <= since:
        return Period(since, since + 1, "", "the period ends before it begins")
    if (until - since) / 1000 > MAX_SPAN_SECONDS:
        return Period(until - MAX_SPAN_SECONDS * 1000, until, "", "the period is cut to 400 days")
    return Period(since, until)


def _read_moment(text: str, zone: ZoneInfo) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return int(moment.timestamp() * 1000)

"""Owns which daily index is the newest, by the timestamps of Kafka's records. Pure.

The worker's own clock may be wrong, and so may the clock of one gateway. So the day of most of the
recent records counts.
"""

from __future__ import annotations

from typing import Final

from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_schemas.event import LATEST_MS

RECENT_RECORDS: Final = 4_000
"""Records after which older ones count for half."""


class NewestIndex:
    """The index of the day at which most of the recent records were written to Kafka.

    Args:
        alias: the prefix of the daily indices.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._days: dict[int, float] = {}

    @property
    def name(self) -> str:
        """Its name; empty where no record had a timestamp."""
        if not self._days:
            return ""
        day = max(self._days, key=lambda day: (self._days[day], day))
        return daily_index(self._alias, day * DAY_MS)

    def record(self, timestamp_ms: int, records: int) -> None:
        """Count records that were written at this time; one without a timestamp tells nothing.

        Args:
            timestamp_ms: epoch milliseconds of one of them, by Kafka.
            records: how many.
        """
        if not 0 < timestamp_ms < LATEST_MS:
            return
        day = timestamp_ms // DAY_MS
        self._days[day] = self._days.get(day, 0.0) + records
        while sum(self._days.values()) > RECENT_RECORDS:
            halves = {day: number / 2 for day, number in self._days.items()}
            self._days = {day: number for day, number in halves.items() if number >= 1.0}

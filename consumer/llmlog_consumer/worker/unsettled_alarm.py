"""Owns the alarm for a record that holds up its partition for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.worker")


class UnsettledAlarm:
    """A log line about the oldest unsettled record, repeated while it stays.

    Args:
        topic: the source topic, for the message.
        after_seconds: age at which a record is too old, and the time between two lines.
    """

    def __init__(self, topic: str, after_seconds: float) -> None:
        self._topic = topic
        self._after = after_seconds
        self._next = 0.0

    def check(self, oldest: Span | None, now: float, unhealthy: str) -> None:
        """Log the record that blocks a partition, if it is too old.

        Args:
            oldest: the unsettled span that has blocked its partition for longest.
            now: monotonic seconds.
            unhealthy: what a person has to fix; empty where the worker knows of nothing.
        """
        if oldest is None or now - oldest.since < self._after or now < self._next:
            return
        self._next = now + self._after
        log.warning(
            "record unsettled for long",
            record=f"{self._topic}/{oldest.partition}/{oldest.first}",
            seconds=round(now - oldest.since),
            why=unhealthy or "Elasticsearch or the dead-letter topic does not take it",
        )

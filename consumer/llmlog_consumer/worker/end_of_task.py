"""Owns when a worker with an end (`pipeline consume --until-end`) has reached it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.kafka.consumer import GroupConsumer
    from llmlog_consumer.offset_tracker import OffsetTracker

COMMITTED_TIMEOUT_SECONDS: Final = 5.0


class EndOfTask:
    """The end that a whole group works towards: these offsets are committed.

    A worker that has nothing left to do waits for the others. If it ended before, a rebalance
    could hand it no partition of a member that fails.

    Args:
        until: next offset after the last record to settle, by partition.
        consumer: asked for the group's committed offsets.
        tracker: knows the watermarks of this worker's own partitions.
        interval_seconds: time between two checks.
    """

    def __init__(
        self,
        until: Mapping[int, int],
        consumer: GroupConsumer,
        tracker: OffsetTracker,
        interval_seconds: float,
    ) -> None:
        self._until = until
        self._consumer = consumer
        self._tracker = tracker
        self._interval = interval_seconds
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether to check now; if so, the next check is an interval away."""
        if now < self._next:
            return False
        self._next = now + self._interval
        return True

    def is_reached(self) -> bool:
        """Tell whether this worker has settled, and the others have committed, every record."""
        assigned = set(self._tracker.assigned)
        if any(
            self._tracker.watermark(partition) < end
            for partition, end in self._until.items()
            if partition in assigned
        ):
            return False
        others = {p: end for p, end in self._until.items() if p not in assigned}
        try:
            committed = (
                self._consumer.committed(others, timeout=COMMITTED_TIMEOUT_SECONDS)
                if others
                else {}
            )
        except KafkaException:
            return False
        return all(committed.get(p, -1) >= end for p, end in others.items())

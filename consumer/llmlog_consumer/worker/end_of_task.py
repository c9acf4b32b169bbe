"""Owns when a worker with an end (`pipeline consume --until-end`) has reached it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmlog_consumer.kafka.places import Place
    from llmlog_consumer.offset_tracker import OffsetTracker


class EndOfTask:
    """The end that a whole group works towards: everything before these offsets is committed.

    A worker that has nothing left to do waits for the others. If it ended before, a rebalance
    could hand it no partition of a member that fails. An offset that the log does not have is no
    end: the group may have been moved there, or the topic was truncated.

    Args:
        until: next offset after the last record to settle, by partition; None where no leader has
            told it yet.
        places: returns the group's places in some partitions; may raise `PipelineError` or
            `Unreachable`.
        tracker: knows the watermarks of this worker's own partitions.
        interval_seconds: time between two checks.
    """

    def __init__(
        self,
        until: Mapping[int, int | None],
        places: Callable[[Iterable[int]], Mapping[int, Place]],
        tracker: OffsetTracker,
        interval_seconds: float,
    ) -> None:
        self._until = dict(until)
        self._places = places
        self._tracker = tracker
        self._interval = interval_seconds
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether to check now; if so, the next check is an interval away."""
        if now < self._next:
            return False
        self._next = now + self._interval
        return True

    def is_settled(self) -> bool:
        """Tell whether this worker has settled every record of its own partitions."""
        assigned = set(self._tracker.assigned)
        return all(
            end is None or self._tracker.watermark(partition) >= end
            for partition, end in self._until.items()
            if partition in assigned
        )

    def is_committed(self) -> bool:
        """Tell whether the group has committed every record; asks the broker."""
        if not self._until:
            return True
        try:
            places = self._places(self._until)
        except (PipelineError, Unreachable):
            return False
        for partition, place in places.items():
            if self._until[partition] is None and place.log is not None:
                self._until[partition] = place.log.end
        return all(
            end is not None and partition in places and places[partition].is_settled_to(end)
            for partition, end in self._until.items()
        )

"""Owns how partitions that stand still move on: an accepted gap, or another attempt to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmlog_consumer.kafka.consumer import GroupConsumer
    from llmlog_consumer.kafka.gaps import Gap
    from llmlog_consumer.offset_tracker import OffsetTracker

log = structlog.get_logger("llmlog.worker")


class GapLookup:
    """The search for accepted gaps, for partitions whose next record cannot be read.

    Args:
        consumer: knows which partitions stand still, and moves them on.
        tracker: knows which offset each of them expects.
        accepted_gaps: returns the gaps that operators have accepted, by partition; may raise
            `PipelineError` or `Unreachable`.
        interval_seconds: time between two searches.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        tracker: OffsetTracker,
        accepted_gaps: Callable[[], Mapping[int, Sequence[Gap]]],
        interval_seconds: float,
    ) -> None:
        self._consumer = consumer
        self._tracker = tracker
        self._accepted_gaps = accepted_gaps
        self._interval = interval_seconds
        self._next = 0.0

    def run(self, now: float) -> None:
        """Move partitions on over their accepted gaps, or read damaged ones again, if it is time.

        Args:
            now: monotonic seconds.
        """
        if not self._consumer.standstills or now < self._next:
            return
        self._next = now + self._interval
        try:
            gaps = self._accepted_gaps()
        except (PipelineError, Unreachable) as error:
            log.warning("cannot read accepted gaps", why=str(error))
            gaps = {}
        for partition in list(self._consumer.standstills):
            expected = self._tracker.expected(partition)
            accepted = [gap for gap in gaps.get(partition, ()) if gap.first == expected]
            if accepted and not self._tracker.in_flight_records(partition):
                next_offset = accepted[-1].next
                log.warning(
                    "gap accepted, moving on", partition=partition, was=expected, now=next_offset
                )
                self._tracker.skip_gap(partition, next_offset)
                self._consumer.skip_gap(partition, next_offset)
        for partition in self._consumer.standstills.due():
            self._consumer.read_again(partition, self._tracker.expected(partition))

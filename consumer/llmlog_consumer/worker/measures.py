"""Owns what a worker tells the metrics beside its counts: latencies and gauges. Pure.

Nothing here is done for a single record on the good path: a span is measured as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlog_consumer.metric_list import EVENT_TO_INDEXED, PausedKind
from llmlog_consumer.outcomes import Outcome

if TYPE_CHECKING:
    from collections import Counter

    from llmlog_consumer.delivery.pipeline import Delivery
    from llmlog_consumer.kafka.consumer import GroupConsumer
    from llmlog_consumer.kafka_record import ConsumedRecord
    from llmlog_consumer.offset_tracker import OffsetTracker, Span


def read_timestamps(first: ConsumedRecord, last: ConsumedRecord) -> tuple[int, int]:
    """Return the timestamps of two records, in epoch milliseconds; 0 where one has none."""
    return max(0, first.timestamp()[1]), max(0, last.timestamp()[1])


def observe_outcome(
    counts: Counter[str], span: Span, outcome: Outcome, records: int, now_ms: float
) -> None:
    """Count how long records took from Kafka to their document.

    The times of a span's records are taken to lie evenly between those of its first and its last
    one. A document that existed before tells nothing.

    Args:
        counts: added to.
        span: that the records belong to.
        outcome: of all of them.
        records: number of them.
        now_ms: epoch milliseconds.
    """
    least, most = sorted(span.written_ms)
    if outcome is Outcome.INDEXED and least:
        youngest, oldest = (max(0.0, now_ms - written) / 1000 for written in (most, least))
        EVENT_TO_INDEXED.observe_range(counts, youngest, oldest, records)


def read_state(
    delivery: Delivery, tracker: OffsetTracker, consumer: GroupConsumer, now: float
) -> dict[str, Any]:
    """Return the part of a worker's report that is no count.

    Args:
        delivery: of the worker.
        tracker: of the worker.
        consumer: of the worker.
        now: monotonic seconds.

    Returns:
        `gauges` by metric; how many scopes are `paused` by kind; the `partitions` that it has,
        None before its first assignment.
    """
    oldest = tracker.oldest()
    gauges = {
        **delivery.gauges,
        "in_flight_bytes": tracker.bytes_in_flight,
        "oldest_unsettled_seconds": 0.0 if oldest is None else now - oldest.since,
        "assigned_partitions": len(tracker.assigned),
        "commit_age_seconds": now - consumer.committed_at if tracker.assigned else 0.0,
    }
    standing = len(list(consumer.standstills))
    return {
        "gauges": gauges,
        "paused": {**delivery.paused_scopes, PausedKind.PARTITION: standing},
        "partitions": tracker.assigned if consumer.joined else None,
    }

"""Owns what `verify` cannot check yet: records that an open transaction holds back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_consumer.kafka.offsets import KafkaOffsets

MAX_WAIT_SECONDS: Final = 5.0
"""Time in which a transaction that is at work ends."""
_INTERVAL_SECONDS: Final = 0.5


def acknowledged_ends(
    offsets: KafkaOffsets, topic: str, before: Mapping[int, int]
) -> dict[int, int]:
    """Return the next offset after all that the brokers have acknowledged, by partition.

    Args:
        offsets: of the topic.
        topic: the source.
        before: an earlier end of some partitions; records behind it are not asked for.
    """
    logs = offsets.places(topic)
    return {
        p: min(place.log.end, before.get(p, place.log.end))
        for p, place in logs.items()
        if place.log is not None
    }


def find_held_back(
    offsets: KafkaOffsets,
    topic: str,
    ends: Mapping[int, int],
    sleep: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Return what is still held back of what was acknowledged, a row for each partition.

    Transactions that are at work are waited for: they end within a moment.

    Args:
        offsets: of the topic.
        topic: the source.
        ends: see `acknowledged_ends`.
        sleep: waits for some seconds.
    """
    waited = 0.0
    while True:
        logs = offsets.bounds(topic, ends)
        rows = [
            {
                "partition": f"{topic}/{p}",
                "first": log.stable_end,
                "next": ends[p],
                "records": ends[p] - log.stable_end,
            }
            for p, log in logs.items()
            if log is not None and log.stable_end < min(ends[p], log.end)
        ]
        if not rows or waited >= MAX_WAIT_SECONDS:
            return rows
        sleep(_INTERVAL_SECONDS)
        waited += _INTERVAL_SECONDS

"""Owns the choice of an event's partition: a burst goes to one partition, the next to the next.

By its key each event of a burst would go to a partition of its own: as many requests as events,
and no similar events in a batch to be compressed together. No two events need the same partition.
"""

from __future__ import annotations

import math
import secrets
from typing import Final

BY_KEY: Final = -1
"""librdkafka's `RD_KAFKA_PARTITION_UA`: its partitioner decides."""

BURST_PAUSE_SECONDS: Final = 0.1
"""A pause between two events that is longer than this ends a burst."""
BURST_BYTES: Final = 256 * 1024
"""A burst that is larger goes on to the next partition."""


class BurstPartitioner:
    """The partitions of a topic, each in turn.

    Attributes:
        partition_count: partitions of the topic; 0 while unknown. The thread of the topic's lookup
            writes it, the sending thread reads it, and sets it to 0 when Kafka does not know a
            partition. All else belongs to the sending thread.
    """

    def __init__(self) -> None:
        self.partition_count = 0
        # Random: gateways that start together are not to fill the same partition.
        self._turn = secrets.randbelow(1 << 30)
        self._burst_bytes = 0
        self._last_event = math.inf

    def next_partition(self, size: int, now: float) -> int:
        """Return the partition of the next event; `BY_KEY` while their number is unknown.

        Args:
            size: bytes of the event's value.
            now: monotonic seconds.
        """
        count = self.partition_count
        if not count:
            return BY_KEY
        if now - self._last_event > BURST_PAUSE_SECONDS or self._burst_bytes >= BURST_BYTES:
            self._turn += 1
            self._burst_bytes = 0
        self._last_event = now
        self._burst_bytes += size
        return self._turn % count

"""Says which partition an event goes to: a burst fills one, the next burst the next.

By its key each event of a burst would go to a partition of its own: as many requests as events,
and nothing alike beside it to be compressed with. Nothing needs two events on one partition.
"""

from __future__ import annotations

import math
import secrets
from typing import Final

BY_KEY: Final = -1
"""librdkafka's `RD_KAFKA_PARTITION_UA`: its partitioner decides."""

_PAUSE: Final = 0.1
"""Seconds without an event that end a burst."""
_FILL: Final = 256 * 1024
"""Bytes after which a long burst goes on to the next partition."""


class BurstPartitioner:
    """Gives partitions in turn; used by one thread, except that another may set `count`.

    Attributes:
        count: how many the topic has; 0 while that is not known.
    """

    def __init__(self) -> None:
        self.count = 0
        # Anywhere: gateways that start together are not to fill the same one.
        self._turn = secrets.randbelow(1 << 30)
        self._given = 0
        self._last = math.inf

    def take(self, size: int, now: float) -> int:
        """Return the partition of the next event.

        Args:
            size: its bytes.
            now: monotonic seconds.
        """
        count = self.count
        if not count:
            return BY_KEY
        if now - self._last > _PAUSE or self._given >= _FILL:
            self._turn += 1
            self._given = 0
        self._last = now
        self._given += size
        return self._turn % count

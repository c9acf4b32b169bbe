"""Owns the choice of an event's partition: a burst goes to one that answers, the next to the next.

By its key each event of a burst would go to a partition of its own: as many requests as events,
and no similar events in a batch to be compressed together. No two events need the same partition:
so a partition that does not answer is left out, and keeps only what it was given before. Pure.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

BY_KEY: Final = -1
"""librdkafka's `RD_KAFKA_PARTITION_UA`: its partitioner decides."""

BURST_PAUSE_SECONDS: Final = 0.1
"""A pause between two events that is longer than this ends a burst."""
BURST_BYTES: Final = 256 * 1024
"""A burst that is larger goes on to the next partition."""


class BurstPartitioner:
    """The partitions of a topic, each that answers in turn.

    A partition is left out while it has no leader, while Kafka does not answer for an event that it
    was given, and in a pause after a refusal. `BY_KEY` is treated as a partition of its own: the
    first choice where the user has set a partitioner, the only one while their number is unknown.

    The thread of the topic's lookup replaces `partition_count` and `leaderless`; all else belongs
    to the sending thread.

    Args:
        is_by_key: the user's own partitioner decides, while all that it chooses answers.

    Attributes:
        partition_count: partitions of the topic; 0 while unknown, also after Kafka did not know a
            partition.
        leaderless: the partitions that have no leader.
    """

    def __init__(self, *, is_by_key: bool = False) -> None:
        self.partition_count = 0
        self.leaderless: frozenset[int] = frozenset()
        self._is_by_key = is_by_key
        self._late: dict[int, set[Hashable]] = {}
        self._paused: dict[int, float] = {}
        # Random: gateways that start together are not to fill the same partition.
        self._turn = secrets.randbelow(1 << 30)
        self._burst_bytes = 0
        self._last_event = math.inf

    def next_partition(self, size: int, now: float) -> int | None:
        """Return the partition of the next event; None while no partition takes any.

        Args:
            size: bytes of the event's value.
            now: monotonic seconds.
        """
        count = self.partition_count
        if (self._is_by_key or not count) and self._is_open(BY_KEY, now):
            return BY_KEY
        if not count:
            return None
        if now - self._last_event > BURST_PAUSE_SECONDS or self._burst_bytes >= BURST_BYTES:
            self._turn += 1
            self._burst_bytes = 0
        for turn in range(self._turn, self._turn + count):
            if self._is_open(turn % count, now):
                if turn != self._turn:
                    self._turn, self._burst_bytes = turn, 0
                self._last_event = now
                self._burst_bytes += size
                return turn % count
        return None

    def takes_events(self, now: float) -> bool:
        """Tell whether an event could be sent to some partition now."""
        count = self.partition_count
        if (self._is_by_key or not count) and self._is_open(BY_KEY, now):
            return True
        return any(self._is_open(partition, now) for partition in range(count))

    def closed(self, now: float) -> list[int]:
        """Return the partitions that are left out now."""
        known = range(self.partition_count)
        closed = {one for one in known if not self._is_open(one, now)}
        return sorted(closed | {one for one, late in self._late.items() if late})

    def add_late(self, partition: int, event: Hashable) -> None:
        """Leave a partition out until Kafka has answered for this event of it."""
        self._late.setdefault(partition, set()).add(event)

    def remove_late(self, partition: int, event: Hashable) -> None:
        """Take note that Kafka has answered for an event, late or not."""
        if late := self._late.get(partition):
            late.discard(event)

    def pause(self, partition: int, until: float) -> None:
        """Leave a partition out until then, in monotonic seconds."""
        self._paused[partition] = until

    def pause_late(self, until: float) -> None:
        """Pause every partition that is late, and wait for none of its events any more."""
        for partition, late in self._late.items():
            if late:
                self._paused[partition] = until
        self._late.clear()

    def forget(self) -> None:
        """Take note that Kafka does not know a partition: the number of them is unknown."""
        self.partition_count = 0

    def _is_open(self, partition: int, now: float) -> bool:
        return (
            partition not in self.leaderless
            and not self._late.get(partition)
            and now >= self._paused.get(partition, 0.0)
        )

"""Owns how much a worker takes in: bounds of bytes in flight, and how intake stops. Pure.

A paused partition loses the records that the client has fetched, and takes half a second to
resume. So a worker that has enough altogether stops polling first, and pauses only after that.
Meanwhile the client fetches on, until its queue is full. It counts values alone there: where keys
or headers are heavy, the worker pauses at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IN_FLIGHT_BYTES: Final = 24 * 1024 * 1024
MAX_PARTITION_BYTES: Final = 12 * 1024 * 1024
"""What records in flight weigh when intake ends: over all partitions, and of one."""

MAX_STOP_SECONDS: Final = 2.0
"""Time without polling at most: no rebalance is answered meanwhile."""

HEAVY_SECONDS: Final = 60.0
"""Time after a record with a heavy key or heavy headers in which the worker pauses at once."""


@dataclass(slots=True)
class FlowControl:
    """The partitions to pause, and whether to poll at all. The worker's main thread owns it.

    Attributes:
        max_bytes: bound of what is in flight over all partitions.
        max_partition_bytes: bound of what is in flight of one.
        paused: the partitions to pause, as of the last `decide`.
        stop_polling: no record may be consumed now.
    """

    max_bytes: int = MAX_IN_FLIGHT_BYTES
    max_partition_bytes: int = MAX_PARTITION_BYTES
    paused: set[int] = field(default_factory=set)
    stop_polling: bool = False
    _room_at: float = 0.0
    _heavy_until: float = float("-inf")

    def forbid_braking(self, now: float) -> None:
        """Pause at once for a while, as the client's own queue is not bounded by its bytes."""
        self._heavy_until = now + HEAVY_SECONDS

    def decide(
        self, in_flight: Mapping[int, int], now: float, *, draining: bool, letter_bytes: int = 0
    ) -> set[int]:
        """Return the partitions to pause.

        Args:
            in_flight: what the records in flight of each assigned partition weigh.
            now: monotonic seconds.
            draining: no more records may be taken in, whatever room there is.
            letter_bytes: what letters that are not delivered weigh beside their records.
        """
        assigned = set(in_flight)
        if draining:
            self.stop_polling, self.paused = False, assigned
            return assigned
        full = self._full(in_flight, assigned, letter_bytes)
        everything = full == assigned and not full <= self.paused
        if not everything:
            self._room_at = now
        may_brake = now - self._room_at < MAX_STOP_SECONDS and now >= self._heavy_until
        self.stop_polling = everything and may_brake
        self.paused = full & self.paused if self.stop_polling else full
        return self.paused

    def _full(
        self, in_flight: Mapping[int, int], assigned: set[int], letter_bytes: int
    ) -> set[int]:
        """Return the partitions that have enough; paused ones resume somewhat below the bound.

        One partition that is stuck counts for half of the bound over all at most, however large
        the records are by which it passed its own: so the others go on.
        """
        all_paused = bool(assigned) and self.paused >= assigned
        counted = (
            min(size, self.max_partition_bytes) if partition in self.paused else size
            for partition, size in in_flight.items()
        )
        if sum(counted) + letter_bytes > (self.max_bytes * 3 / 4 if all_paused else self.max_bytes):
            return assigned
        return {
            partition
            for partition, size in in_flight.items()
            if size > self.max_partition_bytes / (2 if partition in self.paused else 1)
        }

"""How much a worker takes in: bounds of bytes in flight, a brake, and pauses after it. Pure.

A pause throws away what the client has fetched, and takes half a second to end. So a worker that
has enough altogether stops consuming for a while (it brakes), and pauses only after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IN_FLIGHT: Final = 24 * 1024 * 1024
MAX_IN_FLIGHT_PARTITION: Final = 12 * 1024 * 1024
"""Bytes of values consumed and not settled at which intake ends, over all partitions and of one."""

BRAKE_SECONDS: Final = 2.0
"""How long nothing is consumed at most: as long, no rebalance is answered."""


@dataclass(slots=True)
class FlowControl:
    """Which partitions are to be paused, and whether to consume at all.

    Attributes:
        paused: as of the last `decide`.
        stop_polling: nothing is to be consumed now.
    """

    paused: set[int] = field(default_factory=set)
    stop_polling: bool = False
    _room_at: float = 0.0

    def decide(self, in_flight: Mapping[int, int], now: float, *, draining: bool) -> set[int]:
        """Return the partitions to pause.

        Args:
            in_flight: bytes of each assigned partition.
            now: monotonic seconds.
            draining: nothing more is to be taken in, whatever room there is.
        """
        assigned = set(in_flight)
        if draining:
            self.stop_polling, self.paused = False, assigned
            return assigned
        full = self._full(in_flight, assigned)
        everything = full == assigned and not full <= self.paused
        if not everything:
            self._room_at = now
        self.stop_polling = everything and now - self._room_at < BRAKE_SECONDS
        self.paused = full & self.paused if self.stop_polling else full
        return self.paused

    def _full(self, in_flight: Mapping[int, int], assigned: set[int]) -> set[int]:
        """Return the partitions that have enough; paused ones go on somewhat below the bound.

        One partition that is stuck holds half of the bound over all at most, however large the
        records are by which it went past its own: the others go on.
        """
        eased = bool(assigned) and self.paused >= assigned
        counted = (
            min(size, MAX_IN_FLIGHT_PARTITION) if partition in self.paused else size
            for partition, size in in_flight.items()
        )
        if sum(counted) > (MAX_IN_FLIGHT * 3 // 4 if eased else MAX_IN_FLIGHT):
            return assigned
        return {
            partition
            for partition, size in in_flight.items()
            if size > MAX_IN_FLIGHT_PARTITION // (2 if partition in self.paused else 1)
        }

"""Owns which partitions stand still, each for a cause of its own, while the others flow. Pure.

    flowing ──record──> standing ──probe, for a damaged batch──> probed ──admit──> flowing
                           ^                                        │
                           └────────────────record──────────────────┘

What the client says about a partition after a damaged batch is worth nothing: it may go on in the
middle of that batch, take its bytes for an offset, and then find that the log has no such offset.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RETRY_SECONDS: Final = 60.0
"""Time after which a damaged batch is fetched again: its replica may have been restored."""


class Flaw(StrEnum):
    """What is wrong with a partition; the value is said to people."""

    DAMAGED = "the broker hands out a damaged batch"
    GONE = "the log does not have this offset"
    TRUNCATED = "the log was truncated, or the topic was recreated"


@dataclass(slots=True)
class Standstill:
    """One partition that stands still.

    Attributes:
        flaw: the cause.
        offset: at which it stands, as the client names it; None where it names none.
        why: the client's own words.
        retry_at: monotonic seconds at which it is fetched again; infinite for a flaw that only an
            operator ends.
        is_probed: it is being fetched again.
    """

    flaw: Flaw
    offset: int | None
    why: str
    retry_at: float
    is_probed: bool = False


class Standstills:
    """The partitions of one topic that stand still, of those that a member has.

    Args:
        topic: for the texts.
        retry_seconds: time between two attempts to fetch a damaged batch.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        topic: str,
        retry_seconds: float = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._partitions: dict[int, Standstill] = {}

    def __bool__(self) -> bool:
        return bool(self._partitions)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._partitions))

    def record(self, partition: int, flaw: Flaw, offset: int | None, why: str) -> bool:
        """Remember what the client says about a partition.

        Returns:
            True where the partition begins to stand still by this, or its cause is another one.
        """
        known = self._partitions.get(partition)
        if known is not None and not known.is_probed:
            return False  # the client's fetches that were under way, or the bytes of the batch
        is_damaged = flaw is Flaw.DAMAGED
        retry_at = self._clock() + self._retry_seconds if is_damaged else math.inf
        self._partitions[partition] = Standstill(flaw, offset, why, retry_at)
        return known is None or known.flaw is not flaw

    def admit(self, partition: int) -> bool:
        """Tell whether a record of this partition may be taken; it ends a probed standstill."""
        known = self._partitions.get(partition)
        if known is not None and known.is_probed:
            del self._partitions[partition]
            return True
        return known is None

    def paused(self) -> set[int]:
        """Return the partitions of which nothing may be fetched now."""
        return {number for number, known in self._partitions.items() if not known.is_probed}

    def due(self) -> list[int]:
        """Return the partitions that it is time to fetch again."""
        now = self._clock()
        return [n for n in self if self._partitions[n].retry_at <= now and n in self.paused()]

    def probe(self, partition: int) -> None:
        """Remember that a partition is being fetched again."""
        if (known := self._partitions.get(partition)) is not None:
            known.is_probed = True

    def forget(self, partitions: Iterable[int]) -> None:
        """Remove partitions: they are given away, or a gap was accepted."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def advice(self, partition: int) -> str:
        """Return what to do about a partition that stands still."""
        accept = f"pipeline offsets accept-gap {self._topic}/{partition}"
        if self._partitions[partition].flaw is Flaw.DAMAGED:
            return (
                f"restore the replica (it is read again every {self._retry_seconds:.0f} s), "
                f"or give the batch up: `{accept}`"
            )
        return f"see `pipeline offsets show`, then `{accept}`"

    def describe(self) -> str:
        """Return which partitions stand still, where, why, and what to do; empty for none."""
        return "; ".join(self._describe(number) for number in self)

    def _describe(self, number: int) -> str:
        known = self._partitions[number]
        place = f" at offset {known.offset}" if known.offset is not None else ""
        return (
            f"partition {number} stands still{place}: {known.flaw} ({known.why}): "
            f"{self.advice(number)}"
        )

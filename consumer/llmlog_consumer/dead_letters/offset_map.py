"""Owns the map from a source record's offset to its newest dead letter. Pure.

Made for millions of letters: sorted arrays of numbers, about 20 bytes a letter, and no strings.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNSORTED_OFFSETS: Final = 20_000
"""Offsets that came out of order and wait to be merged into the sorted arrays."""

LATEST_SECONDS: Final = 2**32 - 1
"""An epoch second later than that of any letter."""

MAX_INT64: Final = 2**63 - 1
"""The largest offset, and the largest value of an entry."""


class PartitionOffsets:
    """The newest letter of each offset of one source partition.

    Letters mostly come in the order of their offsets; those that do not are merged in batches.

    Args:
        max_unsorted: offsets out of order that are held before they are merged.
    """

    __slots__ = ("_last", "_max_unsorted", "_offsets", "_seconds", "_unsorted", "_values")

    def __init__(self, max_unsorted: int = MAX_UNSORTED_OFFSETS) -> None:
        self._offsets = array("Q")
        self._seconds = array("I")
        self._values = array("Q")
        self._last = -1
        self._unsorted: dict[int, tuple[int, int]] = {}
        self._max_unsorted = max_unsorted

    def put(self, offset: int, second: int, value: int) -> int | None:
        """Record a letter. The newest of an offset stays; of two in one second the later put.

        Args:
            offset: of the source record.
            second: epoch seconds of the letter.
            value: what is remembered of the letter.

        Returns:
            The value of the older letter; None where the offset is new.
        """
        if offset > self._last:
            self._offsets.append(offset)
            self._seconds.append(second)
            self._values.append(value)
            self._last = offset
            return None
        at = bisect_left(self._offsets, offset)
        if self._offsets[at] == offset:
            if second < self._seconds[at]:
                return value
            former = self._values[at]
            self._seconds[at], self._values[at] = second, value
            return former
        known = self._unsorted.get(offset)
        if known is not None and second < known[0]:
            return value
        self._unsorted[offset] = (second, value)
        if known is not None:
            return known[1]
        if len(self._unsorted) >= self._max_unsorted:
            self._merge()
        return None

    def get(self, offset: int) -> tuple[int, int] | None:
        """Return second and value of an offset's newest letter; None where there is none."""
        if offset <= self._last:
            at = bisect_left(self._offsets, offset)
            if self._offsets[at] == offset:
                return self._seconds[at], self._values[at]
        return self._unsorted.get(offset)

    def __len__(self) -> int:
        """Return the number of offsets."""
        return len(self._offsets) + len(self._unsorted)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield second and value of each offset's newest letter."""
        yield from zip(self._seconds, self._values, strict=True)
        yield from self._unsorted.values()

    def _merge(self) -> None:
        offsets, seconds, values = array("Q"), array("I"), array("Q")
        at = 0
        for offset, (second, value) in sorted(self._unsorted.items()):
            until = bisect_left(self._offsets, offset, at)
            offsets += self._offsets[at:until]
            seconds += self._seconds[at:until]
            values += self._values[at:until]
            offsets.append(offset)
            seconds.append(second)
            values.append(value)
            at = until
        self._offsets = offsets + self._offsets[at:]
        self._seconds = seconds + self._seconds[at:]
        self._values = values + self._values[at:]
        self._unsorted = {}


class OffsetMap:
    """The newest letter of each source record: a `PartitionOffsets` for each source partition."""

    def __init__(self) -> None:
        self._partitions: dict[object, PartitionOffsets] = {}

    def partition(self, key: object) -> PartitionOffsets:
        """Return the letters of one source partition.

        Args:
            key: names topic and partition; any hashable, as long as callers use one spelling.
        """
        offsets = self._partitions.get(key)
        if offsets is None:
            offsets = self._partitions[key] = PartitionOffsets()
        return offsets

    def __len__(self) -> int:
        """Return the number of source records."""
        return sum(map(len, self._partitions.values()))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield second and value of each source record's newest letter."""
        for offsets in self._partitions.values():
            yield from offsets

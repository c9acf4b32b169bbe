"""Which letter keeps for each source record: the newest of its name. Pure.

Made for millions of letters: sorted arrays of numbers, about 20 bytes a letter, and no strings.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LATE: Final = 20_000
"""Offsets that came out of order, before they are merged with the others."""

LATEST: Final = 2**32 - 1
"""Later than the second of any letter."""

LARGEST: Final = 2**63 - 1
"""The largest offset, and the largest value."""


class PartitionOffsets:
    """The letters of one source partition; most of them come in the order of their offsets."""

    __slots__ = ("_late", "last", "offsets", "seconds", "values")

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.seconds = array("I")
        self.values = array("Q")
        self.last = -1
        self._late: dict[int, tuple[int, int]] = {}

    def put(self, offset: int, second: int, value: int) -> int | None:
        """Take note of a letter; the newest of its name keeps, of two at once the later put.

        Args:
            offset: of the source record.
            second: epoch seconds of the letter.
            value: what is remembered of it.

        Returns:
            The value of the letter that does not speak; None where the name is new.
        """
        if offset > self.last:
            self.offsets.append(offset)
            self.seconds.append(second)
            self.values.append(value)
            self.last = offset
            return None
        at = bisect_left(self.offsets, offset)
        if self.offsets[at] == offset:
            if second < self.seconds[at]:
                return value
            former = self.values[at]
            self.seconds[at], self.values[at] = second, value
            return former
        known = self._late.get(offset)
        if known is not None and second < known[0]:
            return value
        self._late[offset] = (second, value)
        if known is not None:
            return known[1]
        if len(self._late) >= MOST_LATE:
            self._merge()
        return None

    def get(self, offset: int) -> tuple[int, int] | None:
        """Return second and value of the letter that keeps; None for no such name."""
        if offset <= self.last:
            at = bisect_left(self.offsets, offset)
            if self.offsets[at] == offset:
                return self.seconds[at], self.values[at]
        return self._late.get(offset)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.offsets) + len(self._late)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield second and value of the letter that keeps, for each name."""
        yield from zip(self.seconds, self.values, strict=True)
        yield from self._late.values()

    def _merge(self) -> None:
        late = sorted(self._late.items())
        merged = PartitionOffsets()
        at = 0
        for offset, (second, value) in late:
            upto = bisect_left(self.offsets, offset, at)
            merged.offsets += self.offsets[at:upto]
            merged.seconds += self.seconds[at:upto]
            merged.values += self.values[at:upto]
            merged.put(offset, second, value)
            at = upto
        self.offsets = merged.offsets + self.offsets[at:]
        self.seconds = merged.seconds + self.seconds[at:]
        self.values = merged.values + self.values[at:]
        self._late = {}


class OffsetMap:
    """Letters by the topic and partition of their source, in any spelling of the two."""

    def __init__(self) -> None:
        self._columns: dict[object, PartitionOffsets] = {}

    def column(self, place: object) -> PartitionOffsets:
        """Return the letters of one source partition."""
        found = self._columns.get(place)
        if found is None:
            found = self._columns[place] = PartitionOffsets()
        return found

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(map(len, self._columns.values()))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield second and value of the letter that keeps, for each name."""
        for column in self._columns.values():
            yield from column

"""Owns what is remembered of letters in order to find the newest of each source. Pure.

A source has a name of 63 bits (`letter.name_source`). Made for millions of letters: arrays of
numbers, about 20 bytes a letter, and no strings.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKETS: Final = 1024
"""Parts of a `NewestMap`: of a million names each has a thousand."""

LOG_BUCKETS: Final = 64
"""Parts of a `LetterLog`: of a million letters 16,000 are compared at a time."""

LATEST_SECONDS: Final = 2**32 - 1
"""An epoch second later than that of any letter."""

MAX_INT64: Final = 2**63 - 1
"""The largest offset, the largest name, and the largest value beside a name."""


def _new_arrays() -> tuple[array[int], array[int], array[int]]:
    """Return empty arrays of names, epoch seconds and values."""
    return array("Q"), array("I"), array("Q")


class NewestMap:
    """The newest letter of each name, at any time.

    Args:
        buckets: parts, each sorted by name.
    """

    def __init__(self, buckets: int = BUCKETS) -> None:
        self._buckets = [_new_arrays() for _ in range(buckets)]

    def put(self, name: int, second: int, value: int) -> None:
        """Record a letter. The newest of a name stays; of two in one second the later put.

        Args:
            name: of the source.
            second: epoch seconds of the letter.
            value: what is remembered of the letter.
        """
        names, seconds, values = self._buckets[name % len(self._buckets)]
        at = bisect_left(names, name)
        if at == len(names) or names[at] != name:
            names.insert(at, name)
            seconds.insert(at, second)
            values.insert(at, value)
        elif second >= seconds[at]:
            seconds[at], values[at] = second, value

    def get(self, name: int) -> tuple[int, int] | None:
        """Return second and value of a name's newest letter; None where there is none."""
        names, seconds, values = self._buckets[name % len(self._buckets)]
        at = bisect_left(names, name)
        return (seconds[at], values[at]) if at < len(names) and names[at] == name else None


class LetterLog:
    """All letters, from which the newest of each name is read once at the end.

    Args:
        buckets: parts; the letters of one part are compared at a time.
    """

    def __init__(self, buckets: int = LOG_BUCKETS) -> None:
        self._buckets = [_new_arrays() for _ in range(buckets)]

    def put(self, name: int, second: int, value: int) -> None:
        """Record a letter; of two in one second the later put is the newer.

        Args:
            name: of the source.
            second: epoch seconds of the letter.
            value: what is remembered of the letter.
        """
        names, seconds, values = self._buckets[name % len(self._buckets)]
        names.append(name)
        seconds.append(second)
        values.append(value)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield second and value of each name's newest letter."""
        for names, seconds, values in self._buckets:
            newest: dict[int, tuple[int, int]] = {}
            for name, second, value in zip(names, seconds, values, strict=True):
                known = newest.get(name)
                if known is None or second >= known[0]:
                    newest[name] = (second, value)
            yield from newest.values()

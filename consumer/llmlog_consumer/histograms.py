"""Owns histograms as plain counts: how values are counted, and how the counts are read. Pure.

A worker's counts go to the supervisor as one dictionary of integers, which is added up over
workers, the dead ones included. A histogram is a few keys in it: one for each bucket that has
values, and one for the sum of all values, in thousandths.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

_PARTS: Final = 1000
"""A sum is kept in thousandths: counts are integers."""


class Histogram:
    """One histogram's place in a dictionary of counts.

    Args:
        name: of the metric.
        bounds: upper bound of each bucket, ascending; one more bucket has no bound.
    """

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.bounds = tuple(bounds)
        self._buckets = [f"{name} {number}" for number in range(len(bounds) + 1)]
        self._sum = f"{name} sum"

    def observe(self, counts: Counter[str], value: float, number: int = 1) -> None:
        """Count a value so many times."""
        counts[self._buckets[bisect_left(self.bounds, value)]] += number
        counts[self._sum] += round(value * _PARTS * number)

    def observe_range(self, counts: Counter[str], least: float, most: float, number: int) -> None:
        """Count so many values that lie evenly between two: the same work for any number.

        Args:
            counts: added to.
            least: the smallest of the values.
            most: the largest of them.
            number: of values.
        """
        if number == 1 or most <= least:
            self.observe(counts, (least + most) / 2, number)
            return
        first, last = bisect_left(self.bounds, least), bisect_left(self.bounds, most)
        below = 0
        for bucket in range(first, last):
            share = (self.bounds[bucket] - least) / (most - least)
            up_to = round(number * share)
            counts[self._buckets[bucket]] += up_to - below
            below = up_to
        counts[self._buckets[last]] += number - below
        counts[self._sum] += round((least + most) / 2 * _PARTS * number)

    def buckets(self, counts: Mapping[str, int]) -> list[tuple[str, int]]:
        """Return each bucket's upper bound, as Prometheus writes it, and the values up to it."""
        total, found = 0, []
        for bound, key in zip((*self.bounds, "+Inf"), self._buckets, strict=True):
            total += counts.get(key, 0)
            found.append((str(bound), total))
        return found

    def sum(self, counts: Mapping[str, int]) -> float:
        """Return the sum of all values."""
        return counts.get(self._sum, 0) / _PARTS

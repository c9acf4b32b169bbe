"""Owns the counts of dead letters by kind (fingerprint and stage), up to a bound. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

OTHER: Final = ("other", "other")
"""Stands for every kind beyond the bound."""

Kind = tuple[str, str]
"""A fingerprint and a stage."""


def add_counts(counts: Counter[Kind], more: Mapping[Kind, int], max_kinds: int) -> None:
    """Add counts of dead letters to others.

    Args:
        counts: added to.
        more: counts by kind.
        max_kinds: kinds that are counted each by itself; the rest is counted as `OTHER`.
    """
    for kind, number in more.items():
        known = kind in counts or len(counts) < max_kinds
        counts[kind if known else OTHER] += number

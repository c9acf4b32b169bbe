"""Counts dead letters by their kind, fingerprint and stage, up to a bound. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

OTHER: Final = ("other", "other")
"""Stands for every kind beyond the bound."""

Kind = tuple[str, str]


def add_deaths(deaths: Counter[Kind], more: Mapping[Kind, int], most: int) -> None:
    """Add deaths to others.

    Args:
        deaths: added to.
        more: by kind.
        most: kinds that are counted each by itself.
    """
    for kind, number in more.items():
        known = kind in deaths or len(deaths) < most
        deaths[kind if known else OTHER] += number

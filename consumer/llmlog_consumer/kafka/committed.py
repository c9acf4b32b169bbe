"""Owns a committed offset and the note beside it, as any program may have written them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "at": (int, float),
    "worker": (str,),
    "rate": (int, float),
    "in_flight": (int,),
    "unhealthy": (str,),
    "circuit": (str,),
    "held": (dict,),
}
"""The types of the keys of a note that are known; other keys are returned as they are."""


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """The group's place in a partition.

    Attributes:
        offset: the next offset; everything before it is settled.
        note: what a worker wrote beside it: its state at that moment, and what the partition's
            next owner has to know; empty where none wrote one.
        epoch: leader epoch of the record before the offset, -1 where none is known.
    """

    offset: int
    note: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = -1


def parse_note(metadata: str | None) -> dict[str, Any]:
    """Return the note beside a committed offset; empty where another program wrote it.

    A key that is known and has a value of another type is left out.
    """
    try:
        note = orjson.loads(metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(note, dict):
        return {}
    return {key: value for key, value in note.items() if _is_valid(key, value)}


def _is_valid(key: str, value: object) -> bool:
    types = _TYPES.get(key)
    return types is None or (isinstance(value, types) and not isinstance(value, bool))

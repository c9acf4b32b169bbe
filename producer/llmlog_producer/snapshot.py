"""A copy of a payload that later changes cannot reach. Pure; runs in the request's own thread.

Containers are copied and strings shared: the cost goes by the number of values, not by their
bytes, so a megabyte of prompt costs no more than a line. Objects that are neither are kept by
reference and read in the background.
"""

from __future__ import annotations

from typing import Any, Final

_LEAVES: Final = frozenset((str, int, float, bool, type(None)))
_MAX_DEPTH: Final = 60


def snapshot(payload: dict[Any, Any], *, without: frozenset[str]) -> dict[Any, Any]:
    """Copy the payload's dicts and lists, leaving out the named top-level keys."""
    return {
        key: value if type(value) in _LEAVES else _copy(value, 1)
        for key, value in payload.items()
        if key not in without
    }


def size_of(payload: dict[Any, Any]) -> int:
    """Estimate a copied payload's bytes by its longest strings; cheap, and never too exact."""
    return 4096 + sum(_length(value, 1) for value in payload.values())


def _copy(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > _MAX_DEPTH:
        return value
    if kind is dict:
        return {
            key: item if type(item) in _LEAVES else _copy(item, depth + 1)
            for key, item in value.items()
        }
    if kind is list:
        return [item if type(item) in _LEAVES else _copy(item, depth + 1) for item in value]
    return value


def _length(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str:
        return len(value)
    if depth > _MAX_DEPTH:
        return 0
    if kind is dict:
        return sum(_length(item, depth + 1) for item in value.values())
    if kind is list:
        if value and type(value[0]) is float:
            return 24 * len(value)
        return sum(_length(item, depth + 1) for item in value)
    return 0

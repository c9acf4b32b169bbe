"""Owns how what setup ships and what users have changed become one, and the differences. Pure.

Values are JSON. Elasticsearch returns numbers and booleans of settings as text, so they are
compared as text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ABSENT: Final = "(none)"


def overlay(below: Any, above: Any) -> Any:
    """Return both values as one: objects key by key; where both have a value, the one above.

    A field of another type is another field: nothing of the one below stays in it.
    """
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    kind = above.get("type")
    if isinstance(kind, str) and below.get("type", "object") != kind:
        return above
    return {
        key: overlay(below[key], above[key]) if key in below and key in above else one[key]
        for one in (below, above)
        for key in one
    }


def missing_fields(existing: Any, ours: Any) -> dict[str, Any]:
    """Return those of our properties that an index can be given: whatever is there stays.

    Args:
        existing: `properties` of a mapping.
        ours: likewise.
    """
    missing: dict[str, Any] = {}
    for name, field in ours.items():
        there = existing.get(name)
        if there is None:
            missing[name] = field
        elif "properties" in there and (
            inner := missing_fields(there["properties"], field.get("properties", {}))
        ):
            missing[name] = {"properties": inner}
    return missing


def join(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the entries of both, each once, in their order."""
    return list(dict.fromkeys((*first, *second)))


def differences(old: Any, new: Any) -> tuple[str, ...]:
    """Return a line for each value that is not the same in both: `path: old -> new`."""
    before, after = dict(_flatten(old)), dict(_flatten(new))
    return tuple(
        f"{path}: {before.get(path, ABSENT)} -> {after.get(path, ABSENT)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path, ABSENT).lower() != after.get(path, ABSENT).lower()
    )


def get(value: Any, *path: str) -> Any:
    """Return what stands at a path of keys; None where there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and (value or not path):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return json.dumps(value)

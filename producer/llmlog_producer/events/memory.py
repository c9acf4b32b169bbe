"""Owns the bytes of memory that a copied payload holds. Pure, and runs no foreign code.

An object's own `__sizeof__`, `__len__` or `__getattribute__` may do anything, so the base types'
are called instead. What an object does not show is not counted.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice
from typing import Any, Final

NUMBERS: Final = frozenset((int, float))
MANY_NUMBERS: Final = 16
"""A list of so many numbers, and of nothing else, is looked at in compiled code."""

_NUMBER_BYTES: Final = 24
_COLLECTOR_BYTES: Final = 16
"""What the garbage collector keeps before each container."""
_OBJECT_BYTES: Final = 64
_SMALL_INTS: Final = range(-5, 257)
"""Those that exist once in an interpreter."""
_FREE: Final = frozenset((bool, type(None)))
_TEXTS: Final = (str, bytes, bytearray, int)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
_SIZED: Final = (*_TEXTS, *_CONTAINERS)
_KNOWN: Final[dict[type, type | None]] = {kind: kind for kind in _SIZED}


def are_numbers(items: Any) -> bool:
    """Tell whether a list holds many numbers, and nothing else."""
    return len(items) >= MANY_NUMBERS and NUMBERS.issuperset(map(type, items))


def size_of(payload: bytes | dict[Any, Any]) -> int:
    """Return the bytes of memory that a copied payload holds, itself included."""
    if type(payload) is bytes:
        return sys.getsizeof(payload)
    return measure(payload, sys.maxsize)[0]


def bytes_of(value: Any) -> int:
    """Return the bytes of one value, without what it holds."""
    kind = type(value)
    if kind is float:
        return _NUMBER_BYTES
    if kind in _FREE or (kind is int and value in _SMALL_INTS):
        return 0
    base: Any = _KNOWN[kind] if kind in _KNOWN else _base_of(kind)
    if base is None:
        return _OBJECT_BYTES
    return int(base.__sizeof__(value)) + (0 if base in _TEXTS else _COLLECTOR_BYTES)


def measure(value: Any, most: int) -> tuple[int, int]:
    """Return the bytes that a value holds, and of how many parts it consists.

    Args:
        value: any value.
        most: it stops when there are more parts.
    """
    size, number, seen = 0, 0, set()
    parts = [value]
    while parts and number <= most:
        part = parts.pop()
        number += 1
        if id(part) in seen:
            continue
        seen.add(id(part))
        size += bytes_of(part)
        kind = type(part)
        base = _KNOWN[kind] if kind in _KNOWN else _base_of(kind)
        if base in _CONTAINERS:
            if base is list and are_numbers(part):
                size += sum(map(sys.getsizeof, part))
            else:
                _take(parts, part, base, most - number)
        elif base is None and kind is not float and kind not in _FREE:
            parts += _fields_of(part)
    return size, number


def _base_of(kind: type) -> type | None:
    """Return the standard type that a type derives from; None where there is none."""
    return next((base for base in _SIZED if issubclass(kind, base)), None)


def _take(parts: list[Any], holder: Any, base: Any, room: int) -> None:
    """Add what a container holds, as far as it is counted; another thread may be changing it."""
    try:
        if len(parts) + base.__len__(holder) <= room:
            parts.extend(base.__iter__(holder))
            if base is dict:
                parts.extend(dict.values(holder))
        else:
            parts.extend(islice(base.__iter__(holder), room + 1))
    except RuntimeError:
        return


def _fields_of(value: Any) -> list[Any]:
    try:
        fields = object.__getattribute__(value, "__dict__")
    except Exception:  # noqa: BLE001 - it has none
        return []
    return [fields] if type(fields) is dict else []

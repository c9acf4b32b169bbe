"""Owns the copy of a payload that later changes cannot reach. Pure.

It runs in the request's own thread. The copy is the payload's JSON: compiled code writes it in a
tenth of the time of copying dicts and lists one by one, and the garbage collector has nothing to
look through. A payload that JSON would change (objects, numbers that are not finite) is copied as
dicts and lists: strings are shared, objects are kept by reference and read in the background.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from llmlog_schemas.json_form import SELF_REFERENCE
from llmlog_schemas.limits import MAX_PAYLOAD_DEPTH

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

# A value that is not exactly a dict, list, tuple, str, int, float, bool or None makes orjson raise.
_EXACT_TYPES: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_LEAVES: Final = frozenset((str, int, float, bool, type(None)))
_MAX_PARTS: Final = 200
_SIZED: Final = (str, bytes, bytearray)


def snapshot(payload: dict[Any, Any], *, without: frozenset[str]) -> bytes | dict[Any, Any]:
    """Copy a payload, without the named top-level keys.

    Returns:
        Its JSON; a dict where JSON would change it.
    """
    kept = dict(payload)
    for name in without:
        kept.pop(name, None)
    for value in kept.values():
        if type(value) is float and value - value:  # NaN: the number is not finite
            return _copy_dict(kept, 1, {id(payload)})
    try:
        return orjson.dumps(kept, option=_EXACT_TYPES)
    except Exception:  # noqa: BLE001 - objects in it may raise any error
        return _copy_dict(kept, 1, {id(payload)})


def excluded_keys(settings: Settings) -> frozenset[str]:
    """Return the top-level keys that the settings exclude from every payload."""
    return frozenset(() if settings.model_map_information else ("model_map_information",))


def size_of(payload: bytes | dict[Any, Any]) -> int:
    """Return the bytes of a copied payload; of a dict an estimate, by the texts and bytes in it.

    Never raises. Counts all dicts and lists that were copied, and the first parts of objects.
    """
    if isinstance(payload, bytes):
        return len(payload)
    size, objects = _measure_copy(payload)
    parts, seen = deque(objects), set()
    for _ in range(_MAX_PARTS):
        if not parts:
            break
        value: Any = parts.popleft()
        kind = type(value)  # `isinstance` and the object's own `len` would run foreign code
        if sized := next((base for base in _SIZED if issubclass(kind, base)), None):
            size += sized.__len__(value)
        elif kind not in _LEAVES and id(value) not in seen:
            seen.add(id(value))
            parts += _parts(value)
    return size


def _measure_copy(payload: dict[Any, Any]) -> tuple[int, list[Any]]:
    """Return the size of the copied dicts and lists, and the objects in them."""
    size, objects, seen = 4096, [], set()
    parts: list[Any] = [payload]
    while parts:
        value = parts.pop()
        kind = type(value)
        if (kind is not dict and kind is not list) or id(value) in seen:
            continue
        seen.add(id(value))
        if kind is list and value and type(value[0]) is float:
            size += 24 * len(value)
            continue
        for item in value.copy().values() if kind is dict else value.copy():
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is dict or kind is list:
                parts.append(item)
            elif kind not in _LEAVES:
                objects.append(item)
    return size, objects


def _parts(value: Any) -> list[Any]:
    """Return the first parts of a container or an object; none where it does not show them."""
    try:
        if issubclass(type(value), (list, tuple)):
            return list(value[:_MAX_PARTS])
        held = value if issubclass(type(value), dict) else vars(value)
        return list(islice(held.values(), _MAX_PARTS))
    except Exception:  # noqa: BLE001 - foreign code
        return []


def _copy(value: Any, depth: int, above: set[int]) -> Any:
    """Copy a value; `above` holds the ids of its containers: a cycle would be copied 2^60 times."""
    kind = type(value)
    if depth > MAX_PAYLOAD_DEPTH:
        return value
    if kind is not dict and kind is not list:
        return _copy_object(value, depth, above)
    if id(value) in above:
        return SELF_REFERENCE
    above.add(id(value))
    copy = _copy_dict(value, depth, above) if kind is dict else _copy_list(value, depth, above)
    above.discard(id(value))
    return copy


def _copy_dict(value: dict[Any, Any], depth: int, above: set[int]) -> dict[Any, Any]:
    return {
        key: item if type(item) in _LEAVES else _copy(item, depth + 1, above)
        # `copy` is atomic, and another thread may be adding to the dict. `list(value.items())` is
        # not atomic: it allocates pairs, so the garbage collector may run, and foreign code in it.
        for key, item in value.copy().items()
    }


def _copy_list(value: list[Any], depth: int, above: set[int]) -> list[Any]:
    return [item if type(item) in _LEAVES else _copy(item, depth + 1, above) for item in value]


def _copy_object(value: Any, depth: int, above: set[int]) -> Any:
    """Turn an object into what JSON makes of it: both copies of one call give the same event."""
    if isinstance(value, Enum):
        return _copy(value.value, depth + 1, above)
    return str(value) if isinstance(value, UUID) else value

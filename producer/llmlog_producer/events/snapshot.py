"""A copy of a payload that later changes cannot reach. Pure; runs in the request's own thread.

The copy is the payload's JSON: written in one go by compiled code, it takes a tenth of the time of
copying dicts and lists one by one, and leaves the garbage collector nothing to look through. What
JSON would change (objects, numbers that are not finite) is copied as it is: containers one by one,
strings shared, and objects by reference, to be read in the background.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from llmlog_schemas.json_form import TO_ITSELF

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

# Whatever is neither dict, list, tuple, str, int, float, bool or None itself is for the other way.
_EXACT: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_LEAVES: Final = frozenset((str, int, float, bool, type(None)))
_MAX_DEPTH: Final = 60
_MOST_PARTS: Final = 200
_SIZED: Final = (str, bytes, bytearray)


def snapshot(payload: dict[Any, Any], *, without: frozenset[str]) -> bytes | dict[Any, Any]:
    """Copy a payload, leaving out the named top-level keys.

    Returns:
        Its JSON; or where that would not be all of it, a dict.
    """
    kept = dict(payload)
    for name in without:
        kept.pop(name, None)
    for value in kept.values():
        if type(value) is float and value - value:  # NaN, as of every number that is not finite
            return _copy_dict(kept, 1, {id(payload)})
    try:
        return orjson.dumps(kept, option=_EXACT)
    except Exception:  # noqa: BLE001 - whatever orjson has against it
        return _copy_dict(kept, 1, {id(payload)})


def left_out(settings: Settings) -> frozenset[str]:
    """Return the keys that are not wanted of any payload."""
    return frozenset(() if settings.model_map_information else ("model_map_information",))


def size_of(payload: bytes | dict[Any, Any]) -> int:
    """Return a copied payload's bytes; of a dict an estimate, by the texts and bytes in it.

    Never raises. What was copied is looked through, and of the objects in it the first parts.
    """
    if isinstance(payload, bytes):
        return len(payload)
    size, objects = _size_of_copied(payload)
    parts, seen = deque(objects), set()
    for _ in range(_MOST_PARTS):
        if not parts:
            break
        value: Any = parts.popleft()
        kind = type(value)  # not by isinstance, nor by its own `len`: that may run what it likes
        if sized := next((base for base in _SIZED if issubclass(kind, base)), None):
            size += sized.__len__(value)
        elif kind not in _LEAVES and id(value) not in seen:
            seen.add(id(value))
            parts += _parts(value)
    return size


def _size_of_copied(payload: dict[Any, Any]) -> tuple[int, list[Any]]:
    """Return the size of what was copied, and the objects in it."""
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
    """Return the first parts of a container or an object."""
    try:
        if issubclass(type(value), (list, tuple)):
            return list(value[:_MOST_PARTS])
        held = value if issubclass(type(value), dict) else vars(value)
        return list(islice(held.values(), _MOST_PARTS))
    except Exception:  # noqa: BLE001 - an object that has nothing, or does not show it
        return []


def _copy(value: Any, depth: int, above: set[int]) -> Any:
    """Copy a dict or list; `above` are those that it lies in: two ways back make 2^60 copies."""
    kind = type(value)
    if depth > _MAX_DEPTH:
        return value
    if kind is not dict and kind is not list:
        return _object(value, depth, above)
    if id(value) in above:
        return TO_ITSELF
    above.add(id(value))
    copied = _copy_dict(value, depth, above) if kind is dict else _copy_list(value, depth, above)
    above.discard(id(value))
    return copied


def _copy_dict(value: dict[Any, Any], depth: int, above: set[int]) -> dict[Any, Any]:
    return {
        key: item if type(item) in _LEAVES else _copy(item, depth + 1, above)
        # At once: another thread may be adding to it. `list(value.items())` is not: each pair that
        # it allocates may start the garbage collector, and that may run somebody's code.
        for key, item in value.copy().items()
    }


def _copy_list(value: list[Any], depth: int, above: set[int]) -> list[Any]:
    return [item if type(item) in _LEAVES else _copy(item, depth + 1, above) for item in value]


def _object(value: Any, depth: int, above: set[int]) -> Any:
    """Read what JSON reads too: the two payloads of one call may be copied in different ways."""
    if isinstance(value, Enum):
        return _copy(value.value, depth + 1, above)
    return str(value) if isinstance(value, UUID) else value

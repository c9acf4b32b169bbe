"""Owns the copy of a payload that later changes cannot reach. Pure.

It runs in the request's own thread, so its work is bounded, whatever a client has sent:

- A payload of `MAX_JSON_NODES` values at most, where `CHARACTERS_IN_A_NODE` count as one, is copied
  as its JSON: compiled code writes it in a tenth of the time of copying dicts and lists one by one,
  and the garbage collector has nothing to look through. That is nearly every payload.
- A larger one, or one that JSON would change (objects, numbers that are not finite), is copied as
  dicts and lists, `MAX_CONTAINERS` of them. Texts are shared, however long they are; objects are
  kept by reference and read in the background. What is beyond the bounds is left out, and a marker
  `{"llmlog_cut": {"type": …, "items": …}}` stands in its place. A list keeps its first item and its
  last ones: of a chat the system prompt and what was said last.

What a copy holds is counted while it is made.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from llmlog_producer.events.memory import MANY_NUMBERS, are_numbers, bytes_of, measure
from llmlog_schemas.json_form import SELF_REFERENCE
from llmlog_schemas.limits import CUT, MAX_PAYLOAD_DEPTH

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

MAX_JSON_NODES: Final = 12_000
"""240 KB of text; or an answer of 170 tokens, with five log probabilities for each."""
CHARACTERS_IN_A_NODE: Final = 20
"""Characters that cost as much as a number does, if each of them has to be escaped."""
MAX_CONTAINERS: Final = 1_100
"""Dicts and lists that are copied one by one: a conversation of 300 messages."""
VALUES_IN_A_CONTAINER: Final = 4
"""Texts and numbers that cost as much as one dict or list."""
NUMBERS_IN_A_NODE: Final = 4
"""Numbers, in a list of nothing else, that cost as much as one other value."""
_CHARACTERS_IN_A_DICT: Final = 20
"""Beside those of its keys."""
_MANY_NUMBERS: Final = MANY_NUMBERS * CHARACTERS_IN_A_NODE
_FIRST_ITEM_SHARE: Final = 4
"""The first item of a list takes the fourth part of what may be copied; the last ones the rest."""
_FEW_NODES: Final = 100
"""Values of a top-level field that is copied before the larger ones share what is left."""

# A value that is not exactly a dict, list, tuple, str, int, float, bool or None makes orjson raise.
_EXACT_TYPES: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_CONTAINERS: Final = frozenset((dict, list, tuple))
_LEAVES: Final = frozenset((str, int, float, bool, type(None)))


def snapshot(
    payload: dict[Any, Any], *, without: frozenset[str]
) -> tuple[bytes | dict[Any, Any], int]:
    """Copy a payload, without the named top-level keys.

    Returns:
        Its JSON, or a dict where JSON would change it or where it is large; and the bytes of
        memory that this holds.
    """
    kept = payload.copy()
    for name in without:
        kept.pop(name, None)
    if _fits(kept, MAX_JSON_NODES) and not _has_nan(kept):
        with suppress(Exception):  # a number or a text that it does not take
            # orjson's own result holds half as much again: it was written into a larger block.
            json = bytes(memoryview(orjson.dumps(kept, option=_EXACT_TYPES)))
            return json, getsizeof(json)
    copier = _Copier(payload)
    copy = copier.copy_payload(kept)
    return copy, copier.size


def excluded_keys(settings: Settings) -> frozenset[str]:
    """Return the top-level keys that the settings exclude from every payload."""
    return frozenset(() if settings.model_map_information else ("model_map_information",))


def _has_nan(payload: dict[Any, Any]) -> bool:
    """Tell whether a field is a number that is not finite."""
    return any(type(value) is float and value - value for value in payload.values())


def _fits(value: Any, nodes: int) -> bool:  # noqa: C901 - one loop: it runs for every payload
    """Tell whether a value is plain, and has so many nodes at most."""
    characters = nodes * CHARACTERS_IN_A_NODE
    parts = [value]
    try:
        while parts:
            part = parts.pop()
            own = len(part) * CHARACTERS_IN_A_NODE
            # What is far too long is not looked at.
            if own > characters * NUMBERS_IN_A_NODE:
                return False
            items = part
            if type(part) is dict:
                items = part.values()
                characters -= sum(map(len, part)) + _CHARACTERS_IN_A_DICT
            elif own >= _MANY_NUMBERS and are_numbers(part):
                characters -= own // NUMBERS_IN_A_NODE
                continue
            characters -= own
            if characters < 0:
                return False
            for item in items:
                kind = type(item)
                if kind is str:
                    characters -= len(item)
                elif kind in _CONTAINERS:
                    parts.append(item)
                elif kind not in _LEAVES:
                    return False
    except Exception:  # noqa: BLE001 - a key that is no text, a dict that another thread changes
        return False
    return characters >= 0


class _Copier:
    """One walk over one payload.

    Args:
        payload: its own id ends a cycle.

    Attributes:
        size: bytes of memory that the copy holds.
    """

    def __init__(self, payload: dict[Any, Any]) -> None:
        self._left = MAX_CONTAINERS * VALUES_IN_A_CONTAINER  # values that may be copied yet
        self._above = {id(payload)}  # ids of the containers: a cycle would be copied 2^60 times
        self._is_cut = False  # the field that is copied is left out in part
        self._keys: set[Any] = set()  # those that are counted: the same ones come again and again
        self.size = 0

    def copy_payload(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Copy all fields: the small ones first, then the others share what is left."""
        copy: dict[Any, Any] = {}
        large = []
        for name, value in payload.items():
            if self._left <= 0:
                copy.update(_marker("object", len(payload) - len(copy)))
                break
            if type(value) not in _CONTAINERS or _fits(value, _FEW_NODES):
                copy[name] = self._copy(value, 1)
            else:
                copy[name] = None
                large.append(name)
        # What a short one leaves is for those after it: the longest is the chat, mostly.
        large.sort(key=lambda name: len(payload[name]))
        left = max(0, self._left)
        for place, name in enumerate(large):
            self._left = share = left // (len(large) - place)
            self._is_cut = _count_values(payload[name], share) > share
            copy[name] = self._copy(payload[name], 1)
            left -= share - max(0, self._left)
        self._count(copy)
        return copy

    def _copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            self._left -= 1
            self.size += getsizeof(value) if kind is str else bytes_of(value)
            return value
        if kind not in _CONTAINERS:
            return self._object(value, depth)
        self._left -= VALUES_IN_A_CONTAINER
        if id(value) in self._above:
            return SELF_REFERENCE
        if depth > MAX_PAYLOAD_DEPTH:
            return f"<cut: deeper than {MAX_PAYLOAD_DEPTH} levels>"
        # Its own first, where it is small: another thread may be adding to the value.
        own: Any = value
        if len(value) <= self._left:
            own = value.copy() if kind is dict else list(value)
        leaves = own.values() if kind is dict else own
        copy: Any
        if own is not value and _LEAVES.issuperset(map(type, leaves)):
            copy = own
            self._left -= len(own)
            # Each value once: small numbers, true and false exist once in an interpreter.
            self.size += sum(
                map(getsizeof, dict(zip(map(id, leaves), leaves, strict=False)).values())
            )
        else:
            self._above.add(id(value))
            copy = self._dict(own, depth + 1) if kind is dict else self._list(own, depth + 1)
            self._above.discard(id(value))
        self._count(copy)
        return copy

    def _count(self, copy: Any) -> None:
        """Count a dict or a list that was made, and the keys in it."""
        self.size += getsizeof(copy)
        if type(copy) is dict and (new := copy.keys() - self._keys):
            self._keys |= new
            self.size += sum(
                map(getsizeof if _LEAVES.issuperset(map(type, new)) else bytes_of, new)
            )

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        copy = {}
        for key, item in _first_items(value, self._left):
            if self._left <= 0:
                break
            copy[key] = self._copy(item, depth)
        if len(copy) < len(value):
            copy.update(_marker("object", len(value) - len(copy)))
        return copy

    def _list(self, value: Any, depth: int) -> list[Any]:
        """Copy a list: its first item, and of the others the last ones, as far as there is room."""
        number, room = len(value), max(0, self._left)
        self._left = share = room // _FIRST_ITEM_SHARE if self._is_cut and number > 1 else room
        head = [self._copy(item, depth) for item in value[:1]] if share else []
        self._left += room - share
        tail: list[Any] = []
        for item in reversed(value[max(len(head), number - max(0, self._left)) :]):
            if self._left <= 0:
                break
            tail.append(self._copy(item, depth))
        left_out = number - len(head) - len(tail)
        marker = [_marker("list", left_out)] if left_out > 0 else []
        return [*head, *marker, *reversed(tail)]

    def _object(self, value: Any, depth: int) -> Any:
        """Turn an object into what JSON makes of it: both copies of a call give the same event."""
        kind = type(value)
        # No code of its own runs here: it could hang. So `isinstance` and `value.value` are out.
        if issubclass(kind, Enum):
            return self._copy(object.__getattribute__(value, "_value_"), depth)
        if kind is UUID:
            return self._copy(str(value), depth)
        most = max(0, self._left) // VALUES_IN_A_CONTAINER
        size, parts = measure(value, most)
        self._left -= parts * VALUES_IN_A_CONTAINER
        self.size += size
        return value if parts <= most else f"<cut: {type(value).__name__} of many parts>"


def _count_values(value: Any, most: int) -> int:
    """Return how many values a copy takes from the bound; it stops at more than `most`."""
    number, parts = 0, [value]
    with suppress(RuntimeError):  # another thread is changing it
        while parts and number <= most:
            part = parts.pop()
            kind = type(part)
            if kind in _LEAVES:
                number += 1
            elif kind not in _CONTAINERS:
                left = (most - number) // VALUES_IN_A_CONTAINER
                number += measure(part, left)[1] * VALUES_IN_A_CONTAINER
            elif len(part) > most - number:
                return most + 1
            else:
                number += VALUES_IN_A_CONTAINER
                parts.extend(part.values() if kind is dict else part)
    return number


def _first_items(value: dict[Any, Any], number: int) -> Any:
    """Return the first items of a dict; all of one that is small, and a copy already."""
    if len(value) <= number:
        return value.items()
    try:
        return list(islice(value.items(), max(0, number)))
    except RuntimeError:  # another thread has changed it: `copy` is atomic, if not cheap
        return list(islice(value.copy().items(), max(0, number)))


def _marker(kind: str, items: int) -> dict[str, Any]:
    return {CUT: {"type": kind, "items": items}}

"""The JSON form of whatever Python objects a payload holds. Pure, and never raises.

orjson writes the usual payload directly; what it refuses (objects that are not JSON, lone
surrogates, integers over 64 bits, keys that are no strings, cycles, great depth) is rebuilt
first by `plain`.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson

MAX_DEPTH: Final = 100
"""Levels of nesting that are kept; Elasticsearch and orjson both give up further down."""

TO_ITSELF: Final = "<cut: refers to itself>"
"""What takes the place of a container within itself."""

_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**64 - 1


def dumps(value: object) -> bytes:
    """Write any object as one line of JSON."""
    try:
        # Dataclasses are read by `plain`: orjson ends the process at one with an empty slot.
        return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except Exception:  # noqa: BLE001 - foreign objects raise what they like
        return orjson.dumps(plain(value))


def plain(value: Any, *, max_depth: int = MAX_DEPTH, max_key_bytes: int | None = None) -> Any:
    """Rebuild a value of dict, list, str, int, float, bool and None alone.

    Args:
        value: any object; it is not changed.
        max_depth: what lies deeper is replaced by a text that says so.
        max_key_bytes: keys are cut to this many bytes of UTF-8, freed of NUL, and never empty.
    """
    return _Rebuilder(max_depth, max_key_bytes).rebuild(value, 1)


def text(value: str) -> str:
    """Return the string itself, or with lone surrogates spelt out where it has any."""
    if type(value) is str and value.isascii():
        return value
    exact = str.__str__(value)  # a subclass may say something else
    try:
        exact.encode()
    except UnicodeEncodeError:
        return exact.encode("utf-8", "backslashreplace").decode()
    return exact


class _Rebuilder:
    """One walk over one value; remembers the path, for cycles."""

    def __init__(self, max_depth: int, max_key_bytes: int | None) -> None:
        self._max_depth = max_depth
        self._max_key_bytes = max_key_bytes
        self._path: set[int] = set()

    def rebuild(self, value: Any, depth: int) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, (str, int, float)) and not isinstance(value, Enum):
            return _scalar(value)
        if id(value) in self._path:
            return TO_ITSELF
        if depth > self._max_depth:
            return f"<cut: deeper than {self._max_depth} levels>"
        self._path.add(id(value))
        try:
            return self._container(value, depth)
        except Exception as error:  # noqa: BLE001 - foreign objects raise what they like
            return f"<unreadable {type(value).__name__}: {type(error).__name__}>"
        finally:
            self._path.discard(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return [self.rebuild(item, depth + 1) for item in value]
        if isinstance(value, AbstractSet):
            return [self.rebuild(item, depth + 1) for item in sorted(value, key=repr)]
        return self._object(value, depth)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        rebuilt: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key)
            while name in rebuilt:  # 1 and "1" are two keys of a dict and one of an object
                name = f"{name}_{len(rebuilt)}"
            rebuilt[name] = self.rebuild(item, depth + 1)
        return rebuilt

    def _key(self, key: Any) -> str:
        if isinstance(key, Enum):
            key = key.value
        if isinstance(key, str):
            name = text(key)
        elif key is None or isinstance(key, bool):
            name = {None: "null", True: "true", False: "false"}[key]
        else:
            name = _spelt(key)
        if self._max_key_bytes is None:
            return name
        name = name.replace("\0", "")
        if len(name) * 4 > self._max_key_bytes:
            name = name.encode()[: self._max_key_bytes - 8].decode("utf-8", "ignore")
        return name or "_"

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, type):
            return text(repr(value))
        known = _known_object(value)
        if known is not value:
            return self.rebuild(known, depth)
        if callable(dump := getattr(value, "model_dump", None)):
            return self.rebuild(dump(), depth)
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self.rebuild(fields, depth)
        return text(repr(value))


def _scalar(value: str | float) -> str | int | float | None:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        number = int(value)
        return number if _MIN_INT <= number <= _MAX_INT else _digits(number)
    return float(value) if math.isfinite(value) else None


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no more than 4,300 decimal digits
        return hex(number)


def _spelt(key: object) -> str:
    try:
        return text(str(key))
    except Exception:  # noqa: BLE001 - foreign objects raise what they like
        return f"<unreadable {type(key).__name__}>"


def _known_object(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Turn the standard library's own types into what stands for them; others stay."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode("ascii")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value

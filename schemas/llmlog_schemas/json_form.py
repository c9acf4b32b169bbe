"""The JSON form of any Python object in a payload. Pure, and never raises.

orjson writes the usual payload directly. What it refuses (objects that are not JSON, lone
surrogates, integers over 64 bits, keys that are no strings, cycles, great depth) is first rebuilt
by `to_plain`.
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

from llmlog_schemas.limits import MAX_DOCUMENT_DEPTH

SELF_REFERENCE: Final = "<cut: refers to itself>"
"""The text that replaces a container within itself."""

_PART_CHARACTERS: Final = 1 << 16
"""A longer text is encoded part by part: one that is hard to encode takes 70 ns a character."""

_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**64 - 1


def dumps(value: object) -> bytes:
    """Write any object as one line of JSON."""
    try:
        # Dataclasses are read by `to_plain`: orjson ends the process at one with an empty slot.
        return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return orjson.dumps(to_plain(value))


def dumps_in_parts(value: object) -> bytes:
    """Write like `dumps`, but a long text part by part: other threads may run between two."""
    try:
        return orjson.dumps(_in_parts(value), option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return dumps(value)


def _in_parts(value: Any) -> Any:
    kind = type(value)
    if kind is str and len(value) > _PART_CHARACTERS:
        parts = (
            dumps(value[start : start + _PART_CHARACTERS])[1:-1]
            for start in range(0, len(value), _PART_CHARACTERS)
        )
        return orjson.Fragment(b'"' + b"".join(parts) + b'"')
    if kind is dict:
        return {key: _in_parts(item) for key, item in value.items()}
    return [_in_parts(item) for item in value] if kind is list else value


def to_plain(
    value: Any,
    *,
    max_depth: int = MAX_DOCUMENT_DEPTH,
    max_key_bytes: int | None = None,
    is_original: bool = False,
) -> Any:
    """Rebuild a value from dict, list, str, int, float, bool and None alone.

    Args:
        value: any object; it is not changed.
        max_depth: deeper values are replaced by a text that says so.
        max_key_bytes: longer keys are shortened to so many bytes of UTF-8; NUL is removed from
            keys, and none is empty.
        is_original: numbers that JSON cannot write are kept as text, not replaced by null.
    """
    return _Rebuilder(max_depth, max_key_bytes, is_original=is_original).rebuild(value, 1)


def to_text(value: str) -> str:
    """Return the string; lone surrogates become backslash escapes."""
    if type(value) is str and value.isascii():
        return value
    exact = str.__str__(value)  # a subclass may override it
    if len(exact) > _PART_CHARACTERS:
        starts = range(0, len(exact), _PART_CHARACTERS)
        return "".join(to_text(exact[start : start + _PART_CHARACTERS]) for start in starts)
    try:
        exact.encode()
    except UnicodeEncodeError:
        return exact.encode("utf-8", "backslashreplace").decode()
    return exact


class _Rebuilder:
    """One walk over one value. It remembers the containers above, to find cycles."""

    def __init__(
        self, max_depth: int, max_key_bytes: int | None, *, is_original: bool = False
    ) -> None:
        self._is_original = is_original
        self._max_depth = max_depth
        self._max_key_bytes = max_key_bytes
        self._path: set[int] = set()

    def rebuild(self, value: Any, depth: int) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, (str, int, float)) and not isinstance(value, Enum):
            return self._scalar(value)
        if id(value) in self._path:
            return SELF_REFERENCE
        if depth > self._max_depth:
            return f"<cut: deeper than {self._max_depth} levels>"
        self._path.add(id(value))
        try:
            return self._container(value, depth)
        except Exception as error:  # noqa: BLE001 - any object's own code runs here
            return f"<unreadable {type(value).__name__}: {type(error).__name__}>"
        finally:
            self._path.discard(id(value))

    def _scalar(self, value: Any) -> Any:
        if self._is_original and isinstance(value, float) and not math.isfinite(value):
            return float.__repr__(value)
        return _convert_scalar(value)

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
            name = to_text(key)
        elif key is None or isinstance(key, bool):
            name = {None: "null", True: "true", False: "false"}[key]
        else:
            name = _write_key(key)
        if self._max_key_bytes is None:
            return name
        name = name.replace("\0", "")
        if len(name) * 4 > self._max_key_bytes:
            name = name.encode()[: self._max_key_bytes - 8].decode("utf-8", "ignore")
        return name or "_"

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, type):
            return to_text(repr(value))
        converted = _convert_standard_type(value)
        if converted is not value:
            return self.rebuild(converted, depth)
        if callable(dump := getattr(value, "model_dump", None)):
            return self.rebuild(dump(), depth)
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self.rebuild(fields, depth)
        return to_text(repr(value))


def _convert_scalar(value: str | float) -> str | int | float | None:
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, int):
        number = int(value)
        return number if _MIN_INT <= number <= _MAX_INT else _write_integer(number)
    return float(value) if math.isfinite(value) else None


def _write_integer(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no more than 4,300 decimal digits
        return hex(number)


def _write_key(key: object) -> str:
    try:
        return to_text(str(key))
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return f"<unreadable {type(key).__name__}>"


def _convert_standard_type(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return the JSON form of the standard library's types; other objects themselves."""
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

"""Owns the changes that mend a document: how they are written, and what each does to it. Pure.

A field is named as Elasticsearch names it: `metadata.user_api_key_alias`. It is found whichever way
a document spells it: as objects in each other, as one key with dots, and within lists.
"""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ConfigurationError
from llmlog_schemas.fields import INDEXED_AT, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_CHANGES: Final = 16
MAX_FIELD_CHARACTERS: Final = 200
MAX_VALUE_CHARACTERS: Final = 4000
"""A letter that was whole has to stay small enough for its topic where its record fails again."""
PROTECTED: Final = frozenset(
    ("_id", "event_id", TIMESTAMP, "startTime", "endTime", "completionStartTime", INDEXED_AT)
)
"""Fields that no change touches: an event stays itself, and where it is in time."""

LONG_BOUND: Final = 2**63
"""A long is below it, and not below its negative: in Elasticsearch and in Avro."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,4})?")
_MAX_DIGITS: Final = 4000
_SHOWN_CHARACTERS: Final = 100


class CannotChangeError(ValueError):
    """A change does not fit the document; the text says why, without a value of it."""


class ChangeKind(StrEnum):
    """What a change does; the order of these is that in which changes are made."""

    DROP = "drop"
    """The field is taken away."""
    COERCE = "coerce"
    """The field's value becomes one of a type."""
    SET = "set"
    """The field has this value."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        kind: of the change.
        field: its name, with dots between its levels.
        value: what it is set to, as JSON has it; the type's name where it is coerced.
    """

    kind: ChangeKind
    field: str
    value: Any = None

    def describe(self) -> str:
        """Return the change in one line, as a person writes it on the command line."""
        if self.kind is ChangeKind.DROP:
            return f"drop {self.field}"
        is_set = self.kind is ChangeKind.SET
        value = json.dumps(self.value, ensure_ascii=False) if is_set else self.value
        return f"{self.kind} {self.field}={value}"

    def make(self, document: dict[str, Any]) -> int:
        """Change a document; return in how many places.

        Raises:
            CannotChangeError: the value cannot have that type, or the field cannot be there.
        """
        parts = self.field.split(".")
        places = list(_find(document, parts))
        for holder, key in places:
            if self.kind is ChangeKind.DROP:
                del holder[key]
            elif self.kind is ChangeKind.SET:
                holder[key] = copy.deepcopy(self.value)
            else:
                holder[key] = _coerce(holder[key], self.value, self.field)
        if places or self.kind is not ChangeKind.SET:
            return len(places)
        _create(document, parts, copy.deepcopy(self.value))
        return 1


def read_json(text: str) -> Any:
    """Return what a JSON text holds, with nothing lost.

    A number that Python would keep less exactly becomes an infinite one, of which no JSON is
    written: it is refused then, if it is still there.

    Raises:
        CannotChangeError: a key stands twice in an object, of which Python would keep one.
        ValueError: it is no JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(
        text,
        parse_constant=refuse,
        parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else math.inf,
        parse_float=_read_float,
        object_pairs_hook=_read_object,
    )


def _read_float(text: str) -> float:
    number = float(text)
    try:
        return number if Decimal(repr(number)) == Decimal(text) else math.inf
    except ArithmeticError:  # an exponent of twenty digits
        return math.inf


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            name = repr(key[:_SHOWN_CHARACTERS])
            raise CannotChangeError(f"cannot be mended: the key {name} stands twice")
        found[key] = value
    return found


def find_unkept(document: Mapping[str, Any]) -> str:
    """Return the name of a field with a number that cannot be kept; empty where there is none."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        name, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return name
        if isinstance(value, dict):
            left += [(f"{name}.{key}" if name else key, inner) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [(name, inner) for inner in value]
    return ""


def read_first(document: Mapping[str, Any], field: str) -> Any:
    """Return the first value of a field; None where it has none."""
    return next((holder[key] for holder, key in _find(document, field.split("."))), None)


def parse_changes(
    *, drop: Sequence[str] = (), coerce: Sequence[str] = (), to_set: Sequence[str] = ()
) -> tuple[Change, ...]:
    """Return the changes in the order in which they are made.

    Args:
        drop: names of fields.
        coerce: `FIELD=TYPE`.
        to_set: `FIELD=VALUE`; a value that is JSON is that, any other is a text.

    Raises:
        ConfigurationError: one of them is wrong, or touches what is protected.
    """
    changes = (
        *(Change(ChangeKind.DROP, _check(name, f"drop {name}")) for name in drop),
        *(_parse_coercion(text) for text in coerce),
        *(_parse_setting(text) for text in to_set),
    )
    if len(changes) > MAX_CHANGES:
        raise ConfigurationError(f"{len(changes)} changes: at most {MAX_CHANGES} at once")
    return changes


def _parse_coercion(text: str) -> Change:
    field, _, kind = text.partition("=")
    if kind not in TYPES:
        known = ", ".join(TYPES)
        raise ConfigurationError(f"coerce {text[:100]}: write FIELD=TYPE; types are {known}")
    return Change(ChangeKind.COERCE, _check(field, f"coerce {text}"), kind)


def _parse_setting(text: str) -> Change:
    field, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"set {text[:100]}: write FIELD=VALUE")
    if len(value) > MAX_VALUE_CHARACTERS:
        raise ConfigurationError(f"set {field[:100]}: at most {MAX_VALUE_CHARACTERS} characters")
    return Change(ChangeKind.SET, _check(field, f"set {field}"), _read_value(value))


def _check(field: str, where: str) -> str:
    """Return the name of a field that may be changed."""
    if not all(field.split(".")) or len(field) > MAX_FIELD_CHARACTERS:
        raise ConfigurationError(f"{where[:100]}: this names no field")
    if field.partition(".")[0] in PROTECTED:
        raise ConfigurationError(
            f"{where[:100]}: an event's id and its times are never changed, so that it stays one "
            "document"
        )
    return field


def _read_value(text: str) -> Any:
    try:
        value = read_json(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def _find(holder: Any, parts: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each object that has the field, and its key there."""
    if isinstance(holder, list):
        for item in holder:
            yield from _find(item, parts)
    elif isinstance(holder, dict):
        for number in range(1, len(parts) + 1):
            key = ".".join(parts[:number])
            if key not in holder:
                continue
            if number == len(parts):
                yield holder, key
            else:
                yield from _find(holder[key], parts[number:])


def _create(document: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    holder = document
    for number, part in enumerate(parts[:-1], 1):
        inner = holder.setdefault(part, {})
        if not isinstance(inner, dict):
            raise CannotChangeError(f"{'.'.join(parts[:number])} is no object")
        holder = inner
    holder[parts[-1]] = value


def _coerce(value: Any, kind: str, field: str) -> Any:
    if value is None:
        return None
    if isinstance(value, list) and kind != "object":
        return [_coerce(item, kind, field) for item in value]
    try:
        return TYPES[kind](value)
    except ValueError:
        name = _NAMES.get(type(value), "an object")
        raise CannotChangeError(f"{field} has {name} that cannot be of type {kind}") from None


def _to_long(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        number = _to_double(value)
        if not number.is_integer():
            raise ValueError
        value = int(number)
    if not -LONG_BOUND <= value < LONG_BOUND:
        raise ValueError
    return int(value)


def _to_double(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - the caller knows one kind of error
    try:
        number = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise ValueError


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _to_object(value: Any) -> Any:
    """Return an object: one that a text holds as JSON, or one around the value."""
    if isinstance(value, str):
        inner = _read_value(value)
        return inner if isinstance(inner, dict) else {"value": value}
    return value if isinstance(value, dict) else {"value": value}


TYPES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "keyword": _to_text,
    "text": _to_text,
    "long": _to_long,
    "integer": _to_long,
    "double": _to_double,
    "float": _to_double,
    "boolean": _to_boolean,
    "object": _to_object,
}
"""Elasticsearch's names of types, as its reasons have them, and what makes a value of each."""
_NAMES: Final = {str: "a text", bool: "a boolean", int: "a number", float: "a number"}

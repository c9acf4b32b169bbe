"""LiteLLM's standard logging payload to an event. Pure; no payload that is a dict is refused.

A field of the wrong type is coerced where that loses nothing; otherwise it is absent, and its
original stands under `extra.mistyped`. Keys that no table knows stand under `extra`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_schemas import event as records
from llmlog_schemas.fields import DOCUMENT, EXTRA, SEARCH_TEXTS, TIMESTAMP, TYPED, UNTYPED, Kind
from llmlog_schemas.json_form import dumps, plain, text
from llmlog_schemas.search_text import searchable_text

if TYPE_CHECKING:
    from llmlog_schemas.event import LLMEvent

FLATTENED_DEPTH: Final = 18
FLATTENED_KEY_BYTES: Final = 512
MAX_WORD: Final = 8192
"""Characters of a typed field that is a word; eight times what Elasticsearch indexes of it."""

_MAX_LONG: Final = 2**63 - 1
_MAX_MS: Final = 8_640_000_000_000_000
_MISTYPED: Final = object()


class PayloadError(ValueError):
    """What came is no payload; the text says what it was."""


def to_event(
    payload: object,
    *,
    call_id: str = "",
    call: tuple[object, ...] = (),
    captured_at: float | None = None,
    search_text: bool = True,
    model_map_information: bool = False,
) -> LLMEvent:
    """Convert one payload.

    Args:
        payload: `standard_logging_object`; it is not changed.
        call_id: for a payload without `litellm_call_id`.
        call: what the id of the call was before redaction, the first that is one: the event id is
            made of it. Calls whose ids look alike when they are hidden are different calls.
        captured_at: epoch seconds, for a payload without a usable time; default now.
        search_text: extract the text of prompt and answer for full-text search.
        model_map_information: keep LiteLLM's price table entry.

    Raises:
        PayloadError: the payload is None or no dict.
    """
    if not isinstance(payload, Mapping):
        raise PayloadError(f"the payload is {type(payload).__name__}, not a dict")
    fields = _Fields(payload)
    typed = fields.take(_TYPED)
    untyped = fields.take(_UNTYPED if model_map_information else _UNTYPED_BUT_MAP)
    start_ms = _start_ms(fields, typed, captured_at)
    if search_text:
        for name, source in SEARCH_TEXTS.items():
            if found := searchable_text(untyped.get(source)):
                untyped[name] = found
    words = typed.get
    event_id = records.make_event_id(
        start_ms,
        call_id=next(filter(None, map(_name, (*call, typed.get("litellm_call_id"), call_id))), ""),
        call_type=words("call_type") or "",
        status=words("status") or "",
        start_time=_spelt(payload.get("startTime")),
    )
    fields.bound_words(typed)
    document = {name: value for name, value in typed.items() if value != ""}
    if "litellm_call_id" not in document and (call_id := text(call_id)[:MAX_WORD]):
        document["litellm_call_id"] = call_id
    document[TIMESTAMP] = document["startTime"] = start_ms
    document |= untyped
    if extra := fields.extra():
        document[EXTRA] = extra
    known = document.get
    return {
        "event_id": event_id,
        "litellm_call_id": known("litellm_call_id", ""),
        "trace_id": known("trace_id", ""),
        "call_type": known("call_type", ""),
        "status": known("status", ""),
        "model": known("model", ""),
        "start_time_ms": start_ms,
        "end_time_ms": known("endTime", records.ABSENT_TIME),
        "response_time": known("response_time", records.ABSENT_NUMBER),
        "response_cost": known("response_cost", records.ABSENT_NUMBER),
        "prompt_tokens": known("prompt_tokens", records.ABSENT_COUNT),
        "completion_tokens": known("completion_tokens", records.ABSENT_COUNT),
        "total_tokens": known("total_tokens", records.ABSENT_COUNT),
        "document": dumps(document),
    }


def fit(event: LLMEvent, max_bytes: int) -> LLMEvent:
    """Return the event with the largest fields of its document cut until it has room.

    A marker takes their place, `{"llmlog_cut": {"bytes": …, "sha256": …}}`, or where a text
    belongs one that says the same. Where that is not enough, only the typed fields are left.
    """
    whole = event["document"]
    if len(whole) <= max_bytes:
        return event
    document = orjson.loads(whole)
    excess = len(whole) - max_bytes
    written = {name: orjson.dumps(document[name]) for name in document.keys() - _UNCUT}
    for name in sorted(written, key=lambda field: (-len(written[field]), field)):
        if excess <= 0:
            break
        marker = _marker(DOCUMENT.get(name, Kind.STORED), written[name])
        if (gain := len(written[name]) - len(orjson.dumps(marker))) > 0:
            document[name] = marker
            excess -= gain
    if excess > 0:
        document = {name: value for name, value in document.items() if name in _UNCUT}
        document[EXTRA] = _marker(Kind.STORED, whole)
    return {**event, "document": orjson.dumps(document)}


def _marker(kind: Kind, written: bytes) -> Any:
    """Return what takes the place of a field; numbers are too small to be cut."""
    size, sha256 = len(written), hashlib.sha256(written).hexdigest()
    if kind is Kind.STORED or kind is Kind.FLATTENED:
        return {"llmlog_cut": {"bytes": size, "sha256": sha256}}
    said = f"<cut: {size} bytes of JSON, sha256 {sha256}>"
    return [said] if kind is Kind.KEYWORDS else said


class _Fields:
    """A payload being taken apart: what was taken, what did not fit its kind."""

    def __init__(self, payload: Mapping[Any, Any]) -> None:
        self._payload = payload
        self.mistyped: dict[str, Any] = {}

    def take(self, table: _Table) -> dict[str, Any]:
        """Return the fields of a table that are there and of their kind."""
        get, found = self._payload.get, {}
        for name, coerce in table:
            value = get(name)
            if value is None:
                continue
            value = coerce(value)
            if value is _MISTYPED:
                self.reject(name)
            else:
                found[name] = value
        return found

    def bound_words(self, typed: dict[str, Any]) -> None:
        """Move typed words that are no words any more to where `fit` can cut them."""
        for name in _WORDS:
            if len(typed.get(name, "")) > MAX_WORD:
                self.reject(name)
                del typed[name]

    def reject(self, name: str) -> None:
        self.mistyped[name] = _original(self._payload[name])

    def extra(self) -> dict[str, Any]:
        """Return what no table knows, and the originals of what was mistyped."""
        rest = {key: value for key, value in self._payload.items() if key not in _KNOWN}
        if EXTRA in rest and rest[EXTRA] is None:
            del rest[EXTRA]
        if self.mistyped:
            if "mistyped" in rest:
                self.mistyped["mistyped"] = rest["mistyped"]
            rest["mistyped"] = self.mistyped
        return plain(rest) if rest else rest


def _start_ms(fields: _Fields, typed: Mapping[str, Any], captured_at: float | None) -> int:
    """Return the start in epoch milliseconds; a clock beyond reason is a mistyped field."""
    start = typed.get("startTime")
    if start is not None and records.EARLIEST_MS <= start < records.LATEST_MS:
        return int(start)
    if start is not None:
        fields.reject("startTime")
    end = typed.get("endTime")
    if end is not None and records.EARLIEST_MS <= end < records.LATEST_MS:
        return int(end)
    return int((time.time() if captured_at is None else captured_at) * 1000)


def _name(call: object) -> str:
    """Return a call's id as it is taken from a payload; nothing where it cannot be one."""
    coerced = _keyword(call)
    return "" if coerced is _MISTYPED else str(coerced)


def _spelt(start_time: Any) -> str:
    """Return what the event id is made of; the same for a doubly fired pair, whatever it is."""
    return str(start_time) if isinstance(start_time, float) else dumps(start_time).decode()


def _original(value: Any) -> Any:
    """Keep numbers that JSON cannot write as text; null would lose them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _keyword(value: Any) -> Any:
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and (number := plain(value)) is not None:
        return str(number)
    return _MISTYPED


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value, _MISTYPED)
    return _MISTYPED


def _double(value: Any) -> Any:
    if type(value) is float and not value - value:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _MISTYPED
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _MISTYPED
    return number if math.isfinite(number) else _MISTYPED


def _long(value: Any) -> Any:
    if type(value) is int and 0 <= value <= _MAX_LONG:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _MISTYPED
    try:
        number = int(value)
        whole = isinstance(value, (int, str)) or number == value
    except (ValueError, OverflowError):
        return _MISTYPED
    return number if whole and 0 <= number <= _MAX_LONG else _MISTYPED


def _seconds(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        try:
            value = value.timestamp()
        except (ValueError, OverflowError, OSError):
            return _MISTYPED
    number = _double(value)
    if number is _MISTYPED or abs(number * 1000) > _MAX_MS:
        return _MISTYPED
    return int(number * 1000)


def _keywords(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        return _MISTYPED
    coerced = [_keyword(item) for item in items if item is not None]
    return _MISTYPED if _MISTYPED in coerced else coerced


def _flattened(value: Any) -> Any:
    if type(value) is dict and _lies_flat(value, 1):
        return value
    rebuilt = plain(value, max_depth=FLATTENED_DEPTH, max_key_bytes=FLATTENED_KEY_BYTES)
    return rebuilt if isinstance(rebuilt, dict) else _MISTYPED


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_MAX_KEYS: Final = 4096
_flat_keys: set[str] = set()
"""Keys that Elasticsearch takes as they are; the same ones come with every payload."""


def _lies_flat(value: dict[Any, Any] | list[Any], depth: int) -> bool:
    """Tell whether `plain` would change nothing that the writing of JSON does not change too."""
    if depth > FLATTENED_DEPTH:
        return False
    items: Any = value
    if type(value) is dict:
        if not _flat_keys.issuperset(value) and not all(map(_is_flat_key, value)):
            return False
        items = value.values()
    for item in items:
        kind = type(item)
        if kind in _SCALARS:
            continue
        if (kind is not dict and kind is not list) or not _lies_flat(item, depth + 1):
            return False
    return True


def _is_flat_key(key: Any) -> bool:
    if type(key) is not str or not key.isascii() or not 0 < len(key) <= FLATTENED_KEY_BYTES // 4:
        return False
    if "\0" in key:
        return False
    if len(_flat_keys) < _MAX_KEYS:
        _flat_keys.add(key)
    return True


_COERCE: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.KEYWORD: _keyword,
    Kind.TEXT: _keyword,
    Kind.BOOLEAN: _boolean,
    Kind.LONG: _long,
    Kind.DOUBLE: _double,
    Kind.SECONDS: _seconds,
    Kind.KEYWORDS: _keywords,
    Kind.FLATTENED: _flattened,
    Kind.STORED: lambda value: value,
}

_Table = tuple[tuple[str, Callable[[Any], Any]], ...]


def _table(kinds: Mapping[str, Kind]) -> _Table:
    return tuple((name, _COERCE[kind]) for name, kind in kinds.items())


_TYPED: Final = _table(TYPED)
_UNTYPED: Final = _table(UNTYPED)
_UNTYPED_BUT_MAP: Final = tuple(row for row in _UNTYPED if row[0] != "model_map_information")
_WORDS: Final = tuple(name for name, kind in TYPED.items() if kind is Kind.KEYWORD)
_KNOWN: Final = frozenset((*TYPED, *UNTYPED))
_UNCUT: Final = frozenset((TIMESTAMP, *TYPED))

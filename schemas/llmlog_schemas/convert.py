"""Converts LiteLLM's standard logging payload to an event. Pure; any dict is accepted.

A field of the wrong type is converted where that loses nothing. Otherwise it is absent, and its
original is kept under `extra.mistyped`. Keys that are in no table are kept under `extra`.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas import event as records
from llmlog_schemas.derived.compute import derive
from llmlog_schemas.derived.table import CALL_FACTS
from llmlog_schemas.fields import (
    CURRENT_DOCUMENT_VERSION,
    DOCUMENT_VERSION,
    EXTRA,
    TIMESTAMP,
    TYPED,
    UNTYPED,
)
from llmlog_schemas.json_form import dumps, to_plain, to_text
from llmlog_schemas.kinds import Kind
from llmlog_schemas.limits import (
    MAX_FLATTENED_DEPTH,
    MAX_FLATTENED_KEY_BYTES,
    MAX_KEYWORD_CHARACTERS,
)
from llmlog_schemas.search_text import readable, search_texts

if TYPE_CHECKING:
    from llmlog_schemas.event import LLMEvent

_MAX_LONG: Final = 2**63 - 1
_MAX_MS: Final = 8_640_000_000_000_000
_MISTYPED: Final = object()
_PASS_THROUGH: Final = "pass_through_endpoint"  # noqa: S105 - no password

_USER_ID_KEYS: Final = ("id", "user_id", "userId", "uid", "sub", "email", "name", "username")
"""Where an object for `user` has its id; the first that is there counts."""


class PayloadError(ValueError):
    """The value is no payload; the text says what type it has."""


def to_event(
    payload: object,
    *,
    call_id: str = "",
    call: tuple[object, ...] = (),
    captured_at: float | None = None,
    search_text: bool = True,
    model_map_information: bool = False,
    write: Callable[[dict[str, Any]], bytes] = dumps,
    hidden: frozenset[str] = frozenset(),
    place: str = "",
) -> LLMEvent:
    """Convert one payload.

    Args:
        payload: `standard_logging_object`; it is not changed.
        call_id: for a payload without `litellm_call_id`.
        call: candidates for the call's id before redaction; the first usable one goes into the
            event id. Two calls whose ids look the same after redaction are different events.
        captured_at: epoch seconds, for a payload without a usable time; default now.
        search_text: extract the text of prompt and answer for full-text search.
        model_map_information: keep LiteLLM's price table entry.
        write: makes the JSON of the document.
        hidden: names of derived fields that the user redacts.
        place: period and group of the document's index.

    Raises:
        PayloadError: the payload is None or no dict.
    """
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise PayloadError(f"the payload is {type(payload).__name__}, not a dict")
    user = payload.get("end_user")
    if user is not None and type(user) is not str and isinstance(user, Mapping):
        payload = _with_user_id(payload)
    fields = _Fields(payload)
    typed = fields.convert(_TYPED)
    untyped = fields.convert(_UNTYPED if model_map_information else _UNTYPED_WITHOUT_PRICES)
    start_ms = _start_ms(fields, typed, captured_at)
    if mistyped := derive(payload, typed, untyped, readable(untyped.get("response"))):
        fields.mistyped.update(mistyped)
    for name in hidden:
        untyped.pop(name, None)
    if search_text:
        mcp = untyped.get("metadata", {}).get("mcp_tool_call_metadata")
        has_body = typed.get("call_type") == _PASS_THROUGH
        untyped.update(
            search_texts(untyped.get("messages"), untyped.get("response"), mcp, has_body=has_body)
        )
    words = typed.get
    event_id = records.make_event_id(
        start_ms,
        call_id=next(
            filter(None, map(_to_call_id, (*call, typed.get("litellm_call_id"), call_id))), ""
        ),
        call_type=words("call_type") or "",
        status=words("status") or "",
        start_time=_write_start_time(payload.get("startTime")),
    )
    fields.reject_long_keywords(typed)
    document = {name: value for name, value in typed.items() if value != ""}
    if "litellm_call_id" not in document and (call_id := to_text(call_id)[:MAX_KEYWORD_CHARACTERS]):
        document["litellm_call_id"] = call_id
    document[TIMESTAMP] = document["startTime"] = start_ms
    document |= untyped
    document[DOCUMENT_VERSION] = CURRENT_DOCUMENT_VERSION
    if extra := fields.extra():
        document[EXTRA] = extra
    known = document.get
    return {
        "event_id": event_id,
        "index_place": place,
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
        "document": write(document),
    }


def _with_user_id(payload: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the payload; `end_user` is the user's id there, and beside it stands the object."""
    user = payload["end_user"]
    try:
        names = [user.get(key) for key in _USER_ID_KEYS]
        known = next((name for name in names if type(name) in {str, int} and name != ""), None)
        return {
            **payload,
            "end_user": dumps(user).decode() if known is None else str(known),
            "end_user_object": user,
        }
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return dict(payload)


class _Fields:
    """A payload during its conversion.

    Attributes:
        mistyped: originals of the fields whose values do not fit their kind.
    """

    def __init__(self, payload: Mapping[Any, Any]) -> None:
        self._payload = payload
        self.mistyped: dict[str, Any] = {}

    def convert(self, table: _Table) -> dict[str, Any]:
        """Return the fields of a table that are present and fit their kind."""
        converted: dict[str, Any] = {}
        names, rows = table
        for value, row in zip(map(self._payload.get, names), rows, strict=True):
            if value is None:  # most of them: their rows are not touched
                continue
            name, is_text, coerce = row
            if is_text and type(value) is str and value.isascii():  # the usual case: no call
                converted[name] = value
                continue
            coerced = coerce(value)
            if coerced is _MISTYPED:
                self.reject(name)
            else:
                converted[name] = coerced
        return converted

    def reject_long_keywords(self, typed: dict[str, Any]) -> None:
        """Move keywords that are too long to `extra`, where `truncate_event` can replace them."""
        for name in _KEYWORDS:
            if len(typed.get(name, "")) > MAX_KEYWORD_CHARACTERS:
                self.reject(name)
                del typed[name]

    def reject(self, name: str) -> None:
        """Keep a field's original under `extra.mistyped`."""
        self.mistyped[name] = self._payload[name]

    def extra(self) -> dict[str, Any]:
        """Return the fields that are in no table, and the originals of mistyped ones."""
        rest = {key: value for key, value in self._payload.items() if key not in _KNOWN}
        if EXTRA in rest and rest[EXTRA] is None:
            del rest[EXTRA]
        if self.mistyped:
            if "mistyped" in rest:
                self.mistyped["mistyped"] = rest["mistyped"]
            rest["mistyped"] = to_plain(self.mistyped, is_original=True)
        return rest if _SCALARS.issuperset(map(type, rest.values())) else to_plain(rest)


def _start_ms(fields: _Fields, typed: Mapping[str, Any], captured_at: float | None) -> int:
    """Return the start in epoch milliseconds; an absurd `startTime` is a mistyped field."""
    start = typed.get("startTime")
    if start is not None and records.EARLIEST_MS <= start < records.LATEST_MS:
        return int(start)
    if start is not None:
        fields.reject("startTime")
    end = typed.get("endTime")
    if end is not None and records.EARLIEST_MS <= end < records.LATEST_MS:
        return int(end)
    return int((time.time() if captured_at is None else captured_at) * 1000)


def _to_call_id(call: object) -> str:
    """Return a call's id as a payload field of it would be; empty where it cannot be one."""
    coerced = _to_keyword(call)
    return "" if coerced is _MISTYPED else str(coerced)


def _write_start_time(start_time: Any) -> str:
    """Return the start time in the event id; equal for both payloads of a hook that fires twice."""
    return str(start_time) if isinstance(start_time, float) else dumps(start_time).decode()


def _to_keyword(value: Any) -> Any:
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and (number := to_plain(value)) is not None:
        return str(number)
    return _MISTYPED


def _to_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value, _MISTYPED)
    return _MISTYPED


def _to_double(value: Any) -> Any:
    if type(value) is float and not value - value:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _MISTYPED
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _MISTYPED
    return number if math.isfinite(number) else _MISTYPED


def _to_long(value: Any) -> Any:
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


def _to_milliseconds(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        try:
            value = value.timestamp()
        except (ValueError, OverflowError, OSError):
            return _MISTYPED
    number = _to_double(value)
    if number is _MISTYPED or abs(number * 1000) > _MAX_MS:
        return _MISTYPED
    return int(number * 1000)


def _to_keywords(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        return _MISTYPED
    coerced = [_to_keyword(item) for item in items if item is not None]
    return _MISTYPED if _MISTYPED in coerced else coerced


def _to_flattened(value: Any) -> Any:
    if type(value) is dict and _is_plain_flattened(value, 1):
        return value
    rebuilt = to_plain(value, max_depth=MAX_FLATTENED_DEPTH, max_key_bytes=MAX_FLATTENED_KEY_BYTES)
    return rebuilt if isinstance(rebuilt, dict) else _MISTYPED


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_MAX_CACHED_KEYS: Final = 4096
_flat_keys: set[str] = set()
"""Keys that Elasticsearch accepts as they are; the same ones come with every payload."""


def _is_plain_flattened(value: dict[Any, Any] | list[Any], depth: int) -> bool:
    """Tell whether `to_plain` would change nothing in a value that orjson would not change too."""
    if depth > MAX_FLATTENED_DEPTH:
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
        if (kind is not dict and kind is not list) or not _is_plain_flattened(item, depth + 1):
            return False
    return True


def _is_flat_key(key: Any) -> bool:
    if (
        type(key) is not str
        or not key.isascii()
        or not 0 < len(key) <= MAX_FLATTENED_KEY_BYTES // 4
    ):
        return False
    if "\0" in key:
        return False
    if len(_flat_keys) < _MAX_CACHED_KEYS:
        _flat_keys.add(key)
    return True


_COERCIONS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.KEYWORD: _to_keyword,
    Kind.TEXT: _to_keyword,
    Kind.BOOLEAN: _to_boolean,
    Kind.LONG: _to_long,
    Kind.DOUBLE: _to_double,
    Kind.SECONDS: _to_milliseconds,
    Kind.KEYWORDS: _to_keywords,
    Kind.FLATTENED: _to_flattened,
    Kind.STORED: lambda value: value,
}

_Table = tuple[tuple[str, ...], tuple[tuple[str, bool, Callable[[Any], Any]], ...]]
"""Names of fields, and of each its name, whether it is one text, and what converts its value."""


def _coercions_of(kinds: Mapping[str, Kind]) -> _Table:
    texts = (Kind.KEYWORD, Kind.TEXT)
    rows = tuple((name, kind in texts, _COERCIONS[kind]) for name, kind in kinds.items())
    return tuple(kinds), rows


_TYPED: Final = _coercions_of(TYPED)
_UNTYPED: Final = _coercions_of(UNTYPED)
_UNTYPED_WITHOUT_PRICES: Final = _coercions_of(
    {name: kind for name, kind in UNTYPED.items() if name != "model_map_information"}
)
_KEYWORDS: Final = tuple(name for name, kind in TYPED.items() if kind is Kind.KEYWORD)
_KNOWN: Final = frozenset((*TYPED, *UNTYPED, CALL_FACTS))

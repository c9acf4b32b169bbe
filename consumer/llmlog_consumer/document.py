"""Events to documents: index name, document id, JSON bytes. Pure.

JSON parts are spliced in as they are and never parsed, but not trusted: what could reach
beyond its own line of a bulk body is written again or refused.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import orjson

from llmlog_schemas import records
from llmlog_schemas.records import EARLIEST_MS, EVENT_ID, LATEST_MS, PartName, event_time_ms

if TYPE_CHECKING:
    from llmlog_schemas.records import LLMEvent

DAY_MS: Final = 86_400_000

_OBJECT_PARTS: Final = ("attributes", "metadata", "extra")
_ANY_PARTS: Final = ("messages", "response")
_JSON_STARTS: Final = frozenset(b'{["tfn-0123456789')


class TransformError(ValueError):
    """The event decoded, but no document can be made of it; the text says why."""


class ExpiredError(Exception):
    """The event is older than the limit: its day's index is gone, or soon will be."""


class Documents:
    """Makes documents of events.

    Args:
        alias: the daily indices' common prefix and alias.
        max_event_age: what is older is expired, and never brings an index back to life.
    """

    def __init__(self, alias: str, max_event_age: timedelta) -> None:
        self._max_age_ms = max_event_age / timedelta(milliseconds=1)
        self._index_of_day = lru_cache(maxsize=1000)(lambda day: daily_index(alias, day * DAY_MS))

    def make(self, event: LLMEvent, now_ms: float) -> tuple[str, str, bytes]:
        """Return index name, document id and the document as one line of JSON.

        Args:
            event: as decoded.
            now_ms: epoch milliseconds.

        Raises:
            TransformError: the id, the time or a JSON part is not what it should be.
            ExpiredError: older than `max_event_age`.
        """
        event_id = event["event_id"]
        if EVENT_ID.fullmatch(event_id) is None:
            raise TransformError(f"event_id {event_id[:64]!r} is not 20 of A-Z a-z 0-9 - _")
        time_ms = event_time_ms(event_id)
        if not EARLIEST_MS <= time_ms < LATEST_MS or time_ms > now_ms + DAY_MS:
            raise TransformError(f"start time {time_ms} ms is outside 2020 to 2100 or to come")
        if now_ms - time_ms > self._max_age_ms:
            raise ExpiredError
        return self._index_of_day(time_ms // DAY_MS), event_id, document(event, time_ms)


def daily_index(alias: str, time_ms: int) -> str:
    """Return the name of the index that holds this moment's UTC day."""
    return f"{alias}-{datetime.fromtimestamp(time_ms / 1000, UTC):%Y.%m.%d}"


def document(event: LLMEvent, time_ms: int) -> bytes:
    """Return one line of JSON: typed fields, then the parts spliced in."""
    typed = orjson.dumps(_typed(event, time_ms))[:-1]
    # What looks as the gateway writes it needs no closer look.
    attributes = event["attributes"]
    if attributes[:2] != b'{"' or attributes[-1:] != b"}":
        return _checked(event, typed)
    pieces = [typed, b",", attributes[1:-1]]
    for name, label, starts, ends in _SPLICED:
        part = event[name]
        if part:
            if part[0] not in starts or part[-1] not in ends:
                return _checked(event, typed)
            pieces += label, part
    pieces.append(b"}")
    joined = b"".join(pieces)
    return _checked(event, typed) if b"\n" in joined or b"\r" in joined else joined


def _checked(event: LLMEvent, typed: bytes) -> bytes:
    """Return the document of an event with parts that are not as the gateway writes them."""
    pieces = [typed]
    if members := _part(event, "attributes")[1:-1].strip():
        pieces += b",", members
    for name, label, _, _ in _SPLICED:
        if part := _part(event, name):
            pieces += label, part
    return b"".join([*pieces, b"}"])


_COUNTS: Final[tuple[Literal["prompt_tokens", "completion_tokens", "total_tokens"], ...]] = (
    "prompt_tokens", "completion_tokens", "total_tokens",
)  # fmt: skip
_WORDS: Final[
    tuple[Literal["litellm_call_id", "trace_id", "call_type", "status", "model"], ...]
] = ("litellm_call_id", "trace_id", "call_type", "status", "model")
_SPLICED: Final[tuple[tuple[PartName, bytes, bytes, bytes], ...]] = tuple(
    (name, f',"{name}":'.encode(), *((b"{[", b"}]") if name in _ANY_PARTS else (b"{", b"}")))
    for name in records.JSON_PARTS[1:]
)


def _typed(event: LLMEvent, time_ms: int) -> dict[str, object]:
    """Return the typed fields under LiteLLM's names, without the absent ones."""
    typed: dict[str, object] = {"@timestamp": time_ms, "startTime": event["start_time_ms"]}
    if (end := event["end_time_ms"]) != records.ABSENT_TIME:
        typed["endTime"] = end
    if (seconds := event["response_time"]) == seconds:  # NaN is absence
        typed["response_time"] = seconds
    if (cost := event["response_cost"]) == cost:  # NaN is absence
        typed["response_cost"] = cost
    for name in _COUNTS:
        if (count := event[name]) != records.ABSENT_COUNT:
            typed[name] = count
    for label in _WORDS:
        if word := event[label]:
            typed[label] = word
    return typed


def _part(event: LLMEvent, name: PartName) -> bytes:
    """Return a part that stays on its line and within its braces, or refuse it."""
    part: bytes = event[name]
    if not part:
        return part
    if b"\n" in part or b"\r" in part:
        part = _one_line(name, part)
    if name in _OBJECT_PARTS:
        if part[:1] != b"{" or part[-1:] != b"}":
            raise TransformError(f"{name} is no JSON object: it begins {part[:16]!r}")
    elif part[0] not in _JSON_STARTS:
        raise TransformError(f"{name} is no JSON: it begins {part[:16]!r}")
    return part


def _one_line(name: str, part: bytes) -> bytes:
    """Write JSON that spans lines again as one: in a bulk body a newline is an operation.

    JSON that parses has its newlines between tokens alone, so that spaces can stand for them.
    """
    _parsed(name, part)
    return part.replace(b"\n", b" ").replace(b"\r", b" ").strip()


def _parsed(name: str, part: bytes) -> object:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        # Numbers are left as they are written: Python reads no integer of 5,000 digits.
        return json.loads(part.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise TransformError(f"{name} is no valid JSON: {error}") from None


def check_parts(event: LLMEvent) -> None:
    """Parse every part; called for a document that Elasticsearch could not parse.

    Raises:
        TransformError: a part is no JSON, so the event is at fault and not the mapping.
    """
    for name in records.JSON_PARTS:
        if part := event[name]:
            _parsed(name, part)

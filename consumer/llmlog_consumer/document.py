"""Events to documents: index name, document id, JSON bytes. Pure.

The gateway has made the document already; it is sent as it is and never parsed, but not trusted:
what could reach beyond its own line of a bulk body is written again or refused.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from llmlog_schemas.records import EARLIEST_MS, EVENT_ID, LATEST_MS, event_time_ms

if TYPE_CHECKING:
    from llmlog_schemas.records import LLMEvent

DAY_MS: Final = 86_400_000


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
            TransformError: the id, the time or the document is not what it should be.
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
        return self._index_of_day(time_ms // DAY_MS), event_id, one_line(event["document"])


def daily_index(alias: str, time_ms: int) -> str:
    """Return the name of the index that holds this moment's UTC day."""
    return f"{alias}-{datetime.fromtimestamp(time_ms / 1000, UTC):%Y.%m.%d}"


def one_line(document: bytes) -> bytes:
    """Return the document as one line: in a bulk body a newline is an operation.

    JSON that parses has its newlines between tokens alone, so that spaces can stand for them.

    Raises:
        TransformError: it is no JSON object, or not on one line and no JSON.
    """
    spans_lines = b"\n" in document or b"\r" in document
    # What looks as the gateway writes it needs no closer look.
    if document[:2] == b'{"' and document[-1:] == b"}" and not spans_lines:
        return document
    if spans_lines:
        check(document)
        document = document.replace(b"\n", b" ").replace(b"\r", b" ").strip()
    if document[:1] != b"{" or document[-1:] != b"}":
        raise TransformError(f"document is no JSON object: it begins {document[:16]!r}")
    return document


def check(document: bytes) -> None:
    """Parse the document; called for one that Elasticsearch could not parse.

    Raises:
        TransformError: it is no JSON, so the event is at fault and not the mapping.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        # Numbers are left as they are written: Python reads no integer of 5,000 digits.
        json.loads(document.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise TransformError(f"document is no valid JSON: {error}") from None

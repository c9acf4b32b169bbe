"""The event: its fields, its id, and the value of each field where it is absent. Pure.

An event holds its whole document as JSON bytes, so that the consumer neither parses nor writes
JSON. About a dozen typed fields follow, for other readers of the topic; none is a union, and each
has a value that means absent. Id and document come first: the consumer reads no further.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import secrets
from typing import Final, TypedDict

ABSENT_NUMBER: Final = math.nan
ABSENT_COUNT: Final = -1
ABSENT_TIME: Final = -1

EVENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{20}")

# Milliseconds since the epoch, UTC: 2020-01-01 and 2100-01-01. A time outside of these comes from a
# wrong clock.
EARLIEST_MS: Final = 1_577_836_800_000
LATEST_MS: Final = 4_102_444_800_000


class EventHead(TypedDict):
    """The first fields of an event: all that the consumer needs."""

    event_id: str
    """20 characters, see `make_event_id`."""
    document: bytes
    """A JSON object on one line: the event's document in Elasticsearch."""
    index_place: str
    """Period and group of the document's index, see `make_place`; empty for a day of the default
    group."""


class LLMEvent(EventHead):
    """One call of a model, field for field the record `LLMEvent` of the Avro schema."""

    litellm_call_id: str
    trace_id: str
    call_type: str
    status: str
    """`success` or `failure`; an open string."""
    model: str
    start_time_ms: int
    """Epoch milliseconds, UTC."""
    end_time_ms: int
    """Epoch milliseconds, UTC; -1 where unknown."""
    response_time: float
    """Seconds, for a stream to the first token; NaN where unknown."""
    response_cost: float
    """USD; NaN where unknown."""
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def make_event_id(
    start_time_ms: int, *, call_id: str, call_type: str, status: str, start_time: object
) -> str:
    """Return an event's id: URL-safe base64 of 6 bytes of time and 9 bytes of SHA-256.

    Ids grow with time, so that old Lucene segments are not searched for them. They have the form of
    Elasticsearch's own ids, and are equal for the two payloads of a hook that fires twice.

    Args:
        start_time_ms: epoch milliseconds, the first 6 bytes, big-endian; it decides the index.
        call_id: `litellm_call_id`; where it is empty a random part takes its place.
        call_type: as in the payload.
        status: as in the payload; a fallback's failure and success share a call id.
        start_time: `startTime` as the payload had it, at full resolution.
    """
    seed = f"{call_id or secrets.token_hex(16)}|{call_type}|{status}|{start_time}"
    digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()[:9]
    moment = min(max(start_time_ms, 0), 2**48 - 1).to_bytes(6, "big")
    return base64.urlsafe_b64encode(moment + digest).decode("ascii")


def event_time_ms(event_id: str) -> int:
    """Read the start time, in epoch milliseconds, out of a well-formed event id."""
    # Called for every record: the standard library's URL-safe decoder costs half as much again.
    standard = event_id[:8].replace("-", "+").replace("_", "/")
    return int.from_bytes(binascii.a2b_base64(standard), "big")

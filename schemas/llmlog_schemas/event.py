"""The event: its fields, its id, and what "absent" looks like in each.

Pure. An event has its whole document as JSON in bytes, ready-made, so that the consumer neither
parses nor writes JSON; and for whoever reads the topic about a dozen typed fields without unions,
each with a natural form of absence. Id and document come first: what makes a document reads no
further.
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

# Milliseconds since the epoch, UTC: 2020-01-01 and 2100-01-01. What lies outside is a wild clock.
EARLIEST_MS: Final = 1_577_836_800_000
LATEST_MS: Final = 4_102_444_800_000


class EventHead(TypedDict):
    """What the index needs of an event: the first fields of its record."""

    event_id: str
    """20 characters, see `make_event_id`."""
    document: bytes
    """A JSON object on one line: what Elasticsearch holds of the event."""


class LLMEvent(EventHead):
    """One call of a model, as it travels; field for field the record `LLMEvent` of the schema."""

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
    """Name one event: URL-safe base64 of 6 bytes of time and 9 bytes of SHA-256.

    It grows with time (old Lucene segments are not searched for it), has the form of
    Elasticsearch's own ids, and is equal for the two payloads of a doubly fired hook.

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
    # Asked of every record: the standard library's own URL-safe decoder costs half as much again.
    standard = event_id[:8].replace("-", "+").replace("_", "/")
    return int.from_bytes(binascii.a2b_base64(standard), "big")

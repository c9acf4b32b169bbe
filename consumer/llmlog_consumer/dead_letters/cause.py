"""A dead letter and its headers. Pure.

Key, value and headers are the source's own, byte for byte; what we add stands in headers under
`pipeline.dlq.`, and replaces what an earlier death left there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.message import read_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX: Final = "pipeline.dlq."
VERSION: Final = 1
MAX_REASON_BYTES: Final = 1024
TRUNCATED_KEY_BYTES: Final = 1024
"""What is kept of a key where cutting the value is not enough; the source's own headers go then."""
OURS: Final = frozenset(
    PREFIX + name
    for name in (
        "version", "topic", "partition", "offset", "timestamp", "group",
        "stage", "disposition", "exception", "es.status", "es.type", "es.caused_by", "es.reason",
        "fingerprint", "index", "document_id", "schema", "model",
        "attempts", "first_failed_at", "last_failed_at", "replay_count",
        "truncated.length", "truncated.sha256",
    )
)  # fmt: skip
"""The headers that we write."""


class Stage(StrEnum):
    """Where a record died."""

    DECODE = "decode"
    TRANSFORM = "transform"
    OVERSIZE = "oversize"
    INDEX = "index"


class Ending(StrEnum):
    """Why it is not tried again."""

    POISON = "poison"
    PERMANENT = "permanent"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a record is dead.

    Attributes:
        stage: where it died.
        disposition: why it is not tried again.
        exception: our own error, class and text; empty where Elasticsearch refused.
        reason: Elasticsearch's `error.reason`.
        es_status: of the item; 0 where Elasticsearch had no say.
        es_type: `error.type`.
        es_caused_by: `error.caused_by`, type and reason.
        index: where it was to go.
        document_id: what it was to be.
        model: of the event, where it could be read.
        attempts: how often it was sent.
    """

    stage: Stage
    disposition: Ending
    exception: str = ""
    reason: str = ""
    es_status: int = 0
    es_type: str = ""
    es_caused_by: str = ""
    index: str = ""
    document_id: str = ""
    model: str = ""
    attempts: int = 0

    @property
    def said(self) -> str:
        """Return the error in one line, ours or Elasticsearch's."""
        return self.exception or f"{self.es_type}: {self.reason}".removeprefix(": ")

    @property
    def fingerprint(self) -> str:
        """Return 12 hexadecimal digits that letters of one cause share."""
        return fingerprint_of(self.stage, self.es_type, self.index, self.exception or self.reason)


@lru_cache(1024)  # asked twice of each letter, and many have the same words
def fingerprint_of(stage: str, es_type: str, index: str, said: str) -> str:
    """Return 12 hexadecimal digits; days, values and numbers make no difference."""
    pattern = re.sub(r"\d+", "#", index)
    seed = f"{stage}|{es_type}|{pattern}|{without_literals(said)}"
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]


# Python escapes a quote within quotes, Elasticsearch does not.
_QUOTED: Final = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|'[^']*'|"[^"]*\""""


def without_literals(reason: str) -> str:
    """Strip what differs between documents that died of one cause: quoted values, numbers."""
    bare = re.sub(r"(?i)preview of field's value: .*", "", reason, flags=re.DOTALL)
    bare = re.sub(_QUOTED, "?", bare)
    bare = re.sub(r"(?<=id )\[?'?[A-Za-z0-9_-]{20}'?\]?", "?", bare)
    bare = re.sub(r"(?<![\w-])[A-Za-z0-9_-]{20}(?![\w-])", "?", bare)
    bare = re.sub(r"(?<=begin with )(?:[0-9a-f]{2}\b ?)+|\b0x[0-9a-f]+", "# ", bare)
    return re.sub(r"\d+", "#", bare)


def es_cause(error: Mapping[str, Any]) -> dict[str, str]:
    """Return type, reason and caused_by of Elasticsearch's error object, as `Cause` has them."""
    caused = error.get("caused_by") or {}
    return {
        "es_type": str(error.get("type", "")),
        "reason": str(error.get("reason", "")),
        "es_caused_by": f"{caused.get('type', '')}: {caused.get('reason', '')}" if caused else "",
    }


def headers_of(
    source: Any,
    cause: Cause,
    *,
    group: str,
    now: datetime | None = None,
) -> list[tuple[str, str | bytes | None]]:
    """Return the letter's headers: the source's own, then ours.

    Args:
        source: the Kafka message that died.
        cause: why.
        group: the consumer group that it died in.
        now: moment of failure; default the present.
    """
    theirs = read_headers(source)
    own = [(name, value) for name, value in theirs if not name.startswith(PREFIX)]
    earlier = {
        name.removeprefix(PREFIX): value for name, value in theirs if name.startswith(PREFIX)
    }
    moment = (now or datetime.now(UTC)).isoformat(timespec="milliseconds")
    _, timestamp = source.timestamp()
    ours = {
        "version": VERSION,
        "topic": source.topic(),
        "partition": source.partition(),
        "offset": source.offset(),
        "timestamp": timestamp,
        "group": group,
        "stage": cause.stage,
        "disposition": cause.disposition,
        "exception": cut(cause.exception),
        "es.status": cause.es_status or "",
        "es.type": cause.es_type,
        "es.caused_by": cut(cause.es_caused_by),
        "es.reason": cut(cause.reason),
        "fingerprint": cause.fingerprint,
        "index": cause.index,
        "document_id": cause.document_id,
        "schema": "llmlog.v1.LLMEvent" if cause.stage is not Stage.DECODE else "",
        "model": cut(cause.model),
        "attempts": cause.attempts,
        "first_failed_at": _decoded(earlier.get("first_failed_at")) or moment,
        "last_failed_at": moment,
        "replay_count": _decoded(earlier.get("replay_count")) or "0",
    }
    return own + [
        (PREFIX + name, str(value).encode("utf-8", "replace"))
        for name, value in _present(ours.items())
    ]


def _decoded(header: bytes | None) -> str:
    """Read a header that anybody may have written."""
    return cut((header or b"").decode("utf-8", "replace"))


def _present(items: Iterable[tuple[str, object]]) -> Iterable[tuple[str, object]]:
    return ((name, value) for name, value in items if value not in ("", None))


def cut(reason: str) -> str:
    """Return at most 1 KB of UTF-8 of a reason: Elasticsearch quotes whole values in it."""
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) <= MAX_REASON_BYTES:
        return reason
    return encoded[: MAX_REASON_BYTES - 3].decode("utf-8", "ignore") + "…"

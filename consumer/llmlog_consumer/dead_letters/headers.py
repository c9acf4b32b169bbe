"""Owns the headers of a dead letter: their names, how they are written and how they are read. Pure.

A letter has the source record's own headers byte for byte, and ours under `pipeline.dlq.`. Ours
replace those of an earlier failure. Letters of other programs (`foreign.py`), and records without
any of these headers, are read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.cause import Stage, compute_fingerprint
from llmlog_consumer.dead_letters.foreign import read_foreign
from llmlog_consumer.dead_letters.newest import MAX_INT64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.cause import Cause
    from llmlog_consumer.kafka_record import KafkaRecord

PREFIX: Final = "pipeline.dlq."
VERSION: Final = 1
OUR_HEADERS: Final = frozenset(
    PREFIX + name
    for name in (
        *("version", "topic", "partition", "offset", "timestamp", "group"),
        *("stage", "disposition", "exception", "fingerprint"),
        *("es.status", "es.type", "es.caused_by", "es.reason"),
        *("index", "document_id", "schema", "model"),
        *("attempts", "first_failed_at", "last_failed_at", "replay_count", "mended"),
        *("truncated.length", "truncated.sha256"),
    )
)
"""Every header that a letter of ours can have."""
SOURCE_HEADERS: Final = (f"{PREFIX}topic", f"{PREFIX}partition", f"{PREFIX}offset")

MAX_HEADER_BYTES: Final = 1024
"""Bound of each header with a text: Elasticsearch quotes whole values in its reasons."""
TRUNCATED_KEY_BYTES: Final = 1024
"""Bytes kept of a key when the letter stays too large with a truncated value."""
_MAX_CACHED_BYTES: Final = 300
"""A real topic's name and a partition are never longer; longer ones are not worth a cache entry."""

RawHeader = tuple[str, bytes | None]
HeaderValue = bytes | str | None

_headers_of: Final = methodcaller("headers")
"""`message.headers()` would not do: after many calls CPython specializes it and no longer checks
whether an error was set beside the result. The error is then raised by the next statement, outside
of the `try`."""

_UNREADABLE: Final[dict[int, Any]] = {}
"""Messages whose headers could not be read, by identity. The client has freed part of such a
message by then: asking it again, or freeing it, ends the process. So they are kept for ever."""


def read_headers(record: KafkaRecord) -> list[tuple[str, Any]]:
    """Return a record's headers; none where the name of one is not UTF-8."""
    if id(record) in _UNREADABLE:
        return []
    try:
        return _headers_of(record) or []
    except (SystemError, UnicodeError):
        _UNREADABLE[id(record)] = record
        return []


# Writing


def build_headers(
    source: KafkaRecord, cause: Cause, *, group: str, now: datetime | None = None
) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a letter: the source's own, then ours.

    Args:
        source: the record that failed; it may be a replayed letter, whose history is kept.
        cause: why it failed.
        group: the consumer group in which it failed.
        now: moment of the failure; default the present.
    """
    raw = read_headers(source)
    kept = [(name, value) for name, value in raw if not name.startswith(PREFIX)]
    earlier = {name.removeprefix(PREFIX): value for name, value in raw if name.startswith(PREFIX)}
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
        "exception": shorten(cause.exception),
        "es.status": cause.es_status or "",
        "es.type": cause.es_type,
        "es.caused_by": shorten(cause.es_caused_by),
        "es.reason": shorten(cause.reason),
        "fingerprint": cause.fingerprint,
        "index": cause.index,
        "document_id": cause.document_id,
        "schema": "llmlog.v1.LLMEvent" if cause.stage is not Stage.DECODE else "",
        "model": shorten(cause.model),
        "attempts": cause.attempts,
        "first_failed_at": shorten(_text(earlier.get("first_failed_at"))) or moment,
        "last_failed_at": moment,
        "replay_count": shorten(_text(earlier.get("replay_count"))) or "0",
        "mended": shorten(_text(earlier.get("mended"))),
    }
    return kept + [
        (PREFIX + name, str(value).encode("utf-8", "replace"))
        for name, value in ours.items()
        if value not in ("", None)
    ]


def shorten(text: str) -> str:
    """Return at most `MAX_HEADER_BYTES` of a text as UTF-8; an ellipsis marks what is missing."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_HEADER_BYTES:
        return text
    return encoded[: MAX_HEADER_BYTES - 3].decode("utf-8", "ignore") + "…"


# Reading


class HeaderTexts(Mapping[str, str]):
    """Our headers of one letter as texts, by name without prefix; decoded on access.

    Attributes:
        raw: our headers of the letter, by name with prefix.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, HeaderValue]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        return _text(self.raw[PREFIX + name])

    def get(self, name: str, default: Any = None) -> Any:
        """Return one text, as any mapping does, without the cost of a raised KeyError."""
        raw = self.raw.get(PREFIX + name, self)
        return default if raw is self else _text(raw)  # type: ignore[arg-type]

    def __contains__(self, name: object) -> bool:
        return f"{PREFIX}{name}" in self.raw

    def __iter__(self) -> Iterator[str]:
        return (name[len(PREFIX) :] for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class LetterHeaders(NamedTuple):
    """The headers of one letter, taken apart.

    Attributes:
        ours: without their prefix; those of another program under our names.
        source_headers: the rest: the source record's own.
        writer: `pipeline`, a program of `foreign.py`, or empty for an unknown writer.
    """

    ours: Mapping[str, str]
    source_headers: tuple[RawHeader, ...]
    writer: str


class History(NamedTuple):
    """What the next letter of a source record takes over, as it stands in the headers."""

    replay_count: HeaderValue
    first_failed_at: HeaderValue
    timestamp: HeaderValue
    mended: HeaderValue = None

    @property
    def mending(self) -> str:
        """How the record was mended before; empty where it was not."""
        return _text(self.mended)

    @property
    def replays(self) -> int:
        """How often the record was replayed and failed again."""
        return 0 if self.replay_count == b"0" else _parse_count(self.replay_count)

    @property
    def first_failure(self) -> str:
        """ISO 8601 time of the first failure; empty where the letter has none."""
        return _text(self.first_failed_at)

    @property
    def source_ms(self) -> int | None:
        """Epoch milliseconds of the source record; None where the letter has none."""
        return parse_number(self.timestamp)


MENDED: Final = f"{PREFIX}mended"
HISTORY_HEADERS: Final = tuple(
    PREFIX + name for name in History._fields if name not in History._field_defaults
)
"""Those that every letter has."""


def split_headers(raw: Sequence[RawHeader] | None) -> LetterHeaders:
    """Take a letter's headers apart; of two with one name the later counts."""
    pairs = raw or ()
    by_name = dict(pairs)
    if pairs and OUR_HEADERS.issuperset(by_name):  # as in nearly all letters
        return LetterHeaders(HeaderTexts(by_name), (), "pipeline")
    rest = [pair for pair in pairs if not pair[0].startswith(PREFIX)]
    if len(rest) < len(pairs):
        ours = {name: value for name, value in pairs if name.startswith(PREFIX)}
        return LetterHeaders(HeaderTexts(ours), tuple(rest), "pipeline")
    foreign = read_foreign(rest)
    if foreign is None:
        return LetterHeaders({}, tuple(rest), "")
    source_headers = tuple(pair for pair in rest if pair[0] not in foreign.names)
    return LetterHeaders(foreign.ours, source_headers, foreign.writer)


def read_source(headers: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Return topic, partition and offset of a letter's source; None where a header is missing."""
    if isinstance(headers, HeaderTexts):
        return parse_source(*map(headers.raw.get, SOURCE_HEADERS))
    return parse_source(*map(headers.get, ("topic", "partition", "offset")))


def parse_source(
    topic: HeaderValue, partition: HeaderValue, offset: HeaderValue
) -> tuple[str, int, int] | None:
    """Return the source's topic, partition and offset as header values name them; None if invalid.

    Negative numbers, and numbers beyond 63 bits, are invalid.
    """
    at = parse_number(offset)
    if not topic or not partition or at is None or at < 0:
        return None
    is_cached = len(topic) + len(partition) <= _MAX_CACHED_BYTES
    place = (_cached_partition if is_cached else _parse_partition)(topic, partition)
    return place and (*place, at)


def _parse_partition(topic: HeaderValue, partition: HeaderValue) -> tuple[str, int] | None:
    number = parse_number(partition)
    return None if number is None or number < 0 else (_text(topic), number)


_cached_partition: Final = lru_cache(1024)(_parse_partition)
"""Many letters have the same topic and partition."""


def read_history(headers: Mapping[str, str]) -> History:
    """Return the part of a letter's headers that its next letter takes over."""
    if isinstance(headers, HeaderTexts):
        return History(*map(headers.raw.get, (*HISTORY_HEADERS, MENDED)))
    return History(*map(headers.get, History._fields))


def read_replay_count(headers: Mapping[str, str]) -> int:
    """Return how often a letter's record was replayed and failed again."""
    return _parse_count(headers.get("replay_count"))


def read_fingerprint(headers: Mapping[str, str]) -> str:
    """Return the fingerprint of a letter's cause; computed where the headers have none."""
    return headers.get("fingerprint") or compute_fingerprint(
        headers.get("stage", ""),
        headers.get("es.type", ""),
        headers.get("index", ""),
        headers.get("exception") or headers.get("es.reason", ""),
    )


def parse_number(text: HeaderValue) -> int | None:
    """Return the number in a header that any writer may have made; None if invalid or > 63 bits."""
    try:
        number = int(text or "")
    except ValueError:  # `int` reads digits beyond ASCII in a text, and not in bytes
        return parse_number(_text(text)) if isinstance(text, bytes) else None
    return number if abs(number) <= MAX_INT64 else None


def _parse_count(text: HeaderValue) -> int:
    return max(0, parse_number(text) or 0)


def _text(value: HeaderValue) -> str:
    if isinstance(value, str):
        return value
    return (value or b"").decode("utf-8", "replace")

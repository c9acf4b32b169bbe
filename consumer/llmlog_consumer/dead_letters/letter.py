"""Owns the dead letter as it lies on the topic, from any writer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.headers import (
    PREFIX,
    SOURCE_HEADERS,
    parse_number,
    parse_source,
    read_fingerprint,
    read_headers,
    read_replay_count,
    read_source,
    split_headers,
)
from llmlog_consumer.dead_letters.mending.history import read_history_of_mending
from llmlog_consumer.dead_letters.newest import LATEST_SECONDS, MAX_INT64
from llmlog_consumer.dead_letters.reasons import redact
from llmlog_schemas.framing import peek_event_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letters.headers import HeaderValue, RawHeader
    from llmlog_consumer.kafka_record import KafkaRecord

_GROUP: Final = f"{PREFIX}group"
_TIMESTAMP: Final = f"{PREFIX}timestamp"
_TRUNCATED: Final = f"{PREFIX}truncated.length"
_PARTITION_BITS: Final = 15


@dataclass(slots=True)
class DeadLetter:
    """A letter as it lies on the topic.

    Attributes:
        topic: the dead-letter topic.
        partition: of the letter itself.
        offset: of the letter itself.
        key: of the source record.
        value: of the source record.
        headers: ours, without their prefix; empty for a record of an unknown writer.
        timestamp_ms: of the letter.
        source_headers: the source record's own headers.
        writer: `pipeline`, `connect`, `streams`, `spring`, or empty for an unknown writer.
        event_id: of the event in the value; empty where none can be read.
        name: of the source, see `name_source`.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    timestamp_ms: int
    source_headers: tuple[RawHeader, ...] = ()
    writer: str = ""
    event_id: str = ""
    name: int = 0

    @property
    def coordinates(self) -> str:
        """Where the letter lies: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def source_coordinates(self) -> str:
        """The source record's `topic/partition/offset`; the letter's own where it has none."""
        source = [self.headers.get(part, "") for part in ("topic", "partition", "offset")]
        return "/".join(source) if all(source) else self.coordinates

    @property
    def source(self) -> tuple[str, int, int]:
        """The source record's topic, partition, offset; the letter's own where it has none."""
        return read_source(self.headers) or (self.topic, self.partition, self.offset)

    @property
    def group(self) -> str:
        """The consumer group in which the record failed; empty where no worker of ours wrote it."""
        group: str = self.headers.get("group", "") if self.writer == "pipeline" else ""
        return group

    @property
    def source_ms(self) -> int | None:
        """Epoch milliseconds of the source record; None where the letter has none."""
        return parse_number(self.headers.get("timestamp"))

    @property
    def position(self) -> int:
        """Partition and offset of the letter, packed into one number."""
        return pack_position(self.partition, self.offset)

    @property
    def second(self) -> int:
        """Epoch second of the letter, within 32 bits."""
        return clamp_second(self.timestamp_ms)

    @property
    def size(self) -> int:
        """Bytes of the value; 0 where the letter was read without its content."""
        return len(self.value or b"")

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the cause."""
        return read_fingerprint(self.headers)

    @property
    def replays(self) -> int:
        """How often the record was replayed and failed again."""
        return read_replay_count(self.headers)

    @property
    def is_truncated(self) -> bool:
        """Whether the value is only the beginning of the source's."""
        return "truncated.length" in self.headers

    def as_json(self, *, recovered: bool | None, show_content: bool = False) -> dict[str, Any]:
        """Return what `pipeline dlq list --json` prints of the letter.

        Args:
            recovered: whether its document exists; None where that is not known.
            show_content: leave values in reasons.
        """
        headers = self.headers

        def read_reason(name: str) -> str | None:
            text = headers.get(name)
            return text if text is None or show_content else redact(text)

        return {
            "coordinates": self.coordinates,
            "event_id": self.event_id or None,
            "group": headers.get("group"),
            "writer": self.writer or None,
            "source": {
                "topic": headers.get("topic"),
                "partition": parse_number(headers.get("partition")),
                "offset": parse_number(headers.get("offset")),
            },
            "stage": headers.get("stage"),
            "disposition": headers.get("disposition"),
            "fingerprint": self.fingerprint,
            "exception": read_reason("exception"),
            "es": {
                "status": parse_number(headers.get("es.status")),
                "type": headers.get("es.type"),
                "reason": read_reason("es.reason"),
                "caused_by": read_reason("es.caused_by"),
            }
            if any(name in headers for name in ("es.status", "es.type", "es.reason"))
            else None,
            "document_id": headers.get("document_id"),
            "index": headers.get("index"),
            "model": headers.get("model"),
            "attempts": parse_number(headers.get("attempts")),
            "first_failed_at": headers.get("first_failed_at"),
            "last_failed_at": headers.get("last_failed_at"),
            "replay_count": self.replays,
            "mended": read_history_of_mending(headers.get("mended", ""), show_content=show_content),
            "recovered": recovered,
        }


def read_letter(record: KafkaRecord, *, content: bool = True) -> DeadLetter:
    """Read a record of the dead-letter topic, from any writer.

    Args:
        record: as consumed.
        content: with key, value and the source record's own headers.
    """
    raw = read_headers(record)
    headers, source_headers, writer = split_headers(raw)
    by_name = dict(raw)
    return DeadLetter(
        record.topic(),
        record.partition(),
        record.offset(),
        record.key() if content else None,
        record.value() if content else None,
        headers,
        record.timestamp()[1],
        source_headers if content else (),
        writer,
        read_event_id(record, by_name),
        name_source(record, by_name),
    )


def read_event_id(record: KafkaRecord, headers: Mapping[str, HeaderValue]) -> str:
    """Return the id of the event that a letter holds, whole or truncated; empty where none.

    Args:
        record: the letter.
        headers: of it, raw.
    """
    length = headers.get(_TRUNCATED)
    whole = None if length is None else parse_number(length) or 0
    return peek_event_id(record.value(), whole) or ""


def name_source(record: KafkaRecord, headers: Mapping[str, HeaderValue]) -> int:
    """Return a number of 63 bits that letters have in common that are about the same.

    In one consumer group these are letters of one event. Where no event can be read, they are
    letters of one record: of one topic, partition, offset and time. The time tells a record from
    another that has its offset since the topic was recreated.

    Args:
        record: the letter.
        headers: of it, raw. A letter without a source is its own.
    """
    if group := headers.get(_GROUP):
        if event_id := read_event_id(record, headers):
            return hash((group, event_id)) & MAX_INT64
        if source := parse_source(*map(headers.get, SOURCE_HEADERS)):
            return hash((group, source, headers.get(_TIMESTAMP))) & MAX_INT64
    texts = split_headers(read_headers(record)).ours
    source = read_source(texts) or (record.topic(), record.partition(), record.offset())
    return hash((texts.get("group"), source)) & MAX_INT64


def pack_position(partition: int, offset: int) -> int:
    """Return partition and offset of a letter as one number."""
    return partition | offset << _PARTITION_BITS


def clamp_second(ms: int) -> int:
    """Return the epoch second of epoch milliseconds, within 32 bits."""
    return min(max(0, ms) // 1000, LATEST_SECONDS - 1)

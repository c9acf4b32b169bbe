"""Reads the dead-letter topic: no group, nothing written, bounded by the end at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer import topic_reader
from llmlog_consumer.dead_letters.letter import PREFIX
from llmlog_consumer.kafka_admin import KafkaAdmin
from llmlog_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llmlog_consumer.elastic import Elastic
    from llmlog_schemas.settings import Settings

_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A letter as it lies on the topic.

    Attributes:
        topic: the dead-letter topic.
        partition: of the letter itself.
        offset: of the letter itself.
        key: of the source record.
        value: of the source record.
        headers: ours, without their prefix; empty for a record that something else wrote.
        timestamp_ms: of the letter.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    timestamp_ms: int

    @property
    def coordinates(self) -> str:
        """Where the letter lies: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def name(self) -> str:
        """The source record's coordinates: letters of one name are one letter."""
        source = [self.headers.get(part, "") for part in ("topic", "partition", "offset")]
        return "/".join(source) if all(source) else self.coordinates

    def as_json(self, *, recovered: bool) -> dict[str, Any]:
        """Return what `pipeline dlq list --json` prints of it."""
        h = self.headers
        return {
            "coordinates": self.coordinates,
            "source": {
                "topic": h.get("topic"),
                "partition": _number(h.get("partition")),
                "offset": _number(h.get("offset")),
            },
            "stage": h.get("stage"),
            "disposition": h.get("disposition"),
            "fingerprint": h.get("fingerprint"),
            "exception": h.get("exception"),
            "es": {
                "status": _number(h.get("es.status")),
                "type": h.get("es.type"),
                "reason": h.get("es.reason"),
                "caused_by": h.get("es.caused_by"),
            }
            if "es.status" in h
            else None,
            "document_id": h.get("document_id"),
            "index": h.get("index"),
            "model": h.get("model"),
            "attempts": _number(h.get("attempts")),
            "first_failed_at": h.get("first_failed_at"),
            "last_failed_at": h.get("last_failed_at"),
            "replay_count": _number(h.get("replay_count")) or 0,
            "recovered": recovered,
        }


def letters(settings: Settings) -> Iterator[Found]:
    """Yield every letter that is on the topic now, partition by partition.

    Raises:
        KafkaError: the topic is missing, or the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    admin = KafkaAdmin(settings)
    topic = admin.require(settings.dlq_topic)
    ranges = admin.watermarks(settings.dlq_topic, range(topic.partitions))
    for chunk in topic_reader.read(settings, settings.dlq_topic, ranges):
        for message in chunk:
            yield found(message)


def letter_at(settings: Settings, coordinates: str) -> Found:
    """Return the letter at `topic/partition/offset`.

    Raises:
        ConfigurationError: no such coordinates, or nothing lies there.
    """
    try:
        topic, partition, offset = coordinates.rsplit("/", 2)
        where = (int(partition), int(offset))
    except ValueError:
        raise ConfigurationError(
            f"{coordinates!r} is not topic/partition/offset, as `pipeline dlq list` prints it"
        ) from None
    if topic != settings.dlq_topic:
        raise ConfigurationError(f"{topic} is not the dead-letter topic {settings.dlq_topic}")
    admin = KafkaAdmin(settings)
    there = admin.require(topic)
    if not 0 <= where[0] < there.partitions:
        raise ConfigurationError(f"{topic} has no partition {where[0]}")
    start, end = admin.watermarks(topic, [where[0]])[where[0]]
    if not start <= where[1] < end:
        raise ConfigurationError(
            f"nothing lies at {coordinates}: the partition holds offsets {start} to {end - 1}"
        )
    with topic_reader.assigned(settings, topic, {where[0]: where[1]}) as consumer:
        for message in consumer.consume(1, topic_reader.SILENCE):
            if message.error() is None and message.offset() == where[1]:
                return found(message)
    raise ConfigurationError(f"nothing lies at {coordinates}")


def newest_of_each(found_letters: Iterable[Found]) -> list[Found]:
    """Collapse letters of one name on the newest, and sort newest first."""
    by_name: dict[str, Found] = {}
    for letter in found_letters:
        earlier = by_name.get(letter.name)
        if earlier is None or letter.timestamp_ms >= earlier.timestamp_ms:
            by_name[letter.name] = letter
    return sorted(by_name.values(), key=lambda letter: letter.timestamp_ms, reverse=True)


def recovered(elastic: Elastic, some: Iterable[Found]) -> set[str]:
    """Return the names of those letters whose document exists after all."""
    targets = [
        (letter.name, letter.headers["index"], letter.headers["document_id"])
        for letter in some
        if letter.headers.get("index") and letter.headers.get("document_id")
    ]
    names: set[str] = set()
    for start in range(0, len(targets), _CHUNK):
        chunk = targets[start : start + _CHUNK]
        docs = [{"_index": index, "_id": doc_id, "_source": False} for _, index, doc_id in chunk]
        answer = elastic.demand("POST", "/_mget", body={"docs": docs})
        names |= {
            name
            for (name, _, _), doc in zip(chunk, answer["docs"], strict=True)
            if doc.get("found")
        }
    return names


def found(message: Any) -> Found:
    """Read a message of the dead-letter topic, whoever wrote it."""
    headers = {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in message.headers() or []
        if name.startswith(PREFIX)
    }
    return Found(
        message.topic(), message.partition(), message.offset(), message.key(), message.value(),
        headers, message.timestamp()[1],
    )  # fmt: skip


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None

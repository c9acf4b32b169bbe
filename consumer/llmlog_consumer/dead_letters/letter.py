"""A letter as it lies on the topic, whoever wrote it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters import headers as of_letters
from llmlog_consumer.dead_letters.headers import number
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.dead_letters.offset_map import LARGEST, LATEST
from llmlog_consumer.dead_letters.reasons import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letters.headers import Raw

_TOPIC, _PARTITION, _OFFSET = of_letters.SOURCE
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
        headers: ours, without their prefix; empty for a record that something else wrote.
        timestamp_ms: of the letter.
        own: the source record's headers.
        writer: `pipeline`, `connect`, or empty where nobody can tell.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    timestamp_ms: int
    own: tuple[Raw, ...] = ()
    writer: str = ""

    @property
    def coordinates(self) -> str:
        """Where the letter lies: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def name(self) -> str:
        """The source record's coordinates: letters of one name are one letter."""
        source = [self.headers.get(part, "") for part in ("topic", "partition", "offset")]
        return "/".join(source) if all(source) else self.coordinates

    @property
    def source(self) -> tuple[str, int, int]:
        """The source record's coordinates; the letter's own where it does not say them."""
        return of_letters.source(self.headers) or (self.topic, self.partition, self.offset)

    @property
    def position(self) -> int:
        """Where the letter lies on its topic, as one number."""
        return position(self.partition, self.offset)

    @property
    def second(self) -> int:
        """Epoch second of the letter, within what 32 bits hold."""
        return second(self.timestamp_ms)

    @property
    def size(self) -> int:
        """Bytes of the value, where that was read."""
        return len(self.value or b"")

    @property
    def fingerprint(self) -> str:
        """The cause's short name."""
        return of_letters.fingerprint(self.headers)

    @property
    def replays(self) -> int:
        """How often it was replayed and died again."""
        return of_letters.replays(self.headers)

    @property
    def truncated(self) -> bool:
        """Tell whether the value is only the beginning of the source's."""
        return "truncated.length" in self.headers

    def as_json(self, *, recovered: bool | None, show_content: bool = False) -> dict[str, Any]:
        """Return what `pipeline dlq list --json` prints of it.

        Args:
            recovered: whether its document exists; None where that is not known.
            show_content: leave values in reasons.
        """
        h = self.headers

        def said(name: str) -> str | None:
            text = h.get(name)
            return text if text is None or show_content else redacted(text)

        return {
            "coordinates": self.coordinates,
            "source": {
                "topic": h.get("topic"),
                "partition": number(h.get("partition")),
                "offset": number(h.get("offset")),
            },
            "stage": h.get("stage"),
            "disposition": h.get("disposition"),
            "fingerprint": self.fingerprint,
            "exception": said("exception"),
            "es": {
                "status": number(h.get("es.status")),
                "type": h.get("es.type"),
                "reason": said("es.reason"),
                "caused_by": said("es.caused_by"),
            }
            if any(name in h for name in ("es.status", "es.type", "es.reason"))
            else None,
            "document_id": h.get("document_id"),
            "index": h.get("index"),
            "model": h.get("model"),
            "attempts": number(h.get("attempts")),
            "first_failed_at": h.get("first_failed_at"),
            "last_failed_at": h.get("last_failed_at"),
            "replay_count": self.replays,
            "recovered": recovered,
        }


def found(message: Any, *, content: bool = True) -> DeadLetter:
    """Read a message of the dead-letter topic, whoever wrote it.

    Args:
        message: as consumed.
        content: with its key, its value and its own headers.
    """
    headers, own, writer = of_letters.read(read_headers(message))
    return DeadLetter(
        message.topic(), message.partition(), message.offset(),
        message.key() if content else None, message.value() if content else None,
        headers, message.timestamp()[1], own if content else (), writer,
    )  # fmt: skip


def name_of(headers: list[Raw] | None, message: Any) -> tuple[object, object, int]:
    """Return topic, partition and offset of a letter's source, in whatever spelling is cheap.

    The letter's own where it does not say them: such a letter has no other of its name.
    """
    ours = dict(headers) if headers else {}
    try:
        offset = int(ours[_OFFSET] or "")
        if 0 <= offset <= LARGEST and ours[_TOPIC] and ours[_PARTITION]:
            return ours[_TOPIC], ours[_PARTITION], offset
    except (KeyError, ValueError):
        said = of_letters.read(headers).ours
        offset_said = number(said.get("offset"))
        if offset_said is not None and 0 <= offset_said <= LARGEST and said.get("topic"):
            return said["topic"].encode(), said.get("partition", "").encode(), offset_said
    return None, message.partition(), message.offset()


def position(partition: int, offset: int) -> int:
    """Return where a letter lies on its topic, as one number."""
    return partition | offset << _PARTITION_BITS


def second(ms: int) -> int:
    """Return the epoch second of a moment in milliseconds, within what 32 bits hold."""
    return min(max(0, ms) // 1000, LATEST - 1)

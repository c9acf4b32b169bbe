"""Owns the source record that a dead letter holds, as replay puts it on its way again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.headers import (
    HISTORY_HEADERS,
    MENDED,
    OUR_HEADERS,
    PREFIX,
    SOURCE_HEADERS,
    History,
    parse_number,
    parse_source,
    read_headers,
    read_history,
)
from llmlog_consumer.dead_letters.letter import (
    clamp_second,
    name_source,
    pack_position,
    read_letter,
)

if TYPE_CHECKING:
    from llmlog_consumer.dead_letters.headers import RawHeader
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.kafka_record import KafkaRecord

_NEEDED: Final = itemgetter(f"{PREFIX}group", *SOURCE_HEADERS, *HISTORY_HEADERS)
_TRUNCATED: Final = f"{PREFIX}truncated.length"


@dataclass(slots=True, eq=False)
class ReplayRecord:
    """The source record of a letter, as a `KafkaRecord` with the source's coordinates.

    So a record that fails again gets a letter of the same source. Only what that needs is kept of
    the letter: its headers take as much room as its value.

    Attributes:
        source: topic, partition and offset.
        source_key: byte for byte.
        source_value: byte for byte.
        source_headers: the source record's own headers.
        history: failures and replays so far, as the letter has them.
        ms: epoch milliseconds of the letter.
        position: partition and offset of the letter, packed into one number.
        name: of the source, see `name_source`.
        group: in which the record failed; empty where no worker of ours wrote the letter.
        truncated: the letter, where it has only the beginning of the source's value.
        unmended: the record as it was, where fields of it were changed. A letter that has no room
            for the whole record begins with this one's value: the source topic has its original.
    """

    source: tuple[str, int, int]
    source_key: bytes | None
    source_value: bytes | None
    source_headers: tuple[RawHeader, ...]
    history: History
    ms: int
    position: int
    name: int = 0
    group: str = ""
    truncated: DeadLetter | None = None
    unmended: ReplayRecord | None = None

    @property
    def replays(self) -> int:
        """How often the record was replayed and failed again."""
        return self.history.replays

    @property
    def second(self) -> int:
        """Epoch second of the letter, within 32 bits."""
        return clamp_second(self.ms)

    @property
    def size(self) -> int:
        """Bytes of the value; of a truncated one those of the original, which is read again."""
        if self.truncated is None:
            return len(self)
        return max(parse_number(self.truncated.headers["truncated.length"]) or 0, len(self))

    def __len__(self) -> int:
        """Return the bytes of the source's value that the letter has."""
        return len(self.source_value or b"")

    def topic(self) -> str:
        """Return the source's topic."""
        return self.source[0]

    def partition(self) -> int:
        """Return the source's partition."""
        return self.source[1]

    def offset(self) -> int:
        """Return the source's offset."""
        return self.source[2]

    def key(self) -> bytes | None:
        """Return the source's key."""
        return self.source_key

    def value(self) -> bytes | None:
        """Return the source's value."""
        return self.source_value

    def headers(self) -> list[RawHeader]:
        """Return the source's own headers, the replay count raised by one, the first failure."""
        headers = [
            *self.source_headers,
            (f"{PREFIX}replay_count", str(self.replays + 1).encode()),
        ]
        if first := self.history.first_failure:
            headers.append((f"{PREFIX}first_failed_at", first.encode()))
        if mending := self.history.mending:
            headers.append((MENDED, mending.encode()))
        return headers

    def timestamp(self) -> tuple[int, int]:
        """Return kind and epoch milliseconds of the source; of the letter where it has none."""
        source_ms = self.history.source_ms
        return 1, self.ms if source_ms is None else source_ms


def build_record(letter: DeadLetter) -> ReplayRecord:
    """Return the source record of a letter.

    Args:
        letter: read with its content.
    """
    return ReplayRecord(
        letter.source,
        letter.key,
        letter.value,
        letter.source_headers,
        read_history(letter.headers),
        letter.timestamp_ms,
        letter.position,
        letter.name,
        letter.group,
        letter if letter.is_truncated else None,
    )


def read_record(record: KafkaRecord) -> ReplayRecord:
    """Return the source record of a letter as consumed.

    Equal to `build_record(read_letter(record))`, at a third of the time for nearly all letters.
    """
    ours = dict(read_headers(record))
    if _TRUNCATED not in ours and OUR_HEADERS.issuperset(ours):
        try:
            group, topic, partition, offset, replays, first, source_ms = _NEEDED(ours)
        except KeyError:
            return build_record(read_letter(record))
        source = parse_source(topic, partition, offset)
        if source is not None:
            return ReplayRecord(
                source,
                record.key(),
                record.value(),
                (),
                History(replays, first, source_ms, ours.get(MENDED)),
                record.timestamp()[1],
                pack_position(record.partition(), record.offset()),
                name_source(record, ours),
                _group_text(group),
            )
    return build_record(read_letter(record))


@lru_cache(64)
def _group_text(group: bytes | None) -> str:
    return (group or b"").decode("utf-8", "replace")

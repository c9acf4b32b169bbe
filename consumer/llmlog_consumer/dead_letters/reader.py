"""Reads the dead-letter topic: no group, nothing written, bounded by the end at start."""

from __future__ import annotations

import heapq
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.dead_letters.deduplicate import NewestPerRecord
from llmlog_consumer.dead_letters.letter import DeadLetter, found
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.filters import Filter
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.elasticsearch.connection import Elastic

CHUNK: Final = 1000
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Bounds of what is handled at once."""
PAGE: Final = 5000
"""Letters that are held in order to be sorted."""

_OFFSET_BITS, _PARTITION_BITS = 63, 15

L = TypeVar("L", "DeadLetter", "ReplayRecord")


class DeadLetters:
    """The letters that are on the topic at the moment this is made, and no later ones.

    Args:
        settings: how to reach Kafka, and the topic's name.
        since_ms: epoch milliseconds; letters that were written before are not read.
        progress: told a step's name, how much of it is done, and its total.

    Attributes:
        ranges: first and next-after-last offset of each partition.

    Raises:
        KafkaError: the topic is missing, or the broker refuses.
        KafkaUnreachable: no broker answers.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        since_ms: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._settings = settings
        self.progress = progress
        self.topic = settings.dlq_topic
        self.ranges = KafkaOffsets(KafkaAdmin(settings)).ranges_since(self.topic, since_ms)
        self._doublets: NewestPerRecord | None = None

    @property
    def suspicion(self) -> str:
        """Say that the topic looks like none of dead letters; empty where it looks like one."""
        doublets = self._find_doublets()
        return suspicion(self.topic, doublets.read, doublets.read * doublets.foreign)

    def messages(self, step: str = "reading letters") -> Iterator[list[Any]]:
        """Yield everything, in chunks."""
        total, done = sum(max(0, end - start) for start, end in self.ranges.values()), 0
        for chunk in topic_reader.read(self._settings, self.topic, self.ranges, small=True):
            yield chunk
            done += len(chunk)
            if self.progress:
                self.progress(step, done, total)

    def newest(self, wanted: Filter, *, content: bool = False) -> Iterator[DeadLetter]:
        """Yield the letters that speak for their name and are asked for, as they lie.

        Args:
            wanted: which ones.
            content: with their keys, values and own headers.
        """
        keeps = self._find_doublets().keeps
        for chunk in self.messages():
            for message in chunk:
                if not keeps(message):
                    continue
                letter = found(message, content=content)
                if wanted.takes(letter):
                    yield letter

    def newest_first(self, wanted: Filter, limit: int | None = None) -> Iterator[DeadLetter]:
        """Return what `newest` finds, sorted; the topic is read before this returns.

        Of more than a page only their places are kept, and each page is read again.
        """
        letters = self.newest(wanted)
        if limit is not None and limit <= PAGE:
            return iter(newest_first(letters, limit))
        return self._pages(sorted(map(_place_in_time, letters), reverse=True)[:limit])

    def _pages(self, places: Sequence[int]) -> Iterator[DeadLetter]:
        for start in range(0, len(places), PAGE):
            offsets: dict[int, set[int]] = defaultdict(set)
            for place in places[start : start + PAGE]:
                partition, offset = _coordinates(place)
                offsets[partition].add(offset)
            ranges = {p: (min(some), max(some) + 1) for p, some in offsets.items()}
            page = (
                found(message, content=False)
                for chunk in topic_reader.read(self._settings, self.topic, ranges, small=True)
                for message in chunk
                if message.offset() in offsets[message.partition()]
            )
            yield from newest_first(page)

    def _find_doublets(self) -> NewestPerRecord:
        """Read everything once before anything is shown.

        Whether a letter is the newest of its name is known at the end.
        """
        if self._doublets is None:
            doublets = NewestPerRecord()
            for chunk in self.messages("looking for doublets"):
                doublets.add(chunk)
            self._doublets = doublets
        return self._doublets


def suspicion(topic: str, read: int, foreign: int) -> str:
    """Say that a topic looks like none of dead letters; empty where it looks like one.

    Args:
        topic: its name.
        read: records on it.
        foreign: those without the headers of a letter.
    """
    if not read or foreign < read:
        return ""
    return (
        f"{topic} looks like no dead-letter topic: none of its {read} records has the headers "
        "of a letter (LLMLOG_DLQ_TOPIC names it)"
    )


def letter_at(settings: Settings, coordinates: str) -> DeadLetter:
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
    start, end = KafkaOffsets(admin).watermarks(topic, [where[0]])[where[0]]
    if not start <= where[1] < end:
        holds = f"holds offsets {start} to {end - 1}" if end > start else "is empty"
        raise ConfigurationError(f"nothing lies at {coordinates}: the partition {holds}")
    message = topic_reader.read_one(settings, topic, *where)
    if message is None:
        raise ConfigurationError(f"nothing lies at {coordinates}")
    return found(message)


def newest_first(some: Iterable[DeadLetter], limit: int | None = None) -> list[DeadLetter]:
    """Sort letters, newest first; with a limit no more than that are ever held."""
    if limit is None:
        return sorted(some, key=_age, reverse=True)
    return heapq.nlargest(limit, some, key=_age)


def _place_in_time(letter: DeadLetter) -> int:
    """Return time and place of a letter in one number, that sorts as `_age` does."""
    ms, offset, partition = _age(letter)
    return (ms << _OFFSET_BITS | offset) << _PARTITION_BITS | partition


def _coordinates(place: int) -> tuple[int, int]:
    """Return partition and offset."""
    offset = (place >> _PARTITION_BITS) & ((1 << _OFFSET_BITS) - 1)
    return place & ((1 << _PARTITION_BITS) - 1), offset


def _age(letter: DeadLetter) -> tuple[int, int, int]:
    return letter.timestamp_ms, letter.offset, letter.partition


def chunks(letters: Iterable[L], most: int = CHUNK) -> Iterator[list[L]]:
    """Yield letters in lists, bounded by number and bytes."""
    chunk: list[L] = []
    size = 0
    for letter in letters:
        chunk.append(letter)
        size += letter.size
        if len(chunk) >= most or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def recovered(elastic: Elastic, some: Iterable[DeadLetter]) -> set[str]:
    """Return the names of those letters whose document exists after all."""
    targets = (
        (letter.name, letter.headers["index"], letter.headers["document_id"])
        for letter in some
        if letter.headers.get("index") and letter.headers.get("document_id")
    )
    names: set[str] = set()
    while chunk := list(islice(targets, CHUNK)):
        found_ids = existing(elastic, [(index, doc_id) for _, index, doc_id in chunk])
        names |= {name for name, index, doc_id in chunk if (index, doc_id) in found_ids}
    return names


def existing(elastic: Elastic, some: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of up to `CHUNK` (index, id) pairs that are documents."""
    if not some:
        return set()
    docs = [{"_index": index, "_id": doc_id, "_source": False} for index, doc_id in some]
    answer = elastic.demand("POST", "/_mget", body={"docs": docs})
    return {pair for pair, doc in zip(some, answer["docs"], strict=True) if doc.get("found")}

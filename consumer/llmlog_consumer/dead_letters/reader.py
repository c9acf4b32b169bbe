"""Owns the reading of the dead-letter topic: no group, no commits, bounded by the end at start."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.dead_letters.deduplicate import NewestPerSource
from llmlog_consumer.dead_letters.filters import GroupFilter
from llmlog_consumer.dead_letters.letter import DeadLetter, read_letter
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.filters import Filter
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.kafka_record import KafkaRecord

MAX_CHUNK_LETTERS: Final = 1000
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
PAGE_LETTERS: Final = 5000
"""Letters that are held at a time in order to be sorted."""

_OFFSET_BITS, _PARTITION_BITS = 63, 15

L = TypeVar("L", "DeadLetter", "ReplayRecord")


class ReadTopic(Protocol):
    """What reads ranges of a topic: `kafka.reader.read`, or a fake of it."""

    def __call__(
        self,
        settings: Settings,
        topic: str,
        ranges: Mapping[int, tuple[int, int]],
        *,
        small: bool = False,
    ) -> Iterator[Sequence[KafkaRecord]]:
        """Yield chunks of records, each partition's in the order of offsets."""
        ...


class DeadLetters:
    """The letters that are on the topic when this is made; later ones are not read.

    Args:
        settings: how to reach Kafka, and the topic's name.
        since_ms: epoch milliseconds; letters that were written before are not read.
        all_groups: also letters of other consumer groups than that of the settings.
        progress: called with a step's name, how much of it is done, and its total.
        ranges: what to read; default asks the broker.
        read: reads the topic.
        page_letters: letters that are held at a time in order to be sorted.

    Attributes:
        ranges: first and next-after-last offset of each partition.
        groups: whose letters are read, and how many were left out.

    Raises:
        KafkaError: the topic is missing, or the broker refuses.
        KafkaUnreachable: no broker answers.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        since_ms: int | None = None,
        all_groups: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
        ranges: Mapping[int, tuple[int, int]] | None = None,
        read: ReadTopic = topic_reader.read,
        page_letters: int = PAGE_LETTERS,
    ) -> None:
        self._settings = settings
        self._read = read
        self._page_letters = page_letters
        self.progress = progress
        self.topic = settings.dlq_topic
        self.groups = GroupFilter(None if all_groups else settings.group)
        if ranges is None:
            ranges = KafkaOffsets(KafkaAdmin(settings)).ranges_since(self.topic, since_ms)
        self.ranges = ranges
        self._deduplicated: NewestPerSource | None = None

    @property
    def topic_warning(self) -> str:
        """The warning that this is not a dead-letter topic; empty where it looks like one."""
        newest = self._deduplicate()
        return warn_of_topic(self.topic, newest.letters, has_our_headers=newest.has_our_headers)

    def read_all(self, step: str = "reading letters") -> Iterator[Sequence[KafkaRecord]]:
        """Yield every letter, older ones of a record too, in chunks.

        Args:
            step: name of the step for `progress`.
        """
        total, done = sum(max(0, end - start) for start, end in self.ranges.values()), 0
        for chunk in self._read(self._settings, self.topic, self.ranges, small=True):
            yield chunk
            done += len(chunk)
            if self.progress:
                self.progress(step, done, total)

    def read_newest(self, wanted: Filter, *, content: bool = False) -> Iterator[DeadLetter]:
        """Yield the newest letter of each source, if it matches, in the topic's order.

        Args:
            wanted: the filter.
            content: with keys, values and the source records' own headers.
        """
        keeps, takes = self._deduplicate().keeps, self.groups.takes
        self.groups.others.clear()
        for chunk in self.read_all():
            for record in chunk:
                if not keeps(record):
                    continue
                letter = read_letter(record, content=content)
                if takes(letter.group) and wanted.matches(letter):
                    yield letter

    def read_newest_first(self, wanted: Filter, limit: int | None = None) -> Iterator[DeadLetter]:
        """Return the letters of `read_newest`, the newest first.

        The topic is read before this returns. Of more than a page only times and
        coordinates are kept, and each page is read again.

        Args:
            wanted: the filter.
            limit: letters at most.
        """
        letters = self.read_newest(wanted)
        if limit is not None and limit <= self._page_letters:
            return iter(sort_newest_first(letters, limit))
        return self._read_pages(sorted(map(_pack_age, letters), reverse=True)[:limit])

    def _read_pages(self, ages: Sequence[int]) -> Iterator[DeadLetter]:
        for start in range(0, len(ages), self._page_letters):
            offsets: dict[int, set[int]] = defaultdict(set)
            for age in ages[start : start + self._page_letters]:
                partition, offset = _unpack_coordinates(age)
                offsets[partition].add(offset)
            ranges = {p: (min(some), max(some) + 1) for p, some in offsets.items()}
            page = (
                read_letter(record, content=False)
                for chunk in self._read(self._settings, self.topic, ranges, small=True)
                for record in chunk
                if record.offset() in offsets[record.partition()]
            )
            yield from sort_newest_first(page)

    def _deduplicate(self) -> NewestPerSource:
        """Read everything once: which letter is the newest of a record is known at the end."""
        if self._deduplicated is None:
            newest = NewestPerSource()
            for chunk in self.read_all("looking for repeated letters"):
                newest.add(chunk)
            self._deduplicated = newest
        return self._deduplicated


def warn_of_topic(topic: str, letters: int, *, has_our_headers: bool) -> str:
    """Return the warning that a topic is not one of dead letters; empty where it looks like one.

    Args:
        topic: its name.
        letters: records on it.
        has_our_headers: whether any of them has the headers of a letter.
    """
    if not letters or has_our_headers:
        return ""
    return (
        f"{topic} does not look like a dead-letter topic: none of its {letters} records has the "
        "headers of a letter; check LLMLOG_DLQ_TOPIC"
    )


def read_letter_at(settings: Settings, coordinates: str) -> DeadLetter:
    """Return the letter at `topic/partition/offset`.

    Raises:
        ConfigurationError: these are no coordinates, or no record has them.
    """
    try:
        topic, partition_text, offset_text = coordinates.rsplit("/", 2)
        partition, offset = int(partition_text), int(offset_text)
    except ValueError:
        raise ConfigurationError(
            f"{coordinates!r} is not topic/partition/offset, as `pipeline dlq list` prints it"
        ) from None
    if topic != settings.dlq_topic:
        raise ConfigurationError(f"{topic} is not the dead-letter topic {settings.dlq_topic}")
    admin = KafkaAdmin(settings)
    partitions = admin.require(topic).partitions
    if not 0 <= partition < partitions:
        raise ConfigurationError(f"{topic} has no partition {partition}")
    start, end = KafkaOffsets(admin).watermarks(topic, [partition])[partition]
    if not start <= offset < end:
        holds = f"has offsets {start} to {end - 1}" if end > start else "is empty"
        raise ConfigurationError(f"there is no letter at {coordinates}: the partition {holds}")
    record = topic_reader.read_one(settings, topic, partition, offset)
    if record is None:
        raise ConfigurationError(f"there is no letter at {coordinates}")
    return read_letter(record)


def sort_newest_first(letters: Iterable[DeadLetter], limit: int | None = None) -> list[DeadLetter]:
    """Sort letters, the newest first; with a limit no more than that are ever held."""
    if limit is None:
        return sorted(letters, key=_age, reverse=True)
    return heapq.nlargest(limit, letters, key=_age)


def _pack_age(letter: DeadLetter) -> int:
    """Return time and coordinates of a letter in one number, which sorts as `_age` does."""
    ms, offset, partition = _age(letter)
    return (ms << _OFFSET_BITS | offset) << _PARTITION_BITS | partition


def _unpack_coordinates(age: int) -> tuple[int, int]:
    """Return partition and offset of a letter."""
    offset = (age >> _PARTITION_BITS) & ((1 << _OFFSET_BITS) - 1)
    return age & ((1 << _PARTITION_BITS) - 1), offset


def _age(letter: DeadLetter) -> tuple[int, int, int]:
    return letter.timestamp_ms, letter.offset, letter.partition


def split_chunks(letters: Iterable[L], max_letters: int = MAX_CHUNK_LETTERS) -> Iterator[list[L]]:
    """Yield letters in lists, each bounded by a number and by `MAX_CHUNK_BYTES` of values."""
    chunk: list[L] = []
    size = 0
    for letter in letters:
        chunk.append(letter)
        size += letter.size
        if len(chunk) >= max_letters or size >= MAX_CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk

"""Owns the two passes of a replay over the dead-letter topic, the first a little ahead.

    first pass (which letters are the newest)   ┃ share 1 ┃ share 2 ┃ share 3 …
    second pass (read and replay these)                   ┃ share 1 ┃ share 2 …

Whether a letter is the newest of its record is known at the end of its partition. So the first pass
goes through a share of the partitions to its end; the second pass reads that share while the first
goes through the next one. Holding a share in memory, in place of reading it twice, costs as much:
it would not fit into the processor's cache.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.deduplicate import NewestPerSource
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import warn_of_topic
from llmlog_consumer.dead_letters.record import read_record
from llmlog_consumer.kafka import reader as topic_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.reader import DeadLetters, ReadTopic
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.kafka_record import KafkaRecord

SHARE_OFFSETS: Final = 10_000
"""Offsets that are worth a consumer of their own."""

Ranges = dict[int, tuple[int, int]]


class ReplayScan:
    """The records of the letters that match, the newest letter of each, in the topic's order.

    Each event comes once, wherever its letters lie. Where they lie on several partitions (the topic
    was given more of them, or another tool wrote there), it is nearly always the newest. Letters of
    other consumer groups are left alone: their documents belong into other indices.

    Args:
        settings: how to reach Kafka.
        letters: the dead letters: their topic, ranges, and whose they are.
        wanted: the filter.
        read: reads the topic.
        share_offsets: offsets of one share at least.

    Attributes:
        progress: called with a step's name, how much of it is done, and its total.
        stopping: asked with every chunk; True ends the reading.
    """

    def __init__(
        self,
        settings: Settings,
        letters: DeadLetters,
        wanted: Filter,
        *,
        read: ReadTopic = topic_reader.read,
        share_offsets: int = SHARE_OFFSETS,
    ) -> None:
        self._settings = settings
        ranges = letters.ranges
        self._topic = letters.topic
        self.progress: Callable[[str, int, int], None] | None = None
        self.stopping: Callable[[], bool] = bool
        self._read_topic = read
        self._partitions = len(ranges)
        self._total = sum(max(0, end - start) for start, end in ranges.values())
        self._wanted = wanted
        self._groups = letters.groups
        self._newest = NewestPerSource()
        self._first_pass = self._run_first_pass(split_shares(ranges, share_offsets))
        self._ready: deque[Ranges] = deque()
        self._first_pass_done = False

    @property
    def topic_warning(self) -> str:
        """The warning that this is not a dead-letter topic; reads on until a letter was seen."""
        newest = self._newest
        while not (newest.has_our_headers or self._first_pass_done):
            self._advance_first_pass()
        return warn_of_topic(self._topic, newest.letters, has_our_headers=newest.has_our_headers)

    def __iter__(self) -> Iterator[ReplayRecord]:
        """Yield the records.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        done = 0
        while True:
            while not (self._ready or self._first_pass_done or self.stopping()):
                self._advance_first_pass()
            if not self._ready:
                return
            share = self._ready.popleft()
            for chunk in self._read(share):
                yield from self._select(chunk, share)
                done += len(chunk)
                if self.progress:
                    self.progress("reading letters", done, self._total)
                if self.stopping():
                    return
                if not self._ready:
                    self._advance_first_pass()

    def _select(self, chunk: Sequence[KafkaRecord], share: Ranges) -> Iterator[ReplayRecord]:
        """Yield the records of those letters of a chunk that are the newest and match."""
        records = [read_record(letter) for letter in chunk]
        # A letter lies on the partition of its source, modulo the number of partitions at that
        # time. With another number now, letters of a record may lie in other shares.
        homes = {record.source[1] % self._partitions for record in records}
        if not homes <= share.keys():
            while not self._first_pass_done:
                if self.stopping():
                    return
                self._advance_first_pass()
        keeps, is_unfiltered = self._newest.keeps_record, self._wanted == Filter()
        takes = self._groups.takes
        for record, letter in zip(records, chunk, strict=True):
            # `keeps` comes first: its answer on one letter decides on the next of the same source.
            if (
                keeps(record)
                and takes(record.group)
                and (is_unfiltered or self._wanted.matches(read_letter(letter, content=False)))
            ):
                yield record

    def _read(self, share: Ranges) -> Iterator[Sequence[KafkaRecord]]:
        return self._read_topic(self._settings, self._topic, share, small=True)

    def _advance_first_pass(self) -> None:
        """Take one more chunk into the first pass."""
        for share in self._first_pass:
            if share is not None:
                self._ready.append(share)
            return
        self._first_pass_done = True

    def _run_first_pass(self, shares: list[Ranges]) -> Iterator[Ranges | None]:
        """Yield None after each chunk, and each share at its end."""
        for share in shares:
            for chunk in self._read(share):
                self._newest.add(chunk)
                yield None
            yield share


def split_shares(
    ranges: Mapping[int, tuple[int, int]], share_offsets: int = SHARE_OFFSETS
) -> list[Ranges]:
    """Split a topic into shares of whole partitions: one share for a small topic.

    Args:
        ranges: first and next-after-last offset of each partition; empty ones are left out.
        share_offsets: offsets of one share at least, but for the last.
    """
    shares: list[Ranges] = []
    share: Ranges = {}
    for partition, (start, end) in ranges.items():
        if end > start:
            share[partition] = (start, end)
        if sum(end - start for start, end in share.values()) >= share_offsets:
            shares.append(share)
            share = {}
    return [*shares, share] if share else shares

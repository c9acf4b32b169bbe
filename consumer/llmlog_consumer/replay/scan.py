"""Finds the letters of a replay: which of them speak is found out a little ahead of what is read.

    looked through   ┃ share 1 ┃ share 2 ┃ share 3 …
    read                       ┃ share 1 ┃ share 2 …

Whether a letter keeps for its name is known where its partition ends. So a share of the partitions
is looked through to its end, and read while the next one is looked through. (To remember a share
instead of reading it again costs as much: all of it would lie outside the processor's cache.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.deduplicate import NewestPerRecord
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import found
from llmlog_consumer.dead_letters.reader import suspicion
from llmlog_consumer.dead_letters.record import read_record
from llmlog_consumer.kafka import reader as topic_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.record import ReplayRecord

SHARE: Final = 10_000
"""Offsets that are worth a reader of their own."""

Ranges = dict[int, tuple[int, int]]


class ReplayScan:
    """The letters that are asked for and speak for their name, as they lie, share by share.

    Each name is met once, wherever its letters lie. Where they lie on several partitions (the topic
    was given more of them, or another tool wrote there), it is nearly always the newest.

    Args:
        settings: how to reach Kafka.
        topic: of dead letters.
        ranges: first and next-after-last offset of each partition.
        wanted: which letters.

    Attributes:
        progress: told a step's name, how much of it is done, and its total.
        stopping: asked with every chunk; True ends the reading.
    """

    def __init__(
        self, settings: Settings, topic: str, ranges: Mapping[int, tuple[int, int]], wanted: Filter
    ) -> None:
        self._settings = settings
        self._topic = topic
        self.progress: Callable[[str, int, int], None] | None = None
        self.stopping: Callable[[], bool] = bool
        self._partitions = len(ranges)
        self._total = sum(max(0, end - start) for start, end in ranges.values())
        self._wanted = wanted
        self._doublets = NewestPerRecord()
        self._looking = self._look_through(_shares(ranges))
        self._looked_through: deque[Ranges] = deque()
        self._over = False

    @property
    def suspicion(self) -> str:
        """Say that the topic looks like none of dead letters; empty once there was one."""
        while self._doublets.foreign and not self._over:
            self._look()
        read = self._doublets.read
        return suspicion(self._topic, read, read * self._doublets.foreign)

    def __iter__(self) -> Iterator[ReplayRecord]:
        """Yield letters as the records that they were.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        done = 0
        while True:
            while not (self._looked_through or self._over or self.stopping()):
                self._look()
            if not self._looked_through:
                return
            share = self._looked_through.popleft()
            for chunk in self._read(share):
                yield from self._kept(chunk, share)
                done += len(chunk)
                if self.progress:
                    self.progress("reading letters", done, self._total)
                if self.stopping():
                    return
                if not self._looked_through:
                    self._look()

    def _kept(self, chunk: list[Any], share: Ranges) -> Iterator[ReplayRecord]:
        """Yield what of a chunk keeps and was asked for."""
        records = [read_record(message) for message in chunk]
        # Letters lie on the partition of their source, by the number of partitions of that time.
        homes = {record.source[1] % self._partitions for record in records}
        if not homes <= share.keys():
            while not self._over:
                if self.stopping():
                    return
                self._look()
        keeps, whatever = self._doublets.keeps_record, self._wanted == Filter()
        for record, message in zip(records, chunk, strict=True):
            # All are asked in turn: which one keeps may be told by the one before.
            if keeps(record) and (whatever or self._wanted.takes(found(message, content=False))):
                yield record

    def _read(self, share: Ranges) -> Iterator[list[Any]]:
        return topic_reader.read(self._settings, self._topic, share, small=True)

    def _look(self) -> None:
        """Look through a little more."""
        for share in self._looking:
            if share is not None:
                self._looked_through.append(share)
            return
        self._over = True

    def _look_through(self, shares: list[Ranges]) -> Iterator[Ranges | None]:
        """Yield each share at its end, and nothing in between."""
        for share in shares:
            for chunk in self._read(share):
                self._doublets.add(chunk)
                yield None
            yield share


def _shares(ranges: Mapping[int, tuple[int, int]]) -> list[Ranges]:
    """Part a topic into shares: one for a small topic, one for each partition of a large one."""
    shares: list[Ranges] = []
    some: Ranges = {}
    for partition, (start, end) in ranges.items():
        if end > start:
            some[partition] = (start, end)
        if sum(end - start for start, end in some.values()) >= SHARE:
            shares.append(some)
            some = {}
    return [*shares, some] if some else shares

"""Owns which offsets are settled, per assigned partition: spans, generations, watermark. Pure.

The watermark of a partition is the next offset to commit: every record before it is settled.
It follows the order of delivery, not arithmetic, because compaction and transaction markers leave
gaps. A generation is one assignment of one partition; answers after its end are late, and ignored.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN_EPOCH: Final = -1
_NEVER_COMMITTED: Final = -1
_MIN_SPANS: Final = 1_024
"""Spans of a partition up to which settled ones are kept apart."""


@dataclass(slots=True, eq=False)
class Span:
    """A run of records of one partition that were consumed together.

    Attributes:
        partition: of the source topic.
        generation: the assignment in which it was consumed.
        first: offset of its first record.
        last: offset of its last record.
        epoch: leader epoch of its last record, -1 where the broker names none.
        unsettled: records without an outcome.
        since: monotonic seconds at which it was consumed.
        beside_bytes: what each of its records weighs beside its value.
        released: its generation has ended; an answer for it is late.
        written_ms: timestamps of its first and its last record on Kafka, in epoch milliseconds;
            0 where there is none.
    """

    partition: int
    generation: int
    first: int
    last: int
    epoch: int
    unsettled: int
    since: float
    beside_bytes: int = 0
    released: bool = False
    written_ms: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Partition:
    """One assigned partition: `expected` is the next offset to consume, `watermark` to commit."""

    generation: int
    expected: int
    watermark: int
    epoch: int = UNKNOWN_EPOCH
    committed: int = 0
    unsettled: int = 0
    bytes_in_flight: int = 0
    spans: deque[Span] = field(default_factory=deque)
    join_at: int = _MIN_SPANS  # so many spans are too many: settled ones are joined

    def add(self, span: Span) -> None:
        """Append a span. While a record waits for long, all behind it would pile up."""
        self.spans.append(span)
        if len(self.spans) > self.join_at:
            self.spans = _join_settled(self.spans)
            self.join_at = max(_MIN_SPANS, 2 * len(self.spans))


@dataclass(frozen=True, slots=True)
class Commit:
    """What to commit of one partition: the next offset, with the leader epoch before it."""

    partition: int
    offset: int
    epoch: int


class OffsetTracker:
    """The settled prefix of every assigned partition of one topic.

    Not thread-safe on purpose. The worker's main thread owns it, and runs the rebalance callbacks
    too, but for the last revoke: that runs in a thread of the client, while the main thread waits.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}
        self._generations = count()

    @property
    def assigned(self) -> tuple[int, ...]:
        """Partitions that this worker has now."""
        return tuple(self._partitions)

    @property
    def unsettled(self) -> int:
        """Records consumed and not settled, over all partitions."""
        return sum(p.unsettled for p in self._partitions.values())

    @property
    def bytes_in_flight(self) -> int:
        """What the records weigh that are consumed and not settled, over all partitions."""
        return sum(p.bytes_in_flight for p in self._partitions.values())

    def assign(self, partition: int, next_offset: int) -> None:
        """Begin a generation that reads `partition` from `next_offset`."""
        self._partitions[partition] = _Partition(
            next(self._generations), next_offset, next_offset, committed=next_offset
        )

    def release(self, partition: int) -> int:
        """End the generation; return how many of its records are released unsettled."""
        state = self._partitions.pop(partition, None)
        if state is None:
            return 0
        for span in state.spans:
            span.released = True
        return state.unsettled

    def expected(self, partition: int) -> int:
        """Return the next offset to consume, seen records excluded; 0 where it is not assigned."""
        state = self._partitions.get(partition)
        return state.expected if state is not None else 0

    def register(
        self,
        partition: int,
        first: int,
        last: int,
        *,
        epoch: int,
        records: int,
        size: int,
        now: float,
        beside_bytes: int = 0,
    ) -> Span | None:
        """Register consumed records, before anything is done with them.

        Args:
            partition: of the source topic.
            first: offset of the first record.
            last: offset of the last record.
            epoch: leader epoch of the last record.
            records: number of them.
            size: bytes of their values.
            now: monotonic seconds.
            beside_bytes: what each record weighs beside its value.

        Returns:
            The span to settle them by; None where the partition is not assigned or the records
            were seen before, so that they must be left alone.
        """
        state = self._partitions.get(partition)
        if state is None or first < state.expected:
            return None
        span = Span(partition, state.generation, first, last, epoch, records, now, beside_bytes)
        state.add(span)
        state.expected = last + 1
        state.unsettled += records
        state.bytes_in_flight += size + records * beside_bytes
        return span

    def settle(self, span: Span, records: int, size: int) -> bool:
        """Count records of a span as settled and move the watermark.

        Args:
            span: as registered.
            records: number of them.
            size: bytes of their values.

        Returns:
            False where the span's generation has ended: the answer is late and changes nothing.
        """
        state = self._partitions.get(span.partition)
        if state is None or span.generation != state.generation:
            return False
        if records > span.unsettled:
            raise ValueError(f"more settled than consumed: {records} of {span.unsettled}")
        span.unsettled -= records
        state.unsettled -= records
        state.bytes_in_flight -= size + records * span.beside_bytes
        while state.spans and state.spans[0].unsettled == 0:
            done = state.spans.popleft()
            state.watermark, state.epoch = done.last + 1, done.epoch
        return True

    def advance(self, partition: int, position: int) -> None:
        """Follow the consumer over offsets that hold no record (markers, compaction).

        Args:
            partition: of the source topic.
            position: next offset that the consumer will ask for.
        """
        state = self._partitions.get(partition)
        if state is not None and not state.spans and position > state.watermark:
            state.watermark = state.expected = position
            # A marker may be of a later epoch than the last record: that pair would say that the
            # log was truncated.
            state.epoch = UNKNOWN_EPOCH

    def skip_gap(self, partition: int, next_offset: int) -> None:
        """Begin a generation at another offset, and commit that: a gap was accepted."""
        self.release(partition)
        self.assign(partition, next_offset)
        self._partitions[partition].committed = _NEVER_COMMITTED

    def watermark(self, partition: int) -> int:
        """Return the next offset to commit."""
        return self._partitions[partition].watermark

    def in_flight(self, partition: int) -> int:
        """Return what the records of one partition weigh that are consumed and not settled."""
        return self._partitions[partition].bytes_in_flight

    def in_flight_records(self, partition: int) -> int:
        """Return the records of one partition that are consumed and not settled."""
        return self._partitions[partition].unsettled

    def commits(self) -> list[Commit]:
        """Return the watermarks that moved since they were last handed over."""
        return [
            Commit(number, state.watermark, state.epoch)
            for number, state in self._partitions.items()
            if state.watermark > state.committed
        ]

    def all_commits(self) -> list[Commit]:
        """Return every partition's watermark, moved or not."""
        return [Commit(n, s.watermark, s.epoch) for n, s in self._partitions.items()]

    def record_commits(self, commits: Iterable[Commit]) -> None:
        """Remember that these were handed to the broker."""
        for commit in commits:
            if (state := self._partitions.get(commit.partition)) is not None:
                state.committed = max(state.committed, commit.offset)

    def commit_failed(self, partitions: Iterable[int]) -> None:
        """Remember that the broker refused the commits of these; they are due again."""
        for partition in partitions:
            if (state := self._partitions.get(partition)) is not None:
                state.committed = 0

    def oldest(self) -> Span | None:
        """Return the unsettled span that has blocked its partition for longest."""
        heads = [state.spans[0] for state in self._partitions.values() if state.spans]
        return min(heads, key=lambda span: span.since, default=None)


def _join_settled(spans: Iterable[Span]) -> deque[Span]:
    """Return spans in their order, each settled one as a part of the one before it."""
    joined: deque[Span] = deque()
    for span in spans:
        if joined and not span.unsettled:
            joined[-1].last, joined[-1].epoch = span.last, span.epoch
        else:
            joined.append(span)
    return joined

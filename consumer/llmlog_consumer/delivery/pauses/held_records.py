"""Owns the records that wait for one thing to be mended: their order, number and weight. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.headers import read_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

HeldRecord = tuple["Span", "KafkaRecord"]

OVERHEAD_BYTES: Final = 200
"""What a held record costs beside its value, key and headers: so empty ones are counted too."""


def weigh(record: KafkaRecord) -> int:
    """Return the bytes of memory that a record keeps, about."""
    size = OVERHEAD_BYTES + len(record) + len(record.key() or b"")
    return size + sum(len(name) + len(value or b"") for name, value in read_headers(record))


@dataclass(slots=True)
class HeldRecords:
    """Records in the order in which they came. The thread that runs the delivery owns it.

    Attributes:
        bytes: of all of them; see `weigh`.
        partitions: how many there are of each partition; of none there are no zeros.
    """

    bytes: int = 0
    partitions: Counter[int] = field(default_factory=Counter)
    _records: deque[tuple[Span, KafkaRecord, int]] = field(default_factory=deque)

    def __len__(self) -> int:
        """Return how many records are held."""
        return len(self._records)

    def add(self, span: Span, record: KafkaRecord) -> None:
        """Hold a record, behind the others."""
        self._count(span, size := weigh(record), 1)
        self._records.append((span, record, size))

    def take(self, number: int | None = None) -> list[HeldRecord]:
        """Return the oldest records, and hold them no more.

        Args:
            number: of records at most: a probe; None for all of them.
        """
        taken: list[HeldRecord] = []
        while self._records and (number is None or len(taken) < number):
            span, record, size = self._records.popleft()
            self._count(span, size, -1)
            taken.append((span, record))
        return taken

    def put_back(self, records: Iterable[HeldRecord]) -> None:
        """Hold records again that were taken, before the others and in their order."""
        for span, record in reversed(list(records)):
            self._count(span, size := weigh(record), 1)
            self._records.appendleft((span, record, size))

    def drop_released(self) -> list[HeldRecord]:
        """Drop the records that a rebalance took away; return them."""
        dropped: list[HeldRecord] = []
        kept: deque[tuple[Span, KafkaRecord, int]] = deque()
        for span, record, size in self._records:
            if span.released:
                self._count(span, size, -1)
                dropped.append((span, record))
            else:
                kept.append((span, record, size))
        self._records = kept
        return dropped

    def _count(self, span: Span, size: int, sign: int) -> None:
        self.bytes += sign * size
        self.partitions[span.partition] += sign
        if not self.partitions[span.partition]:
            del self.partitions[span.partition]

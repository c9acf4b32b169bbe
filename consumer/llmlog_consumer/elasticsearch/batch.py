"""Owns batches on their way to `_bulk`: one body of bytes, a slice for each operation. Pure.

A retry or a bisection sends slices of the same body and serialises nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from llmlog_consumer.backoff import RetryState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

MAX_OPERATIONS: Final = 5_000
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_AGE_SECONDS: Final = 0.25
"""Bounds of a batch; its age counts from its first record."""


@dataclass(slots=True, eq=False)
class Operation:
    """One document to create.

    Attributes:
        span: the span that this operation's record belongs to.
        record: the source record, kept for its dead letter.
        size: bytes of the source value, as counted in flight.
        index_name: the index that it writes to.
        document_id: its `_id`.
        start: first byte of its two lines in the body.
        end: byte after its two lines in the body.
    """

    span: Span
    record: KafkaRecord
    size: int
    index_name: str
    document_id: str
    start: int
    end: int


@dataclass(slots=True)
class Batch:
    """Operations over one shared body.

    A bulk thread reads the body while it sends the batch. Everything that changes (`operations`,
    `retry`) is changed by the thread that runs the delivery, while no bulk thread has the batch.

    Attributes:
        source: the bytes that every operation is a slice of.
        operations: in the order of the body.
        indices: names of the indices that the source writes to.
        source_operations: how many operations the source holds.
        retry: the memory of its attempts.
    """

    source: bytes
    operations: Sequence[Operation]
    indices: frozenset[str]
    source_operations: int
    retry: RetryState = field(default_factory=RetryState)

    @property
    def size(self) -> int:
        """Bytes of the body that is sent."""
        return sum(operation.end - operation.start for operation in self.operations)

    def body(self) -> bytes:
        """Return the NDJSON of its operations."""
        if len(self.operations) == self.source_operations:
            return self.source
        view = memoryview(self.source)
        return b"".join([view[op.start : op.end] for op in self.operations])

    def part(self, operations: Sequence[Operation]) -> Batch:
        """Return some of its operations as a batch over the same bytes, with the same memory."""
        return replace(self, operations=operations, retry=replace(self.retry))

    def halves(self) -> tuple[Batch, Batch]:
        """Return its first and its second half."""
        middle = len(self.operations) // 2
        return self.part(self.operations[:middle]), self.part(self.operations[middle:])


@dataclass(slots=True)
class BatchBuilder:
    """Gathers operations until a bound is reached.

    Attributes:
        max_bytes: bound of a body; lowered for good when a server takes less.
        max_operations: bound of a batch.
        max_age_seconds: bound of the time since the first record of a batch.
    """

    max_bytes: int = MAX_BODY_BYTES
    max_operations: int = MAX_OPERATIONS
    max_age_seconds: float = MAX_AGE_SECONDS
    _pieces: list[bytes] = field(default_factory=list)
    _operations: list[Operation] = field(default_factory=list)
    _indices: set[str] = field(default_factory=set)
    _size: int = 0
    _since: float = 0.0

    def __len__(self) -> int:
        """Return the number of operations gathered."""
        return len(self._operations)

    def add(  # noqa: PLR0917 - the hot path passes by position
        self,
        span: Span,
        record: KafkaRecord,
        size: int,
        index: str,
        document_id: str,
        document: bytes,
        now: float,
    ) -> Batch | None:
        """Append one operation; return the batch before it where that one is full."""
        action = f'{{"create":{{"_index":"{index}","_id":"{document_id}"}}}}\n'.encode()
        operations, start = self._operations, self._size
        end, full = start + len(action) + len(document) + 1, None
        if operations and (end > self.max_bytes or len(operations) >= self.max_operations):
            full = self.take()
            operations, start, end = self._operations, 0, end - start
        if not operations:
            self._since = now
        if index not in self._indices:
            self._indices.add(index)
        self._pieces += action, document, b"\n"
        operations.append(Operation(span, record, size, index, document_id, start, end))
        self._size = end
        return full

    def due(self, now: float) -> bool:
        """Tell whether the gathered operations have waited long enough."""
        return bool(self._operations) and now - self._since >= self.max_age_seconds

    def take(self) -> Batch:
        """Return the gathered operations as a batch, and start the next one."""
        batch = Batch(
            b"".join(self._pieces),
            self._operations,
            frozenset(self._indices),
            len(self._operations),
        )
        self._pieces, self._operations, self._size = [], [], 0
        self._indices = set()
        return batch

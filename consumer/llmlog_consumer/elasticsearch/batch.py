"""Operations on their way to `_bulk`: one body of bytes, a slice for each operation. Pure.

A retry or a bisection sends slices of the body again and never serialises anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.offset_tracker import Span

MAX_OPERATIONS: Final = 5_000
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_AGE: Final = 0.25
"""Bounds of a batch: operations, bytes of body, seconds since its first record."""


@dataclass(slots=True, eq=False)
class Operation:
    """One document to create.

    Attributes:
        span: what it settles.
        record: the source record, kept for its dead letter.
        size: bytes of the source value, as counted in flight.
        index_name: where it goes.
        document_id: its `_id`.
        start: of its two lines in the body.
        end: of its two lines in the body.
    """

    span: Span
    record: Any
    size: int
    index_name: str
    document_id: str
    start: int
    end: int


@dataclass(slots=True)
class Batch:
    """Operations over one shared body.

    Attributes:
        source: the bytes that every operation is a slice of.
        operations: in the order of the body.
        indices: those that the source writes to.
        of: how many operations the source holds.
        attempts: how often it was sent.
        not_before: monotonic seconds before which it waits.
        refusals: attempts that were refused in a way that is not for ever.
        good_before: requests that had been answered item by item when this one was first refused
            as a whole; -1 where it was not.
    """

    source: bytes
    operations: Sequence[Operation]
    indices: frozenset[str]
    of: int
    attempts: int = 0
    not_before: float = 0.0
    refusals: int = 0
    good_before: int = -1

    @property
    def size(self) -> int:
        """Bytes that sending it takes."""
        return sum(operation.end - operation.start for operation in self.operations)

    def body(self) -> bytes:
        """Return the NDJSON of its operations."""
        if len(self.operations) == self.of:
            return self.source
        view = memoryview(self.source)
        return b"".join([view[op.start : op.end] for op in self.operations])

    def part(self, operations: Sequence[Operation]) -> Batch:
        """Return some of its operations as a batch over the same bytes."""
        return replace(self, operations=operations)

    def halves(self) -> tuple[Batch, Batch]:
        """Return its first and its second half."""
        middle = len(self.operations) // 2
        return self.part(self.operations[:middle]), self.part(self.operations[middle:])


@dataclass(slots=True)
class BatchBuilder:
    """Gathers operations until a bound is reached.

    Attributes:
        max_bytes: of a body; lowered for good by a server that takes less.
        max_operations: of a body.
        max_age: seconds since its first record.
    """

    max_bytes: int = MAX_BYTES
    max_operations: int = MAX_OPERATIONS
    max_age: float = MAX_AGE
    _pieces: list[bytes] = field(default_factory=list)
    _operations: list[Operation] = field(default_factory=list)
    _indices: set[str] = field(default_factory=set)
    _size: int = 0
    _since: float = 0.0

    def __len__(self) -> int:
        """Return the number of operations gathered."""
        return len(self._operations)

    def add(  # noqa: PLR0917 - the hot path passes by position
        self, span: Span, record: Any, size: int, index: str, document_id: str,
        document: bytes, now: float,
    ) -> Batch | None:  # fmt: skip
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
        """Tell whether what is gathered has waited long enough."""
        return bool(self._operations) and now - self._since >= self.max_age

    def take(self) -> Batch:
        """Return what is gathered and begin anew."""
        batch = Batch(
            b"".join(self._pieces),
            self._operations,
            frozenset(self._indices),
            len(self._operations),
        )
        self._pieces, self._operations, self._size = [], [], 0
        self._indices = set()
        return batch

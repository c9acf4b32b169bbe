"""Owns batches on their way to `_bulk`: one body of bytes, a slice for each operation. Pure.

A retry or a bisection sends slices of the same body and serialises nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from llmlog_consumer.backoff import RetryState

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

MAX_OPERATIONS: Final = 5_000
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_AGE_SECONDS: Final = 0.25
"""Bounds of a batch; its age counts from its first record."""

MIN_PASSED_REQUESTS: Final = 8
MAX_PASSED_REQUESTS: Final = 1_024
"""Requests that pass before a larger one is tried, at least and at most."""


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
        indices: names of the indices that its operations write to.
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

    @property
    def body_bytes(self) -> int:
        """The same, without a look at each operation where it is the whole source."""
        is_whole = len(self.operations) == self.source_operations
        return len(self.source) if is_whole else self.size

    def body(self) -> bytes:
        """Return the NDJSON of its operations."""
        if len(self.operations) == self.source_operations:
            return self.source
        view = memoryview(self.source)
        return b"".join([view[op.start : op.end] for op in self.operations])

    def part(self, operations: Sequence[Operation]) -> Batch:
        """Return some of its operations as a batch over the same bytes, with the same memory."""
        indices = frozenset([operation.index_name for operation in operations])
        return replace(self, operations=operations, indices=indices, retry=replace(self.retry))

    def alone(self, operation: Operation) -> Batch:
        """Return one of its operations as a batch over bytes of its own, with the same memory."""
        if self.source_operations == 1:
            return self
        source = self.source[operation.start : operation.end]
        only = replace(operation, start=0, end=len(source))
        return Batch(source, [only], frozenset({only.index_name}), 1, replace(self.retry))

    def compact(self) -> Batch:
        """Return it over bytes of its own where it uses less than half of the shared ones."""
        return self if 2 * self.size >= len(self.source) else _over_own_bytes([self], self.retry)

    def halves(self) -> tuple[Batch, Batch]:
        """Return its first and its second half."""
        middle = len(self.operations) // 2
        return self.part(self.operations[:middle]), self.part(self.operations[middle:])


@dataclass(slots=True)
class BodyBound:
    """The size of body that the way to Elasticsearch takes; found downwards and upwards again.

    It is halved by a request that was refused for its size, and doubles after requests of about
    its size have passed: after 8 of them, and each time that a doubling was in vain, after twice
    as many.

    Attributes:
        full_bytes: the bound where nothing is refused.
        bytes: the bound now.
    """

    full_bytes: int
    bytes: int
    _refused: int = 0  # bytes of the smallest request refused since the bound was full
    _tried: int = 0  # the bound before it was doubled, until that has passed
    _passed: int = 0
    _needed: int = MIN_PASSED_REQUESTS

    @classmethod
    def of(cls, full_bytes: int) -> BodyBound:
        """Return a bound that nothing has lowered."""
        return cls(full_bytes, full_bytes)

    @property
    def is_lowered(self) -> bool:
        """Tell whether a request was refused and none of its size has passed since."""
        return self._refused > 0

    def record_refusal(self, size: int) -> bool:
        """Lower the bound below a request that was refused for its size; True for the first."""
        begins = not self._refused
        self._refused = min(self._refused, size) if self._refused else size
        if (bound := max(1, size // 2)) < self.bytes:
            if self._tried:
                self._needed = min(2 * self._needed, MAX_PASSED_REQUESTS)
            self.bytes, self._passed, self._tried = bound, 0, 0
        return begins

    def record_success(self, size: int) -> bool:
        """Raise the bound by a request that passed; True where it is full again."""
        if not self._refused:
            return False
        if size >= self._refused:
            self.bytes, self._refused = self.full_bytes, 0
            self._tried, self._passed, self._needed = 0, 0, MIN_PASSED_REQUESTS
            return True
        if self._tried and size > self._tried:
            self._tried, self._needed = 0, MIN_PASSED_REQUESTS
        self._passed += 2 * size > self.bytes
        if self._passed >= self._needed and self.bytes < self.full_bytes:
            self._tried, self._passed = self.bytes, 0
            self.bytes = min(self.full_bytes, 2 * self.bytes)
        return False


@dataclass(slots=True)
class BatchBuilder:
    """Gathers operations until a bound is reached.

    Attributes:
        max_bytes: bound of a body; lower while a server takes less.
        max_operations: bound of a batch.
        max_age_seconds: bound of the time since the first record of a batch.
        paused: names of the indices whose operations are set aside.
        aside: these operations, each in a batch of its own.
    """

    max_bytes: int = MAX_BODY_BYTES
    max_operations: int = MAX_OPERATIONS
    max_age_seconds: float = MAX_AGE_SECONDS
    paused: Container[str] = frozenset()
    aside: list[Batch] = field(default_factory=list)
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
        if index not in self._indices and index in self.paused:
            source = b"%s%s\n" % (action, document)
            only = Operation(span, record, size, index, document_id, 0, len(source))
            self.aside.append(Batch(source, [only], frozenset({index}), 1))
            return None
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

    def take_aside(self) -> list[Batch]:
        """Return the operations of paused indices, and forget them."""
        aside, self.aside = self.aside, []
        return aside

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


def join(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the operations of batches in fewer ones, within the usual bounds, in their order.

    A batch whose refusals matter later stays by itself, with its memory.
    """
    gathered: list[Batch] = []
    size = operations = 0
    for batch in batches:
        if batch.retry.has_memory:
            yield batch
            continue
        too_many = operations + len(batch.operations) > MAX_OPERATIONS
        if gathered and (too_many or size + batch.size > MAX_BODY_BYTES):
            yield _over_own_bytes(gathered, gathered[0].retry)
            gathered, size, operations = [], 0, 0
        gathered.append(batch)
        size += batch.size
        operations += len(batch.operations)
    if gathered:
        yield _over_own_bytes(gathered, gathered[0].retry)


def _over_own_bytes(batches: Sequence[Batch], retry: RetryState) -> Batch:
    """Return all operations as one batch over bytes that no other batch shares."""
    operations: list[Operation] = []
    end = 0
    for batch in batches:
        for operation in batch.operations:
            start, end = end, end + operation.end - operation.start
            operations.append(replace(operation, start=start, end=end))
    indices = frozenset([operation.index_name for operation in operations])
    source = b"".join([batch.body() for batch in batches])
    return Batch(source, operations, indices, len(operations), replace(retry))

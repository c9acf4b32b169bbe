"""Owns one paused index: why it takes nothing, and the documents that wait for it. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.headers import read_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.elasticsearch.batch import Batch

OVERHEAD_BYTES: Final = 500
"""Memory of one document that waits, beside its value, key, headers and body."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer by which an index takes no document.

    Attributes:
        message: the answer in one line, and what to do.
        status: of the item.
        error: the item's error object.
        needs_person: waiting alone does not help.
        is_final: the document can never be indexed there; it becomes a letter at once.
    """

    message: str
    status: int = 0
    error: Mapping[str, Any] = field(default_factory=dict)
    needs_person: bool = True
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A document that waited for long enough.

    Attributes:
        batch: holds it alone.
        refusal: the last answer of its index.
        why: the bound that was reached, in words.
    """

    batch: Batch
    refusal: Refusal
    why: str


class Held(NamedTuple):
    """A document that waits alone in its batch, and the memory it takes in bytes."""

    batch: Batch
    size: int


@dataclass(slots=True)
class IndexPause:
    """One paused index; times are monotonic seconds, and `since` counts an earlier owner's."""

    refusal: Refusal
    since: float
    began: float
    refused_at: float
    refusals: int = 1
    next_probe: float = 0.0
    held: deque[Held] = field(default_factory=deque)
    held_bytes: int = 0
    records: Counter[int] = field(default_factory=Counter)  # by partition
    in_flight_bytes: Counter[int] = field(default_factory=Counter)  # by partition, as counted
    probe: Batch | None = None

    def keep(self, held: Held) -> None:
        """Add a document behind the others."""
        self.held.append(held)
        self._count(held, 1)

    def pop(self) -> Held:
        """Remove the document that has waited for longest."""
        held = self.held.popleft()
        self._count(held, -1)
        return held

    def _count(self, held: Held, sign: int) -> None:
        operation = held.batch.operations[0]
        self.held_bytes += sign * held.size
        self.records[operation.span.partition] += sign
        self.in_flight_bytes[operation.span.partition] += sign * (
            operation.size + operation.span.beside_bytes
        )


def weigh(batch: Batch) -> int:
    """Return the memory of a document that waits alone, in bytes."""
    operation = batch.operations[0]
    record = operation.record
    headers = read_headers(record)
    return (
        OVERHEAD_BYTES
        + len(batch.source)
        + operation.size
        + len(record.key() or b"")
        + sum(len(name) + len(value or b"") for name, value in headers)
    )

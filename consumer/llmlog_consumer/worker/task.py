"""Owns what a worker is told to do. Pure: the supervisor loads it, and nothing of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker has to do beyond its settings.

    Attributes:
        dlq_partitions: partitions of the dead-letter topic.
        until: next offset after the last record to settle, by partition (None where no leader has
            told it yet); None to go on forever.
        accepted: fingerprints that the circuit breaker lets through as letters.
        drain_seconds: deadline of the drain at the end.
        last_end: why this worker's last process ended that should have run; empty for none.
    """

    dlq_partitions: int
    until: Mapping[int, int | None] | None = None
    accepted: frozenset[str] = frozenset()
    drain_seconds: float = 20.0
    last_end: str = ""

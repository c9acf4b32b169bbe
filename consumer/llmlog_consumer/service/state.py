"""Owns what the supervisor knows of all workers at one moment. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letter_counts import Kind


@dataclass(frozen=True, slots=True)
class State:
    """All workers at one moment.

    Attributes:
        counts: over all workers, including the ones that ended.
        dead_letters: counts by fingerprint and stage, likewise.
        in_flight: records that are consumed and not settled.
        workers: number of running workers.
        unhealthy: number of workers that need an operator; one that has died and waits for its
            next start is one of them, and one that gives no report.
        restarts: workers that died and were started again.
        reports: the last report of each running worker that has given one, by its number; see
            `Worker.report`.
        faults: what keeps workers from their work, as the supervisor sees it.
        turned_at: monotonic seconds of this moment.
    """

    counts: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[Kind] = field(default_factory=Counter)
    in_flight: int = 0
    workers: int = 0
    unhealthy: int = 0
    restarts: int = 0
    reports: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    turned_at: float = 0.0

"""Owns the notes beside committed offsets, which `pipeline status` reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_UNHEALTHY_CHARACTERS: Final = 400
"""Length of the reason in a note; the broker bounds a commit's metadata."""


class StatusNotes:
    """One worker's notes, written every few seconds.

    Args:
        worker: the worker's name.
        interval_seconds: time between two notes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        worker: str,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._interval = interval_seconds
        self._next = 0.0
        self._last = (clock(), 0)  # when the last note was written, and records settled by then

    def is_due(self, now: float) -> bool:
        """Tell whether it is time for the next notes."""
        return now >= self._next

    def write(
        self, now: float, settled: int, in_flight: Mapping[int, int], unhealthy: str
    ) -> dict[int, str]:
        """Return a note for each partition, as JSON.

        Args:
            now: monotonic seconds.
            settled: records settled since the worker started.
            in_flight: records in flight, by partition.
            unhealthy: what a person has to fix; empty while all is well.
        """
        since, before = self._last
        self._last, self._next = (now, settled), now + self._interval
        note: dict[str, Any] = {
            "at": int(time.time() * 1000),
            "worker": self._worker,
            "rate": round((settled - before) / max(now - since, 0.001), 1),
        }
        if unhealthy:
            note["unhealthy"] = unhealthy[:MAX_UNHEALTHY_CHARACTERS]
        return {
            partition: orjson.dumps(note | {"in_flight": records}).decode()
            for partition, records in in_flight.items()
        }

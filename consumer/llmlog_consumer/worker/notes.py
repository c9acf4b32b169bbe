"""Owns the notes beside committed offsets: a worker's state, and what a next owner has to know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Memory = dict[str, Any]
"""What the next owner of a partition has to know: keys of its note."""

MAX_UNHEALTHY_CHARACTERS: Final = 400
"""Length of the reason in a note."""
MAX_NOTE_BYTES: Final = 3_500
"""Length of a note; a broker takes 4,096 (`offset.metadata.max.bytes`)."""


class StatusNotes:
    """One worker's notes.

    Args:
        worker: the worker's name.
        interval_seconds: time between two commits of every partition, and of its rate.
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
        self._rate = 0.0
        self._last = (clock(), 0)  # when the rate was computed, and records settled by then
        self._was_unhealthy = False

    def is_due(self, now: float, unhealthy: str = "") -> bool:
        """Tell whether it is time to commit every partition, moved or not, with its note.

        It is at once where the worker becomes unhealthy, or healthy again.
        """
        return now >= self._next or bool(unhealthy) is not self._was_unhealthy

    def write(
        self,
        now: float,
        settled: int,
        in_flight: Mapping[int, int],
        unhealthy: str,
        memory: Mapping[int, Memory],
    ) -> dict[int, str]:
        """Return a note for each partition, as JSON.

        Args:
            now: monotonic seconds.
            settled: records settled since the worker started.
            in_flight: records in flight, by partition.
            unhealthy: what a person has to fix; empty while all is well.
            memory: by partition.
        """
        self._was_unhealthy = bool(unhealthy)
        if now >= self._next:
            since, before = self._last
            self._last, self._next = (now, settled), now + self._interval
            self._rate = round((settled - before) / max(now - since, 0.001), 1)
        note: dict[str, Any] = {
            "at": int(time.time() * 1000),
            "worker": self._worker,
            "rate": self._rate,
        }
        if unhealthy:
            note["unhealthy"] = unhealthy[:MAX_UNHEALTHY_CHARACTERS]
        return {
            partition: encode(note | {"in_flight": records}, memory.get(partition, {}))
            for partition, records in in_flight.items()
        }


def encode(state: Mapping[str, Any], memory: Memory) -> str:
    """Return a note within the bound; what does not fit is left out, the reason first.

    Args:
        state: of the worker; empty where it gives the partition away.
        memory: of the partition.
    """
    note = {**memory, **state}
    for left_out in ("unhealthy", "held", *state, *memory):
        text = orjson.dumps(note)
        if len(text) <= MAX_NOTE_BYTES:
            break
        note.pop(left_out, None)
    return orjson.dumps(note).decode() if note else ""

"""Counters of one handler: what came in, what became of it."""

from __future__ import annotations

import threading
from typing import Final

COUNTERS: Final = {
    "accepted": "Payloads that the hook took.",
    "recovered": "Events taken over from the journal of a dead process.",
    "delivered": "Events that every in-sync replica acknowledged.",
    "failed": "Events that Kafka refuses whatever is done, or that the journal lost.",
    "cut": "Events of which a large part was replaced by a marker.",
    "journaled": "Events that were written to the journal.",
    "journal_torn": "Files of dead processes whose last, unfinished event was cut off.",
    "journal_damaged": "Places in the journal, or events, that cannot be read.",
    "dropped_no_payload": "Hooks called with None or no dict in the payload's place.",
    "dropped_unreadable": "Payloads that could not be converted.",
    "dropped_queue_full": "Payloads that came while memory and journal had no room.",
    "dropped_disabled": "Payloads that came while wrong settings had the handler disabled.",
    "producer_rebuilt": "Fatal errors of the Kafka client, each answered by a new one.",
}
"""Every counter and what it counts; also the help texts of the metrics."""

_CAME: Final = ("accepted", "recovered")
_WENT: Final = ("delivered", "failed", "dropped_unreadable")


class Stats:
    """Numbers since the process began.

    accepted + recovered = delivered + failed + dropped_unreadable + pending, at all times.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(COUNTERS, 0)

    def add(self, counter: str, number: int = 1) -> None:
        """Add to one of `COUNTERS`; hooks and delivery reports call it from several threads."""
        # Nothing is called with the lock held: a signal may be handled within a call, and its
        # handler waits for a thread that counts.
        with self._lock:
            self._values[counter] += number

    @property
    def pending(self) -> int:
        """Events taken and not yet settled."""
        return _pending(self._values.copy())

    def snapshot(self) -> dict[str, int]:
        """Return all counters, and `pending`."""
        values = self._values.copy()
        return values | {"pending": _pending(values)}


def _pending(values: dict[str, int]) -> int:
    return sum(values[name] for name in _CAME) - sum(values[name] for name in _WENT)

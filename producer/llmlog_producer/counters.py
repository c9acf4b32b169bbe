"""Owns the counters of one handler: accepted events, and their outcomes."""

from __future__ import annotations

import threading
from typing import Final

COUNTERS: Final = {
    "accepted": "Payloads that the hook accepted.",
    "recovered": "Events recovered from the journal of a dead process.",
    "delivered": "Events that every in-sync replica acknowledged.",
    "failed": "Events that Kafka refused for good, or that the journal lost.",
    "truncated": "Events in which a large part was replaced by a marker.",
    "journaled": "Events that were written to the journal.",
    "not_journaled": "Events that LLMLOG_JOURNAL=always had not written when their hook returned.",
    "journal_truncated_files": "Files of dead processes that ended within an event.",
    "journal_damaged": "Places in the journal, or events, that cannot be read.",
    "dropped_no_payload": "Calls of a hook without a payload.",
    "dropped_unreadable": "Payloads that could not be converted.",
    "dropped_queue_full": "Payloads dropped because the memory bound was reached.",
    "dropped_disabled": "Payloads dropped because wrong settings had disabled the handler.",
    "producer_rebuilt": "Fatal errors of the Kafka client; each was replaced by a new one.",
}
"""Every counter and what it counts; also the help texts of the metrics."""

GAUGES: Final = {
    "pending": "Events that are not settled yet.",
    "in_journal": "Events among them that the journal holds.",
}
"""Every number that goes up and down, and what it says."""

_ENTERED: Final = ("accepted", "recovered")
_SETTLED: Final = ("delivered", "failed", "dropped_unreadable")


class Stats:
    """Numbers since the process began; all methods may be called from any thread.

    accepted + recovered = delivered + failed + dropped_unreadable + pending, at all times.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(
            (*COUNTERS, "in_journal"), 0
        )  # written with `_lock` held, read without
        self._settled = threading.Condition()

    def add(self, counter: str, number: int = 1) -> None:
        """Add to one of `COUNTERS`, or to `in_journal`."""
        # A signal handler may run within any call, and it waits for a thread that counts: so no
        # call is made while the lock is held.
        with self._lock:
            self._values[counter] += number

    def settle(self, counter: str, number: int = 1) -> None:
        """Add to a counter of settled events, and notify the threads that wait for it."""
        self.add(counter, number)
        with self._settled:
            self._settled.notify_all()

    def wait_settled(self, seconds: float) -> None:
        """Wait until events are settled, for so many seconds at most."""
        with self._settled:
            self._settled.wait(seconds)

    @property
    def pending(self) -> int:
        """Events that were accepted or recovered and are not settled yet."""
        return _pending(self._values.copy())

    @property
    def unsafe(self) -> int:
        """Events that only memory holds."""
        # What is settled leaves the journal's number first, so this one is never too small.
        values = self._values.copy()
        return max(0, _pending(values) - values["in_journal"])

    def snapshot(self) -> dict[str, int]:
        """Return all of `COUNTERS` and `GAUGES`."""
        values = self._values.copy()
        return values | {"pending": _pending(values)}


def _pending(values: dict[str, int]) -> int:
    return sum(values[name] for name in _ENTERED) - sum(values[name] for name in _SETTLED)

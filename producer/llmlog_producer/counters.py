"""Owns the numbers of one handler: accepted events, their outcomes, and how long hooks take."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from typing import Final

COUNTERS: Final = {
    "accepted": "Payloads that the hook accepted.",
    "recovered": "Events recovered from the journal of a dead process.",
    "delivered": "Events that every in-sync replica acknowledged.",
    "failed": "Events that Kafka refused for good, or that the journal lost.",
    "truncated": "Events in which a large part was replaced by a marker.",
    "stuck": "Events without content, because the conversion of their payload did not end.",
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
"""Every number of events that goes up and down, and what it says."""

HOOK_BOUNDS_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0)
"""Upper bounds of the buckets for the time that a hook takes from its request."""
_MAX_RECENT: Final = 100_000
"""Of a second: more than a gateway answers."""

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


class HookTimes:
    """How long the hooks took; all methods may be called from any thread.

    Attributes:
        recent: seconds of the hooks since they were last taken from it; None where not wanted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(HOOK_BOUNDS_SECONDS) + 1)  # under `_lock`, as the next
        self._seconds = 0.0
        self.recent: deque[float] | None = None

    def keep_recent(self) -> deque[float]:
        """Keep each time until it is taken, from now on; return where."""
        self.recent = recent = deque[float](maxlen=_MAX_RECENT)
        return recent

    def observe(self, seconds: float) -> None:
        """Count one hook."""
        number, recent = bisect_left(HOOK_BOUNDS_SECONDS, seconds), self.recent
        with self._lock:  # no call is made within: see `Stats.add`
            self._counts[number] += 1
            self._seconds += seconds
        if recent is not None:
            recent.append(seconds)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return the buckets as Prometheus has them, each with those below it, and the sum."""
        with self._lock:
            counts, seconds = self._counts.copy(), self._seconds
        names, total, buckets = [*map(str, HOOK_BOUNDS_SECONDS), "+Inf"], 0, []
        for name, count in zip(names, counts, strict=True):
            total += count
            buckets.append((name, float(total)))
        return buckets, seconds

"""Counters of one handler: what came in, what became of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

COUNTERS = (
    "accepted", "delivered", "dropped_no_payload", "dropped_unreadable", "dropped_queue_full",
    "dropped_disabled", "failed", "cut",
)  # fmt: skip


@dataclass
class Stats:
    """Numbers since the process began; read them with `snapshot`.

    accepted = delivered + failed + dropped_unreadable + pending, at all times.
    """

    accepted: int = 0
    """Payloads that the hook queued."""
    delivered: int = 0
    """Events that every in-sync replica acknowledged."""
    failed: int = 0
    """Events that Kafka refused for good."""
    cut: int = 0
    """Events whose largest parts were replaced by a marker to fit the topic."""
    dropped_no_payload: int = 0
    """Hooks called with None or no dict in the payload's place."""
    dropped_unreadable: int = 0
    """Payloads that could not be converted."""
    dropped_queue_full: int = 0
    """Payloads that came while the memory bound was reached."""
    dropped_disabled: int = 0
    """Payloads that came while wrong settings had the handler disabled."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, counter: str, number: int = 1) -> None:
        """Add to one of `COUNTERS`; hooks and delivery reports call it from several threads."""
        with self._lock:
            setattr(self, counter, getattr(self, counter) + number)

    @property
    def pending(self) -> int:
        """Events accepted and not yet settled."""
        with self._lock:
            return self.accepted - self.delivered - self.failed - self.dropped_unreadable

    def snapshot(self) -> dict[str, int]:
        """Return all counters, and `pending`."""
        pending = self.pending
        with self._lock:
            values = {name: getattr(self, name) for name in COUNTERS}
        return {**values, "pending": pending}

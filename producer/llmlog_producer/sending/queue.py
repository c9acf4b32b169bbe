"""The queue between hooks and the background thread: bounded by number and by bytes."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llmlog_producer.events.build import CapturedPayload, EncodedEvent

MAX_QUEUED_EVENTS: Final = 20_000
MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
WAKE_BYTES: Final = 1024 * 1024
"""Bytes that end the thread's nap. With much more to be freed, the C library gives memory back to
the system, and a hook that copies a large payload waits for new pages: half a millisecond."""


class EventQueue:
    """What hooks have taken and the thread has not.

    Hooks wake the thread once in `WAKE_BYTES` alone: each time costs a system call.
    """

    def __init__(self) -> None:
        self._entries: deque[CapturedPayload | EncodedEvent] = deque()
        self._bytes = self._new = 0
        self._lock = threading.Lock()

    @property
    def nearly_full(self) -> bool:
        """A quarter of a bound is reached."""
        return len(self._entries) > MAX_QUEUED_EVENTS // 4 or self._bytes > MAX_QUEUED_BYTES // 4

    def has_room(self, size: int) -> bool:
        """Tell whether the bounds leave room for an entry of so many bytes."""
        return len(self._entries) < MAX_QUEUED_EVENTS and self._bytes + size <= MAX_QUEUED_BYTES

    def put(self, entry: CapturedPayload | EncodedEvent) -> bool:
        """Append an entry; the caller has asked for room.

        Returns:
            True once there is much that is new.
        """
        # A signal is handled within a call, and its handler waits for the thread that takes: no
        # call is made with the lock held.
        size = entry.size
        with self._lock:
            self._bytes += size
            self._new += size
            much = self._new >= WAKE_BYTES
            if much:
                self._new = 0
        self._entries.append(entry)
        return much

    def take(self, number: int) -> list[CapturedPayload | EncodedEvent]:
        """Remove the oldest entries, so many at most."""
        entries = self._entries
        if not entries:
            return []
        with self._lock:
            taken = [entries.popleft() for _ in range(min(number, len(entries)))]
            self._bytes -= sum(entry.size for entry in taken)
            self._new = 0
        return taken

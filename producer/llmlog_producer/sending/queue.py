"""Owns the queue between hooks and the sending thread: bounded by number and by bytes."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llmlog_producer.events.build import CapturedPayload, EncodedEvent

MAX_QUEUED_EVENTS: Final = 20_000
MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
TAKEN_BYTES: Final = 4 * 1024 * 1024
"""What the sending thread has taken is not counted any more: little of it at once."""
WAKE_BYTES: Final = 1024 * 1024
"""New bytes that end the sending thread's idle wait. If much more is freed at once, the C library
gives memory back to the system, and a hook that copies a large payload waits for new pages."""


class EventQueue:
    """The events that hooks have accepted and the sending thread has not taken yet.

    Hooks of all threads append, the sending thread takes. A hook wakes that thread only once in
    `wake_bytes`: each time costs a system call.

    Args:
        max_events: bound of the number of entries.
        max_bytes: bound of their size.
        wake_bytes: new bytes after which `put` asks for the thread to be woken.
        entries: the container of the entries; for tests.
    """

    def __init__(
        self,
        *,
        max_events: int = MAX_QUEUED_EVENTS,
        max_bytes: int = MAX_QUEUED_BYTES,
        wake_bytes: int = WAKE_BYTES,
        entries: deque[CapturedPayload | EncodedEvent] | None = None,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._wake_bytes = wake_bytes
        # Hooks append at one end, the sending thread removes at the other: atomic without a lock.
        self._entries = deque() if entries is None else entries
        # Hooks and the sending thread change both with `_lock` held; all read them without it.
        self._bytes = self._new_bytes = 0
        self._lock = threading.Lock()

    @property
    def nearly_full(self) -> bool:
        """Whether a quarter of a bound is reached."""
        return len(self._entries) > self._max_events // 4 or self._bytes > self._max_bytes // 4

    @property
    def has_entries(self) -> bool:
        """Whether there is an entry."""
        return bool(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether it is not worth while to copy a payload: a bound is reached, or nearly so."""
        return len(self._entries) >= self._max_events or self._bytes >= self._max_bytes * 15 // 16

    def has_room(self, size: int) -> bool:
        """Tell whether the bounds leave room for an entry of so many bytes."""
        return len(self._entries) < self._max_events and self._bytes + size <= self._max_bytes

    def put(self, entry: CapturedPayload | EncodedEvent) -> bool:
        """Append an entry; the caller has asked for room.

        Returns:
            True if the sending thread is to be woken.
        """
        # A signal handler may run within any call, and it waits for the sending thread, which needs
        # the lock: so nothing is called while it is held.
        size = entry.size
        with self._lock:
            self._bytes += size
            self._new_bytes += size
            wake = self._new_bytes >= self._wake_bytes
            if wake:
                self._new_bytes = 0
        self._entries.append(entry)
        return wake

    def take(self, max_events: int) -> list[CapturedPayload | EncodedEvent]:
        """Remove and return the oldest entries, so many at most, and none past `TAKEN_BYTES`."""
        entries = self._entries
        if not entries:
            return []
        with self._lock:
            taken: list[CapturedPayload | EncodedEvent] = []
            size = 0
            while entries and len(taken) < max_events and size < TAKEN_BYTES:
                taken.append(entries.popleft())
                size += taken[-1].size
            self._bytes -= size
            self._new_bytes = 0
        return taken

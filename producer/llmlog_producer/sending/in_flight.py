"""Owns the events that Kafka has not answered: how many there may be, and which are late."""

from __future__ import annotations

import math
from itertools import chain, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_producer.events.build import EncodedEvent
    from llmlog_producer.sending.partitioner import BurstPartitioner
    from llmlog_producer.sending.spill import Spill


class SendWindow:
    """The number of events that may be in flight: many, or one after a refusal.

    Kafka refuses a batch as a whole, for the size of all its events too. So after a refusal each
    event is sent alone, in a batch of its own, until one is acknowledged; then the number doubles
    with each acknowledgement. The sending thread alone uses it.

    Args:
        max_events: the number while all is well.

    Attributes:
        size: events that may be in flight now.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self.size = max_events
        self._alone_since = math.inf

    def was_alone(self, sent: float) -> bool:
        """Tell whether an event that was sent then (monotonic seconds) had its own batch."""
        return sent >= self._alone_since

    def send_alone(self, now: float) -> None:
        """Send one event at a time from now on, until one of these is acknowledged."""
        if self.size > 1:
            self.size, self._alone_since = 1, now

    def acknowledge(self, sent: float) -> None:
        """Take note that an event was acknowledged.

        Args:
            sent: when it was sent, in monotonic seconds.
        """
        if self.size > 1 or self.was_alone(sent):
            self.size, self._alone_since = min(self._max_events, 2 * self.size), math.inf


class InFlight:
    """The events in flight, with the partition of each; iterates over those that are on time.

    An event that is overdue is late: its partition takes no others until Kafka has answered for it.
    Late events do not count against the window, so the other partitions go on. What the journal has
    written is late with them. The sending thread alone uses it; other threads read `late`.

    Args:
        spill: writes what is overdue.
        partitions: told which of them are late.
        overdue_seconds: age at which an event is overdue.
        max_events: how many may be on time.

    Attributes:
        window: how many may be on time now.
    """

    def __init__(
        self,
        spill: Spill,
        partitions: BurstPartitioner,
        *,
        overdue_seconds: float,
        max_events: int,
    ) -> None:
        self._spill = spill
        self._partitions = partitions
        self._overdue_seconds = overdue_seconds
        self.window = SendWindow(max_events)
        # Each in the order of sending.
        self._on_time: dict[EncodedEvent, int] = {}
        self._late: dict[EncodedEvent, int] = {}

    def __len__(self) -> int:
        return len(self._on_time)

    def __iter__(self) -> Iterator[EncodedEvent]:
        return iter(self._on_time)

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return self.window.size - len(self._on_time)

    @property
    def late(self) -> int:
        """The number of late events."""
        return len(self._late)

    @property
    def are_written(self) -> bool:
        """Whether the journal has all of them, on time or late."""
        return all(event.ref is not None for event in chain(self._late, self._on_time))

    def add(self, event: EncodedEvent, partition: int) -> None:
        """Add an event that was handed to the client."""
        self._on_time[event] = partition

    def remove(self, event: EncodedEvent) -> int | None:
        """Remove an event that Kafka has answered; return its partition, None if it is not here."""
        partition = self._on_time.pop(event, None)
        if partition is None:
            partition = self._late.pop(event, None)
        if partition is not None:
            self._partitions.remove_late(partition, event)
        return partition

    def note_late(self, now: float) -> None:
        """Make the events late that are overdue, or that the journal has written with them."""
        written = self._spill.copy_overdue(self._on_time, now)
        is_overdue = self._is_overdue_at(now)
        overdue = list(takewhile(is_overdue, self._on_time))
        for event in overdue:
            self._partitions.add_late(self._on_time[event], event)
        for event in written if self._spill.has_journal else overdue:
            self._late[event] = self._on_time.pop(event)
        # Those that a full journal has not written stay on time: they are to be written yet.

    def oldest_late_seconds(self, now: float) -> float:
        """Return how long ago the oldest late event was sent; 0 without any."""
        return now - next((event.sent for event in self._late), math.inf) if self._late else 0.0

    def take_all(self) -> list[EncodedEvent]:
        """Remove and return all events: their client is to be replaced."""
        events = [*self._late, *self._on_time]
        self._late.clear()
        self._on_time.clear()
        return events

    def _is_overdue_at(self, now: float) -> Callable[[EncodedEvent], bool]:
        return lambda event: now - event.sent >= self._overdue_seconds

"""Owns how many events may be in flight to Kafka, and when sending pauses. Pure."""

from __future__ import annotations

import math


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
        self._paused_until = 0.0

    def is_open(self, in_flight: int, now: float) -> bool:
        """Tell whether one more event may be sent.

        Args:
            in_flight: events that Kafka has not answered yet.
            now: monotonic seconds.
        """
        return in_flight < self.size and now >= self._paused_until

    def was_alone(self, sent: float) -> bool:
        """Tell whether an event that was sent then (monotonic seconds) had its own batch."""
        return sent >= self._alone_since

    def send_alone(self, now: float) -> None:
        """Send one event at a time from now on, until one of these is acknowledged."""
        if self.size > 1:
            self.size, self._alone_since = 1, now

    def pause(self, until: float) -> None:
        """Send nothing until then, in monotonic seconds."""
        self._paused_until = until

    def acknowledge(self, sent: float) -> None:
        """Take note that an event was acknowledged.

        Args:
            sent: when it was sent, in monotonic seconds.
        """
        if self.size > 1 or self.was_alone(sent):
            self.size, self._alone_since = min(self._max_events, 2 * self.size), math.inf

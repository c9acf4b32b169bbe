"""Owns what is said of Kafka: why events wait, and that they do not any more."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.throttled_log import ThrottledLog


_SHOWN: Final = 10
"""Partitions that one line names."""


class Trouble:
    """What keeps events from Kafka, from the first time that it is seen until Kafka takes one.

    The sending thread alone uses it; all threads read `reason`.

    Args:
        log: writes the lines.
        clock: monotonic seconds.

    Attributes:
        reason: why Kafka takes no events; empty while it does.
    """

    def __init__(self, log: ThrottledLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._since = 0.0
        self._closed: list[int] = []
        self.reason = ""

    def begin(self, cause: object, reason: str) -> None:
        """Say why Kafka takes no events.

        Args:
            cause: hashable; one line a minute for each.
            reason: the client's own, and what to do.
        """
        if not self.reason:
            self._since = self._clock()
        self.reason = reason
        self._log(logging.ERROR, cause, f"Kafka takes no events, they wait: {reason}")

    def end(self) -> None:
        """Say that Kafka takes events again, if it did not."""
        if self.reason:
            seconds = self._clock() - self._since
            self._log(
                logging.WARNING,
                "over",
                f"Kafka takes events again, after {seconds:.0f} s; it was: {self.reason}",
            )
            self.reason = ""

    def note_partitions(self, closed: list[int], count: int, topic: str) -> None:
        """Say which partitions take no events, when that changes, and that all do again.

        Args:
            closed: the partitions.
            count: all partitions of the topic.
            topic: its name.
        """
        closed = [partition for partition in closed if partition >= 0]
        if closed == self._closed:
            return
        before, self._closed = self._closed, closed
        if not closed:
            self._log(
                logging.WARNING,
                "partitions answer",
                f"topic {topic}: partitions {_listed(before)} take events again",
            )
        elif len(closed) < count:
            self._log(
                logging.WARNING,
                "partitions",
                f"topic {topic}: partitions {_listed(closed)} take no events (no leader, or no "
                f"answer): new ones go to the other {count - len(closed)}",
            )


def _listed(partitions: list[int]) -> str:
    shown = ", ".join(map(str, partitions[:_SHOWN]))
    left_out = len(partitions) - _SHOWN
    return f"{shown} and {left_out} more" if left_out > 0 else shown

"""Owns for how long Elasticsearch has not answered: requests that hang, or that fail. Pure.

A connection that is refused fails at once, and one that hangs fails after a minute; both are the
same silence to the one who waits for documents.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SAID_AFTER_SECONDS: Final = 6.0
"""Silence of this length is said: a note, and so `status`, follows within 4 s."""


class Silence:
    """The requests that wait for an answer. Any thread may use it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Both are guarded by `_lock`.
        self._under_way: dict[int, float] = {}
        self._failing_since: float | None = None
        self._number = 0

    def begin(self) -> int:
        """Remember that a request begins; return its number."""
        with self._lock:
            self._number += 1
            self._under_way[self._number] = self._clock()
            return self._number

    def end(self, number: int, *, is_answered: bool) -> None:
        """Remember that a request ends, with an answer of any status or with none."""
        with self._lock:
            began = self._under_way.pop(number)
            if is_answered:
                self._failing_since = None
            elif self._failing_since is None:
                self._failing_since = began

    @property
    def seconds(self) -> float:
        """Return how long the silence lasts; 0 while there is none."""
        with self._lock:
            since = [*self._under_way.values()]
            if self._failing_since is not None:
                since.append(self._failing_since)
            return self._clock() - min(since) if since else 0.0

    def describe(self, where: str) -> str:
        """Say that there is no answer, and for how long; empty while it is short."""
        seconds = self.seconds
        if seconds < SAID_AFTER_SECONDS:
            return ""
        return (
            f"no answer of Elasticsearch at {where} for {seconds:.0f} s: "
            "nothing is lost, it is asked again"
        )

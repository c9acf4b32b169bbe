"""Owns the reading of secrets again, when a server refuses those that were read at the start.

A secret is rotated in two places, its file and its server, in any order. So the files are read
again after a refusal, at most once in `INTERVAL_SECONDS`. A file that cannot be used at that moment
is named; the values read before stay.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import read_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

INTERVAL_SECONDS: Final = 2.0


class Renewed(NamedTuple):
    """What reading again has brought.

    Attributes:
        settings: with the new values; None where nothing new was read.
        what: one line for the log; empty where there is nothing to say.
    """

    settings: Settings | None
    what: str = ""


class Renewal:
    """The secrets of one server that come from files. Any thread may call it.

    Args:
        settings: as loaded.
        prefix: of the names of that server's settings: `elasticsearch_`.
        interval_seconds: the files are read once in so long.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        prefix: str,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._prefix = prefix
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._files = ", ".join(settings.files_of(prefix))
        self._lock = threading.Lock()
        self._next = 0.0

    def renew(self) -> Renewed:
        """Read the files again, unless they were read a moment ago."""
        if not self._files:
            return Renewed(None)
        with self._lock:
            now = self._clock()
            if now < self._next:
                return Renewed(None)
            self._next = now + self._interval_seconds
            try:
                new = read_again(self._settings, self._prefix)
            except ConfigurationError as error:
                return Renewed(None, f"the values read before are kept: {error}")
            if new.values == self._settings.values:
                return Renewed(None)
            self._settings = new
            return Renewed(new, f"credentials read again from {self._files}")

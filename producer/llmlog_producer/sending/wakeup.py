"""Owns the idle wait of the sending thread, and what ends it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress


class Wakeup:
    """Ends the idle wait of the sending thread; one for each publisher.

    Any thread may call `wake`, and so may a signal handler: it takes no lock that the interrupted
    code could hold. `threading.Event` does take one.
    """

    def __init__(self) -> None:
        # Held while there is no reason to wake.
        self._idle = threading.Lock()
        self._idle.acquire()

    def wake(self) -> None:
        """End the idle wait, or the next one if there is none now."""
        with suppress(RuntimeError):  # it was released before
            self._idle.release()

    def idle_wait(self, seconds: float) -> None:
        """Wait for `wake`, for so many seconds at most; for the sending thread alone."""
        self._idle.acquire(timeout=seconds)

    def give_way(self, seconds: float) -> None:
        """Leave the interpreter to the other threads for so long; `wake` does not end it."""
        time.sleep(seconds)

"""Owns the way of log lines to a stream that may be stalled: no caller ever waits for its reader.

A thread writes. What it cannot write waits, up to a bound; what is past the bound is left out and
counted, and a line says so once the stream is read again.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING_CHARACTERS: Final = 256 * 1024

LAST_LINES_SECONDS: Final = 1.0
"""Time for the last lines of a process, where its stderr is stalled."""

_STDERR: Final = 2

STALLED_SECONDS: Final = 3.0
"""Time that one line may take; after it, the stream counts as stalled."""


def open_stderr() -> LogStream:
    """Return the stream to this process's stderr."""
    # Not by `sys.stderr`: a thread that waits in it would hold its lock when the process ends.
    stream = LogStream(
        lambda text: os.write(_STDERR, text.encode(errors="replace")),
        is_terminal=os.isatty(_STDERR),
    )
    atexit.register(stream.flush, LAST_LINES_SECONDS)
    return stream


class LogStream:
    """A stream of text whose `write` never waits. Any thread may write.

    Args:
        put: takes a line, in one call: several processes share what is behind it. It may wait.
        max_characters: of the lines that wait.
        clock: monotonic seconds.
        is_terminal: a person reads along.

    Attributes:
        left_out: lines that found no room since the start.
    """

    def __init__(
        self,
        put: Callable[[str], object],
        max_characters: int = MAX_WAITING_CHARACTERS,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_terminal: bool = False,
    ) -> None:
        self._write = put
        self._max = max_characters
        self._clock = clock
        self._is_terminal = is_terminal
        self._changed = threading.Condition()
        # All of these are guarded by `_changed`.
        self._lines: deque[str] = deque()
        self._characters = 0
        self._unsaid = 0
        self._since: float | None = None  # when the thread began to write; None while it waits
        self._thread: threading.Thread | None = None
        self.left_out = 0

    def write(self, text: str) -> int:
        """Hand a line to the thread that writes, or leave it out."""
        with self._changed:
            if self._characters + len(text) > self._max:
                self.left_out += 1
                self._unsaid += 1
                return len(text)
            self._lines.append(text)
            self._characters += len(text)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llmlog-log", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return len(text)

    def flush(self, seconds: float = 0.0) -> bool:
        """Wait up to this time until everything is written; return whether it is."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, seconds)

    @property
    def stalled_seconds(self) -> float:
        """Return for how long the stream has taken nothing; 0 while it takes lines."""
        with self._changed:
            seconds = self._clock() - self._since if self._since is not None else 0.0
        return seconds if seconds >= STALLED_SECONDS else 0.0

    def describe(self) -> str:
        """Say that the stream is stalled, and what to do; empty while it is not."""
        seconds = self.stalled_seconds
        if not seconds:
            return ""
        return (
            f"stderr takes no line since {seconds:.0f} s, {self.left_out} lines were left out: "
            "read it, or send it to a file"
        )

    def isatty(self) -> bool:
        """Tell whether a person reads along, as a stream does."""
        return self._is_terminal

    def _is_idle(self) -> bool:
        return not self._lines and self._since is None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                text = self._lines.popleft()
                self._since = self._clock()
            self._put(text)
            with self._changed:
                self._characters -= len(text)
                unsaid, self._unsaid = self._unsaid, 0
            if unsaid:
                self._put(f"{unsaid} log lines were left out here: stderr was not read in time\n")
            with self._changed:
                self._since = None
                self._changed.notify_all()

    def _put(self, text: str) -> None:
        try:
            self._write(text)
        except OSError:
            return  # the reader is gone: there is no one to tell

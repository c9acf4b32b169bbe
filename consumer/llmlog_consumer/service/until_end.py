"""Owns the lines that say what `pipeline consume --until-end` waits for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("llmlog")


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits in seconds.

    Attributes:
        first: before the first look; a line follows within ten seconds of the start.
        interval: between two looks.
        line: between two lines.
    """

    first: float = 4.0
    interval: float = 10.0
    line: float = 60.0


class WaitLines:
    """A thread that looks at the group while workers run, and logs what they wait for.

    The looks ask Kafka alone, as `pipeline status` does. A context: the thread ends with it.

    Args:
        look: returns what is waited for; may raise `PipelineError` or `Unreachable`.
        timing: of looks and lines.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        look: Callable[[], str],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._timing = timing or Timing()
        self._clock = clock
        self._ended = threading.Event()
        self._last = ""  # written by the thread, read by the caller's
        self._thread = threading.Thread(target=self._run, name="llmlog-until-end", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @property
    def reason(self) -> str:
        """Return what was waited for at the last look; looks now where there was none."""
        return self._last or self._look_once()

    def _run(self) -> None:
        wait, next_line = self._timing.first, 0.0
        while not self._ended.wait(wait):
            self._last, wait = self._look_once(), self._timing.interval
            if self._clock() >= next_line and not self._ended.is_set():
                next_line = self._clock() + self._timing.line
                log.info("waiting", what=self._last)

    def _look_once(self) -> str:
        try:
            return self._look()
        except (PipelineError, Unreachable) as error:
            return str(error)

"""Owns the thread of the supervisor that reads the group's lag from Kafka for the metrics."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOK_SECONDS: Final = 10.0
"""Between two looks: each asks for offsets, and reads the first waiting record of a partition."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What waits, as Kafka has it.

    Attributes:
        records: not settled, by partition.
        seconds: age of the oldest of them, by partition; None where it is unknown.
        read_at: monotonic seconds; None where nothing has been read yet.
    """

    records: Mapping[int, int] = field(default_factory=dict)
    seconds: Mapping[int, float | None] = field(default_factory=dict)
    read_at: float | None = None


class GroupWatch:
    """A thread that reads the lag while workers run. A context: the thread ends with it.

    Args:
        look: returns records and seconds by partition; may raise `PipelineError` or `Unreachable`.
        interval_seconds: between two looks.
        clock: monotonic seconds.

    Attributes:
        lag: as of the last look that succeeded; the thread replaces it and never changes it.
    """

    def __init__(
        self,
        look: Callable[[], tuple[Mapping[int, int], Mapping[int, float | None]]],
        interval_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._interval = interval_seconds
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmlog-group", daemon=True)
        self.lag = Lag()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                records, seconds = self._look()
                self.lag = Lag(records, seconds, self._clock())
            except (PipelineError, Unreachable):
                pass  # workers say why; `lag_age_seconds` grows
            self._ended.wait(self._interval)

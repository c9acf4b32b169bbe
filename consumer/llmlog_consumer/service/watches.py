"""Owns the supervisor's threads that ask servers for what the metrics tell beside its workers."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LAG_SECONDS: Final = 10.0
"""Between two looks at the group: each asks for offsets, and reads one record of a partition."""
CERTIFICATES_SECONDS: Final = 3600.0
"""Between two looks at the certificates of servers: each connects to all of them."""

T = TypeVar("T")


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


class Watch(Generic[T]):
    """A thread that asks again and again while workers run. A context: the thread ends with it.

    Args:
        name: of the thread.
        look: returns the answer; may raise `PipelineError` or `Unreachable`.
        first: what is known before the first look.
        interval_seconds: between two looks.

    Attributes:
        latest: of the last look that succeeded; the thread replaces it and never changes it.
    """

    def __init__(self, name: str, look: Callable[[], T], first: T, interval_seconds: float) -> None:
        self._look = look
        self._interval = interval_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.latest = first

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(PipelineError, Unreachable):  # workers say why; the lag's age grows
                self.latest = self._look()
            self._ended.wait(self._interval)

"""Owns the state of a pause: the deployment is wrong, and nothing but probes is sent. Pure.

sending ──hold──> paused ──take_probe──> probing ──resume──> sending
                    ^                       │
                    └── hold, keep_probe ───┘
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from llmlog_consumer.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBE_BACKOFF: Final = Backoff(first_seconds=1.0, max_seconds=15.0)

T = TypeVar("T")


@dataclass(slots=True)
class Pause(Generic[T]):
    """The batches that are held while the deployment is wrong, and the probe among them.

    One batch at a time is sent as the probe, and only its answer ends the pause. The thread that
    runs the delivery owns it; the caller passes the time, in monotonic seconds.

    Attributes:
        why: Elasticsearch's answer, and what to do; empty while nothing is paused.
        refusals: how often the answer that began the pause was given again, the first included;
            0 while nothing is paused.
    """

    why: str = ""
    refusals: int = 0
    _held: deque[T] = field(default_factory=deque)
    _probe: T | None = None
    _next_probe: float = 0.0

    @property
    def active(self) -> bool:
        """Tell whether nothing but probes may be sent."""
        return self.refusals > 0

    @property
    def held(self) -> int:
        """Batches that wait; the probe is not one of them."""
        return len(self._held)

    def hold(self, batch: T, why: str, now: float) -> bool:
        """Hold a batch that was refused; True where this begins the pause.

        The wait for the next probe grows with each probe that is refused. Batches that were under
        way when the pause began do not make it grow.
        """
        begins = not self.active
        if begins or self._probe is not None:
            self.refusals += 1
        self.why = why
        self._keep(batch, now + _PROBE_BACKOFF.delay(self.refusals))
        return begins

    @property
    def is_probing(self) -> bool:
        """Tell whether a probe has no answer yet."""
        return self._probe is not None

    def __iter__(self) -> Iterator[T]:
        """Return the batches that wait; the probe is not one of them."""
        return iter(self._held)

    def add(self, batch: T) -> None:
        """Hold a batch that was not refused, behind the others."""
        self._held.append(batch)

    def keep_probe(self, probe: T, remainder: T, not_before: float) -> bool:
        """Hold the part of a probe that has to be sent again; False where it was no probe.

        Args:
            probe: the batch that was answered.
            remainder: its part that has no outcome.
            not_before: when it may be sent again.
        """
        if not self.is_probe(probe):
            return False
        self._keep(remainder, not_before)
        return True

    def is_probe(self, batch: T) -> bool:
        """Tell whether this batch is the probe and waits for its answer."""
        return self._probe is batch

    def take_probe(self, now: float) -> T | None:
        """Return the batch to send as the probe; None where it is too early, or none is held."""
        if not self._held or now < self._next_probe:
            return None
        self._probe = self._held.popleft()
        return self._probe

    def resume(self) -> list[T]:
        """End the pause; return the held batches in their order."""
        held = list(self._held)
        self._held.clear()
        self.why, self.refusals, self._probe = "", 0, None
        return held

    def _keep(self, batch: T, until: float) -> None:
        self._held.append(batch)
        self._probe, self._next_probe = None, until

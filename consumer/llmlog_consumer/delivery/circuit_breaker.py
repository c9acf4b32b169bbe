"""When deaths are the deployment's fault and not the documents': the circuit_open breaker. Pure.

A deployment that is wrong kills more than half of a thousand records, or a thousand in a row of
one cause; a bad client does not. Tripped, it keeps what dies from becoming letters, gives a few
of them back from time to time to be tried again, and closes by itself once those go in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from llmlog_consumer.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MIN_RECORDS: Final = 1_000
"""Records before a share means anything, and deaths in a row that trip."""
FLOOD: Final = 0.5
"""Share of deaths above which the breaker trips."""
ALERT: Final = 0.01
"""Share of deaths above which somebody should look."""
PROBE_RECORDS: Final = 100

SHORTEST: Final = 30.0
"""Seconds before the first probe, and at least between two."""

_PROBE: Final = Backoff(first_seconds=60.0, max_seconds=300.0)

T = TypeVar("T")


class Phase(Enum):
    """Which part of the way decided; each has an order of its own."""

    READ = "read"
    INDEX = "index"


@dataclass(slots=True)
class FailureRate:
    """The share of deaths among recent records; older ones count for half, again and again."""

    seen: float = 0.0
    died: float = 0.0
    row: int = 0
    cause: str = ""

    def good(self, records: int) -> None:
        """Count records that passed; none leaves the row of deaths as it is."""
        if not records:
            return
        self.seen += records
        self.row = 0
        self._fade()

    def bad(self, cause: str) -> None:
        """Count one that died."""
        self.seen += 1
        self.died += 1
        self.row = self.row + 1 if cause == self.cause else 1
        self.cause = cause
        self._fade()

    @property
    def value(self) -> float:
        """Between 0 and 1; 0 as long as too few records were seen."""
        return self.died / self.seen if self.seen >= MIN_RECORDS else 0.0

    def _fade(self) -> None:
        while self.seen >= 4 * MIN_RECORDS:
            self.seen /= 2
            self.died /= 2


@dataclass(slots=True)
class Breaker(Generic[T]):
    """Outcomes in, open or closed out.

    Attributes:
        accepted: fingerprints that are let through as letters and not counted.
        cause: the fingerprint that tripped it; empty while it is closed.
    """

    accepted: frozenset[str] = frozenset()
    cause: str = ""
    _shares: dict[Phase, FailureRate] = field(
        default_factory=lambda: {p: FailureRate() for p in Phase}
    )
    _held: dict[Hashable, T] = field(default_factory=dict)
    _probing: set[Hashable] = field(default_factory=set)
    _probe_size: int = 0
    _indexed: int = 0
    _probes: int = 0
    _next_probe: float = 0.0

    @property
    def open(self) -> bool:
        """Tell whether deaths are held."""
        return bool(self.cause)

    @property
    def held(self) -> int:
        """Records that wait for the deployment to be mended."""
        return len(self._held)

    @property
    def share(self) -> float:
        """Share of deaths over the whole way, between 0 and 1."""
        alive = 1.0
        for share in self._shares.values():
            alive *= 1.0 - share.value
        return 1.0 - alive

    def record_success(self, phase: Phase, records: int = 1) -> None:
        """Count records that a phase let through."""
        self._shares[phase].good(records)

    def record_failure(self, phase: Phase, cause: str, key: Hashable, item: T, now: float) -> bool:
        """Count a death; True where it is held and must not become a letter.

        Args:
            phase: which part of the way decided.
            cause: the letter's fingerprint.
            key: names the record, the same in each attempt.
            item: given back by `due`.
            now: monotonic seconds.
        """
        if cause in self.accepted:
            self._tried(key, now, indexed=True)
            return False
        share = self._shares[phase]
        share.bad(cause)
        if not self.open and (share.row >= MIN_RECORDS or self.share > FLOOD):
            self.cause = cause
            self._probes = 0
            self._next_probe = now + SHORTEST
        if not self.open:
            return False
        self._held[key] = item
        self._tried(key, now, indexed=False)
        return True

    def record_indexed(self, key: Hashable, now: float) -> None:
        """Take note of a record that did not die."""
        self._tried(key, now, indexed=True)

    def record_released(self, key: Hashable, now: float) -> None:
        """Take note of a record that says nothing of the deployment: released, or expired."""
        if key in self._probing:
            self._probe_size -= 1
            self._tried(key, now, indexed=False)

    def due(self, now: float, ours: Callable[[T], bool]) -> list[T]:
        """Return what is to be tried again now: a few while open, everything once closed.

        Args:
            now: monotonic seconds.
            ours: asked of an item; what is not ours any more is forgotten, and waits for nothing.
        """
        waits = self.open and (self._probing or now < self._next_probe)
        if self._held and not (waits and ours(next(iter(self._held.values())))):
            self._held = {key: item for key, item in self._held.items() if ours(item)}
        if self.open and not self._held and not self._probing:
            self.cause = ""  # nothing is left to try; the share stays, and one death trips again
        if not self._held or waits:
            return []
        number = PROBE_RECORDS if self.open else len(self._held)
        keys = list(self._held)[:number]
        if self.open:
            self._probing = set(keys)
            self._probe_size, self._indexed = len(keys), 0
        return [self._held.pop(key) for key in keys]

    def _tried(self, key: Hashable, now: float, *, indexed: bool) -> None:
        if key not in self._probing:
            return
        self._probing.discard(key)
        self._indexed += indexed
        if self._probing:
            return
        if self._indexed > self._probe_size * FLOOD:
            self.cause = ""
            self._shares = {phase: FailureRate() for phase in Phase}
        elif self._probe_size:  # else all of it is gone, and it has told nothing
            self._probes += 1
            self._next_probe = now + _PROBE.delay(self._probes, at_least=SHORTEST)

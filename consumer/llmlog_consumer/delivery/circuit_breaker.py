"""Owns the decision that failures are the deployment's fault and not the documents'. Pure.

A wrong deployment makes more than half of a thousand records fail, or a thousand in a row with
one cause; one bad client does not. Then the circuit opens: failed records are held and become no
letters. From time to time a few of them are tried again. Once these succeed, the circuit closes.

A circuit that is open without a held record, because the note of an earlier owner says so or
because all of them were released, takes in new records as its probe, and no more than these.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from llmlog_consumer.backoff import Backoff
from llmlog_consumer.delivery.failure_rate import MIN_RECORDS, FailureRate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

MAX_FAILED_SHARE: Final = 0.5
"""Share of failures above which the circuit opens."""
ALERT_SHARE: Final = 0.01
"""Share of failures above which a person should look for the cause."""
PROBE_RECORDS: Final = 100

MIN_PROBE_SECONDS: Final = 30.0
"""Time before the first probe, and the least time between two."""

PROBE_IDLE_SECONDS: Final = 5.0
"""Time without a new record after which a probe is judged by the ones that it has taken in."""

_PROBE_BACKOFF: Final = Backoff(first_seconds=60.0, max_seconds=300.0)

T = TypeVar("T")


class Phase(Enum):
    """The part of the way that decides about a record; each has an order of its own."""

    READ = "read"
    INDEX = "index"


@dataclass(slots=True)
class CircuitBreaker(Generic[T]):
    """The circuit between failed records and dead letters; one thread owns it.

    Attributes:
        accepted: fingerprints that always become letters and are not counted.
        cause: the fingerprint that most of the held records failed with, at first the one that
            opened the circuit; empty while it is closed.
    """

    accepted: frozenset[str] = frozenset()
    cause: str = ""
    _rates: dict[Phase, FailureRate] = field(
        default_factory=lambda: {phase: FailureRate() for phase in Phase}
    )
    _held: dict[Hashable, tuple[str, T]] = field(default_factory=dict)  # with their causes
    _causes: Counter[str] = field(default_factory=Counter)  # of the held records
    _probing: set[Hashable] = field(default_factory=set)
    _probe_size: int = 0
    _indexed: int = 0
    _takes_in: bool = False  # the probe is made of new records, not of held ones
    _wanted: int = 0
    _taken_at: float = 0.0
    _probes: int = 0
    _next_probe: float = 0.0

    @property
    def open(self) -> bool:
        """Tell whether failed records are held."""
        return bool(self.cause)

    @property
    def held(self) -> int:
        """Records that wait until the deployment is fixed."""
        return len(self._held)

    @property
    def probing(self) -> int:
        """Records of the current probe without an outcome."""
        return len(self._probing)

    @property
    def wanted(self) -> int:
        """New records that the current probe still takes in; 0 where it takes in none."""
        return self._wanted

    @property
    def share(self) -> float:
        """Share of failures over both phases, between 0 and 1."""
        alive = 1.0
        for rate in self._rates.values():
            alive *= 1.0 - rate.value
        return 1.0 - alive

    def record_success(self, phase: Phase, records: int = 1) -> None:
        """Count records that passed a phase."""
        self._rates[phase].record_success(records)

    def restore(self, cause: str) -> bool:
        """Open the circuit for a cause that an earlier owner noted; False where it changes nothing.

        Args:
            cause: the fingerprint that opened the circuit then.
        """
        if self.open or cause in self.accepted:
            return False
        self.cause, self._probes = cause, 0
        self._want_probe()
        return True

    def forget(self) -> None:
        """Close the circuit without a probe: its records and their partitions have other owners."""
        self.cause = ""
        self._held.clear()
        self._causes.clear()
        self._probing.clear()
        self._takes_in, self._wanted = False, 0

    def take_in(self, keys: Iterable[Hashable], now: float) -> None:
        """Make new records part of the probe, as far as it wants any.

        Args:
            keys: identify the records.
            now: monotonic seconds.
        """
        taken = set(islice(keys, self._wanted)) - self._probing
        if taken:
            self._probing |= taken
            self._probe_size += len(taken)
            self._wanted -= len(taken)
            self._taken_at = now

    def record_failure(
        self,
        phase: Phase,
        cause: str,
        key: Hashable,
        item: T,
        now: float,
        *,
        in_row: bool = True,
    ) -> bool:
        """Count a failure; True where the record is held and must not become a letter.

        Args:
            phase: the phase in which it failed.
            cause: the letter's fingerprint.
            key: identifies the record, the same in each attempt.
            item: returned by `due`.
            now: monotonic seconds.
            in_row: it counts for the row of one cause, and not for the share alone.
        """
        if cause in self.accepted:
            self._end_attempt(key, now, indexed=True)
            return False
        rate = self._rates[phase]
        rate.record_failure(cause, in_row=in_row)
        if not self.open and (rate.in_a_row >= MIN_RECORDS or self.share > MAX_FAILED_SHARE):
            self.cause = cause
            self._probes = 0
            self._next_probe = now + MIN_PROBE_SECONDS
        if not self.open:
            return False
        self._hold(cause, key, item)
        self._end_attempt(key, now, indexed=False)
        return True

    def record_indexed(self, key: Hashable, now: float) -> None:
        """Count a record whose document exists now as a success of the probe."""
        self._end_attempt(key, now, indexed=True)

    def record_released(self, key: Hashable, now: float) -> None:
        """Take a record out of the probe: it was released or waits elsewhere, and tells nothing."""
        if key in self._probing:
            self._probe_size -= 1
            self._wanted += self._takes_in
            self._end_attempt(key, now, indexed=False)

    def due(self, now: float, is_ours: Callable[[T], bool]) -> list[T]:
        """Return the items to try again now: a few while open, all of them once closed.

        Args:
            now: monotonic seconds.
            is_ours: tells whether an item still belongs to this worker; others are dropped.
        """
        is_idle = self._takes_in and now >= self._taken_at + PROBE_IDLE_SECONDS
        if is_idle and self._probe_size and not self._probing:
            self._judge_probe(now)
        waits = self.open and (self._probing or self._takes_in or now < self._next_probe)
        if self._held and not (waits and is_ours(next(iter(self._held.values()))[1])):
            self._held = {key: held for key, held in self._held.items() if is_ours(held[1])}
            self._causes = Counter(cause for cause, _ in self._held.values())
        if self.open and not self._held and not self._probing and not self._takes_in:
            self._want_probe()  # all of them were released: nothing is left to try
        if not self._held or waits:
            return []
        number = PROBE_RECORDS if self.open else len(self._held)
        keys = list(self._held)[:number]
        if self.open:
            self._probing = set(keys)
            self._probe_size, self._indexed = len(keys), 0
        taken = [self._held.pop(key) for key in keys]
        self._causes.subtract(cause for cause, _ in taken)
        return [item for _, item in taken]

    def _hold(self, cause: str, key: Hashable, item: T) -> None:
        """Hold a record; what a person is told is the cause that most of them have now."""
        if key in self._held:
            self._causes[self._held[key][0]] -= 1
        self._held[key] = cause, item
        self._causes[cause] += 1
        if self._causes[cause] > self._causes[self.cause]:
            self.cause = cause

    def _end_attempt(self, key: Hashable, now: float, *, indexed: bool) -> None:
        if key not in self._probing:
            return
        self._probing.discard(key)
        self._indexed += indexed
        if not self._probing and not self._wanted:
            self._judge_probe(now)

    def _want_probe(self) -> None:
        self._takes_in, self._wanted = True, PROBE_RECORDS
        self._probe_size = self._indexed = 0

    def _judge_probe(self, now: float) -> None:
        self._takes_in, self._wanted = False, 0
        if self._indexed > self._probe_size * MAX_FAILED_SHARE:
            self.cause = ""
            self._rates = {phase: FailureRate() for phase in Phase}
        elif self._probe_size:  # a probe whose records were all released tells nothing
            self._probes += 1
            self._next_probe = now + _PROBE_BACKOFF.delay(self._probes, at_least=MIN_PROBE_SECONDS)

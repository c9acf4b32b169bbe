"""N worker processes: spawned, restarted, drained. Knows neither Kafka nor Elasticsearch.

First SIGTERM or SIGINT: every worker drains. Second: every worker is killed. A worker that
dies is replaced with backoff while its siblings work on; a supervisor that dies takes its
workers along, drained.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_common.errors import WorkerError
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letter_counts import Kind, add_deaths

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

log = structlog.get_logger("llmlog.supervisor")

CRASHES: Final = 5
"""Crashes of one worker in a row, each within `STEADY` seconds, that end the supervisor."""
STEADY: Final = 60.0
DRAIN: Final = 45.0
"""Seconds after the first signal at which a worker that has not ended is killed."""

MOST_KINDS: Final = 1000
"""Kinds of deaths that are counted each by itself."""

_RESTART: Final = Backoff(first=0.5, longest=30.0)
_TURN: Final = 0.2


@dataclass(frozen=True, slots=True)
class State:
    """How all workers are at one moment.

    Attributes:
        counts: over all workers, those that ended included.
        deaths: dead letters by fingerprint and stage, likewise.
        in_flight: records consumed and not settled.
        workers: that run.
        unhealthy: of them that wait for a person.
        restarts: workers that died and were started again.
    """

    counts: Counter[str] = field(default_factory=Counter)
    deaths: Counter[Kind] = field(default_factory=Counter)
    in_flight: int = 0
    workers: int = 0
    unhealthy: int = 0
    restarts: int = 0


Target = Callable[..., None]
"""Runs in the child: called with its number, the report connection, and the arguments given."""


@dataclass(slots=True)
class _Slot:
    """One worker's place: its process now, and its history."""

    number: int
    process: SpawnProcess | None = None
    reports: Connection | None = None
    started: float = 0.0
    crashes: int = 0
    restart_at: float = 0.0
    done: bool = False
    last: dict[str, Any] = field(default_factory=dict)


class Supervisor:
    """The parent of the workers.

    Args:
        target: what each child runs.
        arguments: for it, pickled.
        workers: how many.
        final: exit codes of a child after which nobody is started again.
    """

    def __init__(
        self,
        target: Target,
        arguments: tuple[Any, ...],
        workers: int,
        final: frozenset[int] = frozenset(),
    ) -> None:
        self._final = final
        self.final_code = 0
        """The one of `final` that a child ended with; 0 where none did."""
        self._target = target
        self._arguments = arguments
        # Spawned, never forked: librdkafka does not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._slots = [_Slot(number) for number in range(workers)]
        self._ended: Counter[str] = Counter()
        self._deaths: Counter[Kind] = Counter()
        self._restarts = 0
        self._signals = 0
        self.state = State()
        """As of the last turn; replaced, never changed, so that any thread may read it."""
        self._stopped_at: float | None = None

    @property
    def totals(self) -> Counter[str]:
        """Counts over all workers, those that ended included."""
        total = Counter(self._ended)
        for slot in self._slots:
            total += _counts(slot.last)
        return total

    def _state(self) -> State:
        last = [slot.last for slot in self._slots]
        died = self._deaths.copy()
        for report in last:
            add_deaths(died, report.get("deaths", {}), MOST_KINDS)
        return State(
            counts=self.totals,
            deaths=died,
            in_flight=sum(report.get("in_flight", 0) for report in last),
            workers=sum(slot.process is not None for slot in self._slots),
            unhealthy=sum(bool(report.get("unhealthy")) for report in last),
            restarts=self._restarts,
        )

    def signal(self, *_: object) -> None:
        """Take a SIGTERM or SIGINT; safe inside a signal handler."""
        self._signals += 1

    def run(self, deadline: float | None = None) -> bool:
        """Keep the workers going until they are done or told to stop.

        Args:
            deadline: monotonic seconds at which everything is drained.

        Returns:
            True when every worker ended by itself, its task done.

        Raises:
            WorkerError: a worker could not be kept alive; the others were drained.
        """
        failure: WorkerError | None = None
        for slot in self._slots:
            self._start(slot)
        while any(not slot.done for slot in self._slots):
            self._wait()
            if deadline is not None and time.monotonic() >= deadline:
                self._signals = max(self._signals, 1)
            self._obey()
            for slot in self._slots:
                failure = self._look_after(slot) or failure
            self.state = self._state()
        if failure is not None:
            raise failure
        return self._stopped_at is None

    def _start(self, slot: _Slot) -> None:
        slot.reports, child_end = self._context.Pipe(duplex=False)
        slot.process = self._context.Process(
            target=_child,
            args=(self._target, slot.number, child_end, self._arguments),
            name=f"llmlog-worker-{slot.number}",
        )
        # A signal between spawn and the child's own handler would kill it undrained.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            slot.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        child_end.close()
        slot.started = time.monotonic()

    def _wait(self) -> None:
        handles: list[Any] = []
        for slot in self._slots:
            if slot.process is not None and not slot.done:
                handles.append(slot.process.sentinel)
                if slot.reports is not None and not slot.reports.closed:
                    handles.append(slot.reports)
        ready = multiprocessing.connection.wait(handles, _TURN)
        for slot in self._slots:
            if slot.reports in ready:
                self._read(slot)

    def _read(self, slot: _Slot) -> None:
        assert slot.reports is not None  # noqa: S101 - only asked of slots that have one
        try:
            while slot.reports.poll():
                slot.last = slot.reports.recv()
        except (EOFError, OSError):
            slot.reports.close()

    def _obey(self) -> None:
        if self._signals and self._stopped_at is None:
            self._stopped_at = time.monotonic()
            log.info("draining", workers=len(self._slots))
            self._tell(signal.SIGTERM)
        late = self._stopped_at is not None and time.monotonic() - self._stopped_at > DRAIN
        if self._signals > 1 or late:
            self._tell(signal.SIGKILL)

    def _tell(self, number: int) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.is_alive():
                os.kill(slot.process.pid or 0, number)

    def _look_after(self, slot: _Slot) -> WorkerError | None:
        """See whether the worker ended, and why; start it again where it should live."""
        if slot.done:
            return None
        if slot.process is None:
            if self._stopped_at is not None:
                slot.done = True
            elif time.monotonic() >= slot.restart_at:
                self._start(slot)
            return None
        if slot.process.is_alive():
            return None
        self._read(slot)
        code = slot.process.exitcode
        self._ended += _counts(slot.last)
        add_deaths(self._deaths, slot.last.get("deaths", {}), MOST_KINDS)
        slot.last = {}
        slot.process = None
        if code in self._final:
            self.final_code = code
            self._signals = max(self._signals, 1)
        if code == 0 or code in self._final or self._stopped_at is not None:
            slot.done = True
            return None
        lived = time.monotonic() - slot.started
        slot.crashes = slot.crashes + 1 if lived < STEADY else 1
        if slot.crashes >= CRASHES:
            slot.done = True
            self._signals = max(self._signals, 1)
            return WorkerError(
                f"worker {slot.number} died {slot.crashes} times in a row, last with code {code}: "
                "see its last lines above"
            )
        self._restarts += 1
        delay = _RESTART.delay(slot.crashes)
        slot.restart_at = time.monotonic() + delay
        log.error("worker died, starting it again", worker=slot.number, code=code,
                  seconds=round(delay, 1))  # fmt: skip
        return None


def _counts(report: dict[str, Any]) -> Counter[str]:
    return Counter({k: v for k, v in report.items() if isinstance(v, int) and k != "in_flight"})


def _child(target: Target, number: int, reports: Connection, arguments: tuple[Any, ...]) -> None:
    """Begin a worker process: signals first, then the work."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole terminal group; the supervisor passes it on as one SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    threading.Thread(target=_follow_parent, args=(stop,), daemon=True).start()
    target(number, reports, stop, *arguments)


def _follow_parent(stop: threading.Event) -> None:
    """Drain when the supervisor is gone, and end whatever happens: no orphans."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    stop.set()
    time.sleep(DRAIN)
    os._exit(1)

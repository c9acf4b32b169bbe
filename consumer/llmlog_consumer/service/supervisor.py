"""Owns the worker processes: starts, restarts and drains them; knows neither Kafka nor documents.

The first SIGTERM or SIGINT drains every worker, the second kills every worker. A worker that dies
is replaced after a backoff, while the others work on. If the supervisor dies, its workers drain and
end: see `run_child`.
"""

from __future__ import annotations

import multiprocessing.connection
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_common.errors import WorkerError
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letter_counts import Kind, add_counts
from llmlog_consumer.service import template
from llmlog_consumer.service.child_process import run_child
from llmlog_consumer.service.state import State
from llmlog_consumer.service.worker_end import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from llmlog_consumer.service.child_process import Target

log = structlog.get_logger("llmlog.supervisor")

MAX_CRASHES: Final = 5
"""Crashes of one worker in a row that end the supervisor."""

MAX_KINDS: Final = 1000
"""Kinds of dead letters that have a count of their own."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The supervisor's waits, in seconds.

    Attributes:
        turn: for a worker's report or end, before the supervisor looks at signals again.
        drain: from the first signal until the workers that still run are killed.
        silent: without a report, after which a worker is said to stand; it reports twice a second.
        steady: run time of a worker after which an earlier crash is forgotten.
        restart: delays of a restart.
    """

    turn: float = 0.2
    drain: float = 45.0
    silent: float = 10.0
    steady: float = 60.0
    restart: Backoff = field(default_factory=lambda: Backoff(first_seconds=0.5, max_seconds=30.0))


@dataclass(frozen=True, slots=True)
class _Child:
    """One process of a worker.

    Attributes:
        process: has been started.
        reports: receiving end of its reports.
        started_at: monotonic seconds.
    """

    process: BaseProcess
    reports: Connection
    started_at: float


@dataclass(slots=True)
class _Slot:
    """The place of one worker: its process of this moment, and what outlives a process.

    Attributes:
        number: of the worker.
        child: None before the first start, and from its end on.
        report: the child's last one; see `Worker.report`.
        reported_at: monotonic seconds of that, or of the child's start.
        is_silent: it has been said that the child gives no report.
        crashes: in a row.
        restart_at: monotonic seconds.
        last_end: why its last process ended that should have run; empty before the first such end.
        is_done: no process is started here any more.
    """

    number: int
    child: _Child | None = None
    report: dict[str, Any] = field(default_factory=dict)
    reported_at: float = 0.0
    is_silent: bool = False
    crashes: int = 0
    restart_at: float = 0.0
    last_end: str = ""
    is_done: bool = False


class Supervisor:
    """The parent of the workers.

    Everything runs on the main thread, with two exceptions: `on_signal` may interrupt it anywhere,
    and the metrics thread reads `state`.

    Args:
        target: runs in each child.
        arguments: for the target; they are pickled. After them it gets why the worker's last
            process ended.
        workers: number of them.
        final: exit codes of a child after which no worker is started again.
        timing: of the waits.
        context: makes processes and pipes; by default processes are forked from the template.
        wait: blocks until one of the handles is ready, or the time is over.
        memory_limit: bytes that the container may have; None for no limit.
        clock: monotonic seconds.

    Attributes:
        final_code: the exit code of `final` that a child ended with; 0 where none did.
        state: as of the last turn. The main thread replaces it and never changes it, so that the
            metrics thread reads it without a lock.
    """

    def __init__(
        self,
        target: Target,
        arguments: tuple[Any, ...],
        workers: int,
        final: frozenset[int] = frozenset(),
        *,
        timing: Timing | None = None,
        context: BaseContext | None = None,
        wait: Callable[[list[Any], float], list[Any]] = multiprocessing.connection.wait,
        memory_limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._arguments = arguments
        self._final = final
        self._timing = timing or Timing()
        self._context = context or template.context()
        self._wait_for_any = wait
        self._memory_limit = memory_limit
        self._clock = clock
        self._slots = [_Slot(number) for number in range(workers)]
        self._counts_of_ended: Counter[str] = Counter()
        self._dead_letters_of_ended: Counter[Kind] = Counter()
        self._restarts = 0
        # Written by `on_signal` too, which interrupts the main thread that reads it.
        self._signals = 0
        self._stopped_at: float | None = None
        self.final_code = 0
        self.state = State()

    @property
    def totals(self) -> Counter[str]:
        """Return the counts over all workers, including the ones that ended."""
        total = Counter(self._counts_of_ended)
        for slot in self._slots:
            total += _counts(slot.report)
        return total

    def on_signal(self, *_: object) -> None:
        """Count a SIGTERM or SIGINT; a signal handler."""
        self._signals += 1

    def run(self, deadline: float | None = None) -> bool:
        """Keep the workers running until they have finished their task, or a signal drains them.

        Args:
            deadline: monotonic seconds at which the workers drain as after a signal.

        Returns:
            True where every worker ended by itself, with its task finished.

        Raises:
            WorkerError: a worker crashed too often; the others were drained.
        """
        failure: WorkerError | None = None
        for slot in self._slots:
            self._start(slot)
        while any(not slot.is_done for slot in self._slots):
            self._wait()
            if deadline is not None and self._clock() >= deadline:
                self._drain_all()
            self._forward_signals()
            for slot in self._slots:
                failure = self._check(slot) or failure
            self.state = self._state()
        if failure is not None:
            raise failure
        return self._stopped_at is None

    def _start(self, slot: _Slot) -> None:
        reports, child_end = self._context.Pipe(duplex=False)
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=run_child,
            args=(
                self._target,
                slot.number,
                child_end,
                (*self._arguments, slot.last_end),
                self._timing.drain,
            ),
            name=f"llmlog-worker-{slot.number}",
        )
        process.start()
        child_end.close()
        slot.child = _Child(process, reports, self._clock())
        slot.reported_at, slot.is_silent = self._clock(), False

    def _wait(self) -> None:
        """Wait for a report, the end of a worker, or the end of this turn."""
        children = [slot.child for slot in self._slots if slot.child is not None]
        handles: list[Any] = [child.process.sentinel for child in children]
        handles += [child.reports for child in children if not child.reports.closed]
        ready = self._wait_for_any(handles, self._timing.turn)
        for slot in self._slots:
            if slot.child is not None and slot.child.reports in ready:
                self._receive_reports(slot, slot.child.reports)

    def _receive_reports(self, slot: _Slot, reports: Connection) -> None:
        try:
            while reports.poll():
                slot.report = reports.recv()
                slot.reported_at = self._clock()
        except (EOFError, OSError):
            reports.close()

    def _drain_all(self) -> None:
        self._signals = max(self._signals, 1)

    def _forward_signals(self) -> None:
        """Drain the workers at the first signal; kill them at the second, or when time is over."""
        if self._signals and self._stopped_at is None:
            self._stopped_at = self._clock()
            log.info("draining", workers=len(self._slots))
            for process in self._running():
                process.terminate()
        is_late = (
            self._stopped_at is not None and self._clock() - self._stopped_at > self._timing.drain
        )
        if self._signals > 1 or is_late:
            for process in self._running():
                process.kill()

    def _running(self) -> list[BaseProcess]:
        processes = [slot.child.process for slot in self._slots if slot.child is not None]
        return [process for process in processes if process.is_alive()]

    def _check(self, slot: _Slot) -> WorkerError | None:
        """Find out whether a worker ended, and why; start it again if it should run.

        Returns:
            The reason to end everything, where the worker crashes too often.
        """
        if slot.is_done:
            return None
        child = slot.child
        if child is None:
            if self._stopped_at is not None:
                slot.is_done = True
            elif self._clock() >= slot.restart_at:
                self._start(slot)
            return None
        if child.process.is_alive():
            self._listen(slot)
            return None
        template.end_lost(child.process)
        self._receive_reports(slot, child.reports)
        code = child.process.exitcode
        self._counts_of_ended += _counts(slot.report)
        # What a worker held when it died is consumed again by the partitions' next owner.
        self._counts_of_ended["released"] += slot.report.get("in_flight", 0)
        add_counts(self._dead_letters_of_ended, slot.report.get("dead_letters", {}), MAX_KINDS)
        said = slot.report.get("ended", "")
        slot.report = {}
        slot.child = None
        if code in self._final:
            self.final_code = code
            self._drain_all()
        if code == 0 or code in self._final or self._stopped_at is not None:
            slot.is_done = True
            return None
        slot.last_end = describe_end(code, said, self._memory_limit)
        return self._plan_restart(slot, code, self._clock() - child.started_at)

    def _listen(self, slot: _Slot) -> None:
        """Say that a living worker gives no report, and that it does again, each once."""
        silence = self._clock() - slot.reported_at
        is_silent = silence >= self._timing.silent and self._stopped_at is None
        if is_silent and not slot.is_silent:
            log.error(
                "a worker gives no report: it is stopped, or waits for this machine",
                worker=slot.number,
                seconds=round(silence),
            )
        elif slot.is_silent and not is_silent:
            log.info("a worker reports again", worker=slot.number)
        slot.is_silent = is_silent

    def _plan_restart(self, slot: _Slot, code: int | None, seconds: float) -> WorkerError | None:
        """Plan the restart of a worker that died with this code after so many seconds."""
        slot.crashes = 1 if seconds >= self._timing.steady else slot.crashes + 1
        if slot.crashes >= MAX_CRASHES:
            self._drain_all()
            return WorkerError(
                f"worker {slot.number} died {slot.crashes} times in a row, last with code {code}: "
                f"{slot.last_end}"
            )
        self._restarts += 1
        delay = self._timing.restart.delay(slot.crashes)
        slot.restart_at = self._clock() + delay
        log.error(
            "worker died, starting it again",
            worker=slot.number,
            code=code,
            why=slot.last_end,
            seconds=round(delay, 1),
        )
        return None

    def _state(self) -> State:
        reports = [slot.report for slot in self._slots]
        dead_letters = self._dead_letters_of_ended.copy()
        for report in reports:
            add_counts(dead_letters, report.get("dead_letters", {}), MAX_KINDS)
        return State(
            counts=self.totals,
            dead_letters=dead_letters,
            in_flight=sum(report.get("in_flight", 0) for report in reports),
            workers=sum(slot.child is not None for slot in self._slots),
            unhealthy=sum(map(_is_unhealthy, self._slots)),
            restarts=self._restarts,
            reports={slot.number: slot.report for slot in self._slots if slot.report},
            faults=tuple(self._faults()),
            turned_at=self._clock(),
        )

    def _faults(self) -> Iterator[str]:
        if self._stopped_at is not None:
            yield "the workers drain: this process ends"
            return
        for slot in self._slots:
            if slot.child is None and not slot.is_done:
                yield f"worker {slot.number} died and is started again: {slot.last_end}"
            elif slot.is_silent:
                yield f"worker {slot.number} gives no report: it is stopped, or the machine is busy"
            elif slot.child is not None and not slot.report:
                yield f"worker {slot.number} starts"


def _is_unhealthy(slot: _Slot) -> bool:
    waits_for_start = slot.child is None and not slot.is_done
    return waits_for_start or slot.is_silent or bool(slot.report.get("unhealthy"))


def _counts(report: dict[str, Any]) -> Counter[str]:
    return Counter({k: v for k, v in report.items() if isinstance(v, int) and k != "in_flight"})

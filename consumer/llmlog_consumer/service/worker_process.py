"""Owns the life of one spawned worker process: its signals, its worker, its reports, its exit.

`run_child` is the process's first function, and calls `work`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from setproctitle import setproctitle

from llmlog_common.errors import PipelineError
from llmlog_consumer import gc_tuning, log_setup

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from llmlog_common.settings import Settings
    from llmlog_consumer.worker.worker import Task, Worker

REPORT_SECONDS: Final = 0.5

log = structlog.get_logger("llmlog.worker")

Target = Callable[..., None]
"""Runs in the child; called with its number, report connection, stop event and arguments."""


def run_child(
    target: Target,
    number: int,
    reports: Connection,
    arguments: tuple[Any, ...],
    drain_seconds: float,
    *,
    get_parent: Callable[[], Any] = multiprocessing.parent_process,
    exit_process: Callable[[int], Any] = os._exit,
) -> None:
    """Run a worker process: install the signal handlers, then run the target.

    SIGTERM sets the stop event that the target gets, and so does the supervisor's death. Without a
    supervisor the process ends after the time for a drain in any case: it never stays behind.

    Args:
        target: the work.
        number: of the worker.
        reports: sending end of the reports.
        arguments: for the target.
        drain_seconds: time for a drain, after the supervisor's death.
        get_parent: returns the supervisor's process.
        exit_process: ends this process, whatever its threads do.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole terminal group; the supervisor forwards it as one SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    parent = get_parent()

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        stop.set()
        time.sleep(drain_seconds)
        exit_process(1)

    if parent is not None:
        threading.Thread(target=end_with_parent, daemon=True).start()
    target(number, reports, stop, *arguments)


def work(
    number: int, reports: Connection, stop: threading.Event, settings: Settings, task: Task
) -> None:
    """Run one worker to its end, and exit with its code; never returns.

    Args:
        number: of the worker.
        reports: takes the reports; the supervisor reads them. A report is the dictionary that
            `Worker.report` returns: all counts since the start, never a difference.
        stop: set by SIGTERM and by the supervisor's death; the worker drains then.
        settings: as loaded.
        task: what to do.
    """
    from llmlog_consumer.worker.worker import Worker  # noqa: PLC0415 - only in the child

    gc_tuning.tune()
    setproctitle(f"pipeline consume: worker {number}")
    log_setup.configure(worker=number)
    reporter = Reporter(reports)
    code = 0

    def stopping() -> bool:
        reporter.report_if_due()
        return stop.is_set()

    try:
        reporter.worker = Worker(settings, task, stopping, number)
        reporter.worker.run()
    except PipelineError as error:
        log.error("worker ends", error=str(error))  # noqa: TRY400 - a line for people, no traceback
        code = error.exit_code
    except Exception as error:
        log.exception("worker ends", error=f"{type(error).__name__}: {error}")
        code = 1
    reporter.report()
    reports.close()
    sys.stderr.flush()
    # Threads may still wait for servers that do not answer; none of their results counts any more.
    os._exit(code)


class Reporter:
    """Sends a worker's counts to the supervisor, on the worker's thread.

    Args:
        reports: the sending end.
        clock: monotonic seconds.

    Attributes:
        worker: whose counts are sent; None before it exists.
    """

    def __init__(self, reports: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._reports = reports
        self._clock = clock
        self._last = 0.0
        self.worker: Worker | None = None

    def report_if_due(self) -> None:
        """Send a report, unless one was sent a moment ago."""
        if self.worker is not None and self._clock() - self._last >= REPORT_SECONDS:
            self._last = self._clock()
            self.report()

    def report(self) -> None:
        """Send a report."""
        if self.worker is None:
            return
        try:
            self._reports.send(self.worker.report())
        except OSError:
            return  # the supervisor is dead, and the drain has begun

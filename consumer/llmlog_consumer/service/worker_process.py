"""Owns the work of one worker process: creates the worker, reports its counts, exits."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import structlog
from setproctitle import setproctitle

from llmlog_common.credentials import remember
from llmlog_common.errors import PipelineError
from llmlog_consumer import gc_tuning, log_setup, tracebacks
from llmlog_consumer.log_stream import LAST_LINES_SECONDS, open_stderr
from llmlog_consumer.service.client_renewal import ClientRenewal
from llmlog_consumer.service.memory import read_resident

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from llmlog_common.settings import Settings
    from llmlog_consumer.worker.task import Task
    from llmlog_consumer.worker.worker import Worker

REPORT_SECONDS: Final = 0.5

MAX_REASON_CHARACTERS: Final = 1000
"""Of the reason for a worker's end in its last report."""

_GAUGES: Final = ("in_flight",)
"""Numbers of a report that are no counts."""

log = structlog.get_logger("llmlog.worker")


def work(  # noqa: PLR0917 - what `run_child` passes
    number: int,
    reports: Connection,
    stop: threading.Event,
    settings: Settings,
    task: Task,
    last_end: str = "",
) -> None:
    """Run one worker to its end, and exit with its code; never returns.

    Args:
        number: of the worker.
        reports: takes the reports; the supervisor reads them. A report is the dictionary that
            `Worker.report` returns: all counts since the start, never a difference.
        stop: set by SIGTERM and by the supervisor's death; the worker drains then.
        settings: as loaded.
        task: what to do.
        last_end: why the worker's last process ended; empty for the first one.
    """
    from llmlog_consumer.worker.worker import Worker  # noqa: PLC0415 - only in the child

    gc_tuning.tune()
    setproctitle(f"pipeline consume: worker {number}")
    stderr = open_stderr()
    log_setup.configure(
        number, cast("TextIO", stderr), form=settings.log_format, level=settings.log_level
    )
    remember(settings.secrets())
    tracebacks.hide_secrets()
    reporter = Reporter(reports)
    renewal = ClientRenewal(settings)
    code = 0

    def stopping() -> bool:
        reporter.report_if_due()
        if reporter.worker is not None and reporter.worker.has_joined:
            renewal.end()
        return stop.is_set() or renewal.look()

    try:
        while True:
            reporter.worker = Worker(
                renewal.settings,
                dataclasses.replace(task, last_end=last_end),
                stopping,
                number,
                process_unhealthy=stderr.describe,
            )
            reporter.worker.run()
            if stop.is_set() or not renewal.is_ready:
                break
            reporter.keep_counts()
            renewal.begin()
            last_end = ""
    except PipelineError as error:
        log.error("worker ends", error=str(error))  # noqa: TRY400 - a line for people, no traceback
        reporter.ended, code = str(error), error.exit_code
    except Exception as error:
        reporter.ended, code = f"{type(error).__name__}: {error}", 1
        log.exception("worker ends", error=reporter.ended)
    reporter.report()
    reports.close()
    stderr.flush(LAST_LINES_SECONDS)
    # Threads may still wait for servers that do not answer; none of their results counts any more.
    os._exit(code)


class Reporter:
    """Sends a worker's counts to the supervisor, on the worker's thread.

    Args:
        reports: the sending end.
        clock: monotonic seconds.

    Attributes:
        worker: whose counts are sent; None before it exists.
        ended: why the worker ends, with the last report; empty while it runs.
    """

    def __init__(self, reports: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._reports = reports
        self._clock = clock
        self._last = 0.0
        self._kept: dict[str, Any] = {}
        self.worker: Worker | None = None
        self.ended = ""

    def report_if_due(self) -> None:
        """Send a report, unless one was sent a moment ago."""
        if self.worker is not None and self._clock() - self._last >= REPORT_SECONDS:
            self._last = self._clock()
            self.report()

    def keep_counts(self) -> None:
        """Add what the worker has counted to the reports of the one that takes its place."""
        if self.worker is not None:
            self._kept = _added(self.worker.report(), self._kept)

    def report(self) -> None:
        """Send a report."""
        report = self.worker.report() if self.worker is not None else {}
        if report:
            report = _added(report, self._kept)
            report["process"] = {"cpu": time.process_time(), "memory": read_resident()}
        if self.ended:
            report["ended"] = self.ended[:MAX_REASON_CHARACTERS]
        if not report:
            return
        try:
            self._reports.send(report)
        except OSError:
            return  # the supervisor is dead, and the drain has begun


def _added(report: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Return a report with the counts of an earlier one added; all else is the newer one's."""
    if not kept:
        return report
    dead_letters = Counter(kept.get("dead_letters", {}))
    dead_letters.update(report.get("dead_letters", {}))
    counts = {
        name: value + kept.get(name, 0)
        for name, value in report.items()
        if isinstance(value, int) and name not in _GAUGES
    }
    others = {
        name: value
        for name, value in kept.items()
        if isinstance(value, int) and name not in _GAUGES and name not in report
    }
    return {**report, **others, **counts, "dead_letters": dead_letters}

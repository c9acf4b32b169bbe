"""What runs in a spawned worker: clients are made here, counts are reported, errors end it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from setproctitle import setproctitle

from llmlog_common.errors import PipelineError
from llmlog_consumer import gc_tuning
from llmlog_consumer import log_setup as logs

if TYPE_CHECKING:
    import threading
    from multiprocessing.connection import Connection

    from llmlog_common.settings import Settings
    from llmlog_consumer.worker.worker import Task, Worker

REPORT_SECONDS: Final = 0.5

log = structlog.get_logger("llmlog.worker")


def work(
    number: int, reports: Connection, stop: threading.Event, settings: Settings, task: Task
) -> None:
    """Run one worker to its end; the process's exit code says how it went."""
    from llmlog_consumer.worker.worker import Worker  # noqa: PLC0415 - in the child alone

    gc_tuning.tune()
    setproctitle(f"pipeline consume: worker {number}")
    logs.configure(worker=number)
    code = 0
    worker: Worker | None = None
    try:
        worker = Worker(settings, task, _reporting(lambda: worker, reports, stop), number)
        worker.run()
    except PipelineError as error:
        log.error("worker ends", error=str(error))  # noqa: TRY400 - a line for people, no traceback
        code = error.exit_code
    except Exception as error:
        log.exception("worker ends", error=f"{type(error).__name__}: {error}")
        code = 1
    if worker is not None:
        _report(worker, reports)
    reports.close()
    sys.stderr.flush()
    # Threads may still wait for servers that do not answer; nothing of theirs counts any more.
    os._exit(code)


def _reporting(of: Any, reports: Connection, stop: threading.Event) -> Any:
    """Return the question "stop?", which reports the counts on the way."""
    last = 0.0

    def stopping() -> bool:
        nonlocal last
        worker = of()
        if worker is not None and time.monotonic() - last >= REPORT_SECONDS:
            last = time.monotonic()
            _report(worker, reports)
        return stop.is_set()

    return stopping


def _report(worker: Worker, reports: Connection) -> None:
    try:
        reports.send(worker.report())
    except OSError:
        return  # the supervisor is gone; the drain has begun

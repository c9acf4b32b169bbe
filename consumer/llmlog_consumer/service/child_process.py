"""Owns the frame of a worker process: its signals, and its end when the supervisor is gone."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmlog_consumer import lean_imports

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

lean_imports.load_structlog()  # the template loads this module before all others of ours

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

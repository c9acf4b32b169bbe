"""Owns the process that workers are forked from: it has everything loaded, and no thread.

librdkafka does not survive a fork, so that the supervisor, which has clients and threads, forks
nothing. `multiprocessing` starts a process for this instead, while the supervisor still asks the
servers. Each worker begins at once, and shares its modules' memory with the others.

    supervisor ──starts──> template ──forks──> worker, worker, …
        └────────────── pipe of its reports, exit code ────────┘
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing import forkserver
from typing import TYPE_CHECKING

from llmlog_consumer.service.worker_end import LOST_CODE

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess


def start() -> None:
    """Start the template; without this the first worker's start does.

    It takes no SIGTERM and no SIGINT from the beginning: see `preloaded.py`.
    """
    context()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def context() -> BaseContext:
    """Return the factory of processes that are forked from the template."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["llmlog_consumer.service.preloaded"])
    return found


def end_lost(process: BaseProcess) -> None:
    """End a worker that may have survived its template, of which no more is known.

    Args:
        process: has ended, as far as is known.
    """
    if process.exitcode == LOST_CODE and process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

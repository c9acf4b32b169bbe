"""Owns a thread that does jobs one after the other, for those that must not wait for a disk."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class JobThread:
    """Does jobs in the order in which they came; any thread may call every method.

    The thread starts with the first job. Where none can be started, as in an interpreter that ends,
    `submit` does the job itself.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.begin_process()

    def begin_process(self) -> None:
        """Forget jobs and thread; for a forked child, which has none of its parent's threads."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done; what it raises is left out."""
        self._jobs.put(job)
        self._start()

    def wait(self, seconds: float) -> bool:
        """Wait until all jobs so far are done; False if they are not within so many seconds."""
        if self._thread is None and self._jobs.empty():
            return True
        done = threading.Event()
        self.submit(done.set)
        return done.wait(seconds)

    def end(self, seconds: float) -> bool:
        """End the thread once all jobs so far are done; tell whether it has ended in time."""
        thread = self._thread
        if thread is None:
            return True
        self._jobs.put(None)
        thread.join(seconds)
        return not thread.is_alive()

    def _start(self, *, blocking: bool = False) -> None:
        if self._thread is not None or not self._starting.acquire(blocking=blocking):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError:
                    while not self._jobs.empty():
                        self._do(self._jobs.get())
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            if (job := self._jobs.get()) is not None:
                self._do(job)
                continue
            with self._starting:  # until who has started this thread has noted it
                if self._jobs.empty():  # else the end of an earlier thread, or more jobs
                    self._thread = None
                    break
        if not self._jobs.empty():  # one has come while this thread was at its end
            self._start(blocking=True)

    @staticmethod
    def _do(job: Callable[[], None] | None) -> None:
        if job is not None:
            with suppress(Exception):
                job()

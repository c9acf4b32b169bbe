"""Owns what takes longer than a page waits: readings of the dead-letter topic, and replays."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.credentials import hide
from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_JOBS: Final = 100
"""Jobs whose results are kept."""
MAX_WAITING: Final = 10
FRESH_SECONDS: Final = 20.0
"""Time for which a finished reading is shown again."""
FAILED_SECONDS: Final = 5.0
"""The same for one that failed: the page that asks how far it is has to see why."""


class StoppedError(PipelineError):
    """A person has stopped the job."""


class Look(NamedTuple):
    """A job at one moment: a page that reads it twice sees the same.

    Attributes:
        number: in its address.
        key: of the work.
        step: what it does now.
        done: of the step.
        total: of the step; 0 where that is not known.
        result: None where it is not finished, or failed.
        error: why it failed; empty where it did not.
        is_finished: whether it has ended, either way.
    """

    number: str
    key: str
    step: str
    done: int
    total: int
    result: Any
    error: str
    is_finished: bool


@dataclass
class Job:
    """One piece of work. The thread that does it writes; pages read.

    Attributes:
        number: in its address.
        key: of the work: jobs of one key are the same work.
        who: asked for it.
        step: what it does now.
        done: of the step.
        total: of the step; 0 where that is not known.
        result: of the work; None while it runs, and where it failed.
        error: why it failed; empty where it did not.
        is_finished: whether it has ended, either way.
        ended: monotonic seconds.
        about: what was ordered, for the page that shows it.
    """

    number: str
    key: str
    who: str
    about: Any = None
    step: str = "waiting for its turn"
    done: int = 0
    total: int = 0
    result: Any = None
    error: str = ""
    is_finished: bool = False
    ended: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def report(self, step: str, done: int, total: int) -> None:
        """Say how far a step is.

        Raises:
            StoppedError: a person has stopped the job.
        """
        self.step, self.done, self.total = step, done, total
        if self.is_stopping():
            raise StoppedError("stopped")

    def look(self) -> Look:
        """Return how it is now."""
        is_finished = self.is_finished  # first: what is read after it is then the last word
        result, error = (self.result, self.error) if is_finished else (None, "")
        return Look(
            self.number, self.key, self.step, self.done, self.total, result, error, is_finished
        )

    def stop(self) -> None:
        """Ask for its end."""
        self._stop.set()

    def is_stopping(self) -> bool:
        """Tell whether its end was asked for."""
        return self._stop.is_set()


class Jobs:
    """The jobs, two at a time. Any thread may call it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # under `_lock`
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="llmlog-console-job")

    def start(
        self,
        key: str,
        who: str,
        work: Callable[[Job], Any],
        *,
        again: bool = False,
        about: Any = None,
    ) -> Job:
        """Begin a job, or return one of this key that runs or ended a moment ago.

        Args:
            key: of the work.
            who: asks for it.
            work: does it, and returns its result.
            again: one that has ended does not count.
            about: what was ordered.

        Raises:
            PipelineError: too many jobs wait.
        """
        with self._lock:
            for job in reversed(self._jobs.values()):  # the newest of a key counts
                if job.key == key and (not job.is_finished or (not again and self._is_fresh(job))):
                    return job
            if sum(not job.is_finished for job in self._jobs.values()) >= MAX_WAITING:
                raise PipelineError("the console has too much to do: try again in a moment")
            job = Job(secrets.token_urlsafe(16), key, who, about)
            self._jobs[job.number] = job
            for old in [one.number for one in self._jobs.values() if one.is_finished]:
                if len(self._jobs) <= MAX_JOBS:
                    break
                del self._jobs[old]
        self._threads.submit(self._run, job, work)
        return job

    def find(self, number: str) -> Job | None:
        """Return a job; None where there is none any more."""
        with self._lock:
            return self._jobs.get(number)

    def list(self) -> list[Job]:
        """Return the jobs, the oldest first."""
        with self._lock:
            return [*self._jobs.values()]

    def close(self) -> None:
        """Stop what runs, and wait for it."""
        for job in self.list():
            job.stop()
        self._threads.shutdown(cancel_futures=True)

    def _is_fresh(self, job: Job) -> bool:
        return self._clock() - job.ended < (FAILED_SECONDS if job.error else FRESH_SECONDS)

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            job.step = "begins"
            job.result = work(job)
        except (PipelineError, Unreachable) as error:
            job.error = hide(str(error))
        except Exception as error:  # noqa: BLE001 - the page says it; the console goes on
            job.error = hide(f"unexpected: {type(error).__name__}: {error}")
        finally:
            job.ended = self._clock()
            job.is_finished = True

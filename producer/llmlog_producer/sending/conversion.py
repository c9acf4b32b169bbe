"""Owns the conversion of payloads that may run foreign code: in a thread, and with a time bound.

A payload that was copied as its JSON runs no code but ours. One that is a dict may hold objects,
and a user's redact function gets every payload: their code may loop, or wait for a server. So
`llmlog-convert` converts these. A conversion that does not end in time is stuck: its event is made
without the content, its thread is left behind, and another one goes on. What a thread that was left
behind brings in the end is ignored.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from llmlog_common.job_thread import JobThread
from llmlog_common.throttled_log import error_name
from llmlog_producer.sending.queue import TAKEN_BYTES
from llmlog_producer.sending.timing import LIMITS, TIMING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.events.build import CapturedPayload, EncodedEvent, EventBuilder
    from llmlog_producer.sending.timing import Limits, Timing

MAX_STUCK: Final = 4
"""Threads that may be stuck at once: then no foreign code runs until one of them has ended."""
_LOOK_SECONDS: Final = 1.0
"""A longer time between two looks counts as this: the whole process stood still meanwhile."""
_MAIN_THREAD: Final = threading.main_thread()

Converted = tuple["CapturedPayload", "EncodedEvent | BaseException"]


class Conversion:
    """Payloads on their way through the thread that runs foreign code.

    The sending thread calls all methods; `_do` runs in the thread. `_lock` guards what both change:
    `_given`, `_done`, `_line` and `_stuck`.

    Args:
        builder: makes the events.
        stats: counted into.
        log: told about conversions that are stuck.
        wake: ends the sending thread's idle wait.
        give_way: called after each conversion: leaves other threads the interpreter.
        new_thread: makes a thread, by its name.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        builder: EventBuilder,
        stats: Stats,
        log: ThrottledLog,
        *,
        wake: Callable[[], None],
        give_way: Callable[[], None],
        timing: Timing = TIMING,
        limits: Limits = LIMITS,
        new_thread: Callable[[str], JobThread] = JobThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._builder = builder
        self._stats = stats
        self._log = log
        self._wake = wake
        self._give_way = give_way
        self._timing = timing
        self._limits = limits
        self._new_thread = new_thread
        self._clock = clock
        self._thread = new_thread("llmlog-convert")
        self._thread_id = 0
        self._line = 0  # threads that were left behind before the present one
        self._stuck = 0  # those of them that have not ended
        self._given: deque[CapturedPayload] = deque()  # the first one is at hand
        self._done: deque[Converted] = deque()
        self._lock = threading.Lock()
        self._looked_at: CapturedPayload | None = None
        self._looked, self._waited = 0.0, 0.0  # at `_looked_at`: when last, and for how long

    @property
    def is_busy(self) -> bool:
        """Whether it has payloads, or events that were not taken."""
        return bool(self._given or self._done)

    @property
    def has_room(self) -> bool:
        """Whether it takes one more payload."""
        given = self._given.copy()
        few = len(given) < self._limits.taken_events
        return few and sum(one.size for one in given) < TAKEN_BYTES

    def submit(self, captured: CapturedPayload) -> None:
        """Have a payload converted."""
        if self._stuck >= MAX_STUCK:
            self._make_without_content(captured)
            return
        with self._lock:
            self._given.append(captured)
        self._submit(captured)

    def take(self, *, urgent: bool) -> list[Converted]:
        """Return payloads with their events, or with the errors for which they have none.

        Args:
            urgent: the process may end soon: a conversion is stuck sooner.
        """
        self._look(self._timing.overdue_seconds if urgent else self._timing.stuck_seconds)
        done: list[Converted] = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def end(self) -> None:
        """End the thread once it has done what it has; a later payload starts it again."""
        self._thread.end(0)

    def _submit(self, captured: CapturedPayload) -> None:
        line = self._line
        self._thread.submit(lambda: self._do(line, captured))

    def _look(self, bound: float) -> None:
        """Leave the thread behind if it has had one payload for longer than the bound."""
        now, first = self._clock(), next(iter(self._given.copy()), None)
        if first is None or first is not self._looked_at:
            self._looked_at, self._waited = first, 0.0
        else:
            self._waited += min(now - self._looked, _LOOK_SECONDS)
        self._looked = now
        if first is None or self._waited <= bound:
            return
        place = _place_of(self._thread_id)
        with self._lock:
            if not self._given or self._given[0] is not first:
                return  # it has ended this moment
            self._line += 1
            self._stuck += 1
            self._given.popleft()
            others = [*self._given]
            self._given.clear()
        self._thread.end(0)  # once it is through
        self._thread = self._new_thread("llmlog-convert")
        why = f"a conversion{place} has not ended within {self._waited:.1f} s: its event has "
        why += f"no content ({self._stuck} of {MAX_STUCK} threads are stuck"
        why += "; NO CONTENT IS CONVERTED before one ends)" if self._stuck >= MAX_STUCK else ")"
        self._log(logging.ERROR, f"stuck {self._stuck}", why)
        self._make_without_content(first)
        for other in others:
            self.submit(other)

    def _make_without_content(self, captured: CapturedPayload) -> None:
        self._stats.add("stuck")
        self._done.append((captured, self._bare(captured, "its conversion has not ended")))

    def _bare(self, captured: CapturedPayload, why: str) -> EncodedEvent | BaseException:
        try:
            return self._builder.build_without_content(captured, why)
        except Exception as error:  # noqa: BLE001 - none is known: it must not end a thread
            return error

    # What the thread does.

    def _do(self, line: int, captured: CapturedPayload) -> None:
        if line != self._line:  # another thread has it
            return
        self._thread_id = threading.get_ident()
        result: EncodedEvent | BaseException
        try:
            result = self._builder.build(captured)
        except BaseException as error:  # objects in it may raise any: it must never end the thread
            if not isinstance(error, Exception) and threading.current_thread() is _MAIN_THREAD:
                self._given.remove(captured)
                raise  # a user's Ctrl-C, or the end that a signal handler asks for
            kind = error_name(error)
            self._log(
                logging.ERROR, f"raised {kind}", f"conversion failed, content dropped: {kind}"
            )
            result = self._bare(captured, "its conversion failed")
        with self._lock:
            if line != self._line:
                self._stuck -= 1
                return
            self._given.popleft()
            self._done.append((captured, result))
        if not self._given or len(self._done) >= self._limits.taken_events // 2:
            self._wake()
        self._give_way()


def _place_of(thread_id: int) -> str:
    """Say where a thread is; empty where it is not known."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, and for this
    if frame is None:
        return ""
    code = frame.f_code
    return f" in {code.co_qualname} ({code.co_filename}:{frame.f_lineno})"

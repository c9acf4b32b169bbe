"""Owns what a SIGTERM does in a gateway's process: the hand-over of all events to the journal."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmlog_producer.sending.timing import TIMING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_producer.sending.timing import Timing
    from llmlog_producer.sending.wakeup import Wakeup


class Handover:
    """The hand-over at SIGTERM: all events that only memory holds are written to the journal.

    After a SIGTERM a process may end without running its exit handlers (under uvicorn it does). So
    the signal handler itself sees to it that the journal has everything. One for each publisher.

    The steps, and who makes them:

    1. The signal handler runs on the main thread, between any two instructions of the code there.
       `run_before_sigterm` has installed it. It calls `LLMLogHandler`, that calls
       `Publisher.journal_first`, and that calls `save` here.
    2. `save` sets `hooks_write`, raises `requested`, and wakes the sending thread. Hooks, on any
       thread, read `hooks_write`: from now on each waits until its event is written.
    3. The sending thread reads `requested` at the start of a step. In that step it writes to the
       journal what is in flight, what the queue holds, and what waits to be sent. Once a step has
       left nothing in memory alone, it calls `confirm` with the number that it has read.
    4. `save` waits until its request is confirmed and Kafka has everything or does not answer, for
       the seconds that it was given. Then the handler that was there before runs, as it always did.

    Where a process has no sending thread (an interpreter that ends), `flush` and `leave` do its
    work on their caller's thread, often the main one. There the signal handler interrupts the very
    code that it would wait for. Then `save` only sets the time at which the signal is sent again,
    and returns False. The interrupted work sees `must_stop` once all is saved or the time is over,
    stops, and `run_as_sender` sends the process another SIGTERM, which finds no work to wait for.

    `Publisher.leave` uses steps 2 and 3 too, by `request`, without a signal.

    `save` takes no lock: the code that it has interrupted may hold that lock, and would never
    release it. So the fields are plain numbers and flags. Each store is one instruction, but
    `request` reads before it stores: two requests at one moment may count as one, and the step
    that serves one serves both.

    | field | written by | read by |
    |---|---|---|
    | `hooks_write` | signal handler; only ever to True | hooks |
    | `requested` | signal handler, callers of `Publisher.leave` | sending thread, signal handler |
    | `_confirmed` | sending thread | signal handler, sending thread |
    | `_sending_thread` | sending thread | signal handler |
    | `_resend_by` | signal handler sets it, sending thread clears it | both |

    "Sending thread" is the thread within `run_as_sender`, whichever it is. There is one at a time.

    Args:
        wakeup: ends the sending thread's idle wait.
        hooks_write: the initial value.
        is_enough: tells whether Kafka need not be waited for any more.
        has_thread: tells whether the publisher has a sending thread that runs, or is about to.
        timing: of sending.
        clock: monotonic seconds.

    Attributes:
        hooks_write: hooks wait until the journal has their events.
        requested: number of requests so far.
    """

    def __init__(
        self,
        wakeup: Wakeup,
        *,
        hooks_write: bool,
        is_enough: Callable[[], bool],
        has_thread: Callable[[], bool],
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wakeup = wakeup
        self._is_enough = is_enough
        self._has_thread = has_thread
        self._timing = timing
        self._clock = clock
        self.hooks_write = hooks_write
        self.requested = 0
        self._confirmed = 0
        self._one_sender = threading.Lock()  # never taken by the signal handler
        self._sending_thread = 0
        self._resend_by = 0.0

    # What the signal handler and `Publisher.leave` call.

    def request(self) -> int:
        """Request that everything be in the journal first; return the number of this request."""
        self.requested += 1
        return self.requested

    def save(self, seconds: float) -> bool:
        """Request it for the signal handler, and wait for it; takes no lock.

        Args:
            seconds: the longest wait; 0: none.

        Returns:
            False if the handler has interrupted the sending thread itself. That stops once all is
            saved, or after `seconds`, and sends this process another SIGTERM.
        """
        self.hooks_write = True
        number = self.request()
        self._wakeup.wake()
        if not seconds:
            return True
        deadline = self._clock() + seconds
        if self._sending_thread == threading.get_ident():
            self._resend_by = self._resend_by or deadline
            return False
        while (self._sending_thread or self._has_thread()) and self._clock() < deadline:
            # While Kafka answers it is as quick as the journal, and then nothing is left behind.
            if self._confirmed >= number and self._is_enough():
                break
            self._wakeup.wake()
            time.sleep(self._timing.signal_poll_seconds)
        return True

    # What the sending thread calls.

    @property
    def is_requested(self) -> bool:
        """Whether everything is to be in the journal first; it stays so after the first request."""
        return self.requested > 0

    @property
    def is_confirmed(self) -> bool:
        """Whether every request so far is confirmed, or there was none."""
        return self._confirmed == self.requested

    @property
    def must_stop(self) -> bool:
        """Whether the sending thread is to stop, so that the SIGTERM is sent again."""
        return bool(self._resend_by) and (self.is_confirmed or self._clock() > self._resend_by)

    def confirm(self, number: int) -> None:
        """Confirm the requests up to a number: memory alone holds no event of before them."""
        self._confirmed = number

    def run_as_sender(self, work: Callable[[], None]) -> None:
        """Do the sending thread's work, once no other thread does it.

        If the signal handler has interrupted the work, the SIGTERM is sent again afterwards,
        however the work ends.
        """
        try:
            with self._one_sender:
                self._sending_thread = threading.get_ident()
                try:
                    work()
                finally:
                    self._sending_thread = 0
        finally:
            if self._resend_by:
                self._resend_by = 0.0
                os.kill(os.getpid(), signal.SIGTERM)


def run_before_sigterm(save: Callable[..., bool]) -> bool:
    """Call `save` before the present handler of SIGTERM, which runs afterwards as it always did.

    Args:
        save: called with `last=True` if the process ends right afterwards, by the default action.
            Returns False if the code that it has interrupted has to go on first: the present
            handler is left out then, and the signal is sent again.

    Returns:
        False where it cannot be installed: outside the main thread, or before a handler that is
        not Python's.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None:
        return False

    def handle(number: int, frame: Any) -> None:
        with suppress(Exception):
            if not save(last=previous == signal.SIG_DFL):
                return
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        signal.signal(signal.SIGTERM, handle)
    except ValueError:  # a sub-interpreter's main thread may not
        return False
    return True

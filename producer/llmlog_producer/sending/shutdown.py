"""Owns what a SIGTERM does in a gateway's process: hand-over to the journal, and a late end.

All events go to the journal, and to Kafka while that answers (`Handover`). A server that would end
the process before they are there is held up (`Hold`).
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from llmlog_producer.sending.timing import TIMING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_producer.sending.timing import Timing
    from llmlog_producer.sending.wakeup import Wakeup


LAST_HOOK_SECONDS: Final = 2.0
"""Time from the last hook to the end of a process that is held."""
QUIET_SECONDS: Final = 0.3
"""Time in which the server's leftovers may still be reported, where all events are sent."""
_MOST_WAITS: Final = 4
"""A signal handler waits no more than so many times as long for hooks that go on."""


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

    `Publisher.leave` uses steps 2 and 3 too, by `request`, without a signal. Such a request is
    over when the thread ends (`withdraw`); that of a signal stands.

    `save` takes no lock: the code that it has interrupted may hold that lock, and would never
    release it. So the fields are plain numbers and flags. Each store is one instruction, but
    `request` reads before it stores: two requests at one moment may count as one, and the step
    that serves one serves both.

    | field | written by | read by |
    |---|---|---|
    | `hooks_write` | signal handler; only ever to True | hooks |
    | `requested` | signal handler, callers of `Publisher.leave` | sending thread, signal handler |
    | `_withdrawn`, `_is_final` | sending thread at its end; signal handler | sending thread |
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
        last_hook: when a hook last offered an event after a request, in monotonic seconds.
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
        self.last_hook = -math.inf
        self.requested = 0
        self._confirmed = self._withdrawn = 0
        self._is_final = False
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
            seconds: the longest wait, from the signal or from the last hook; 0: none.

        Returns:
            False if the handler has interrupted the sending thread itself. That stops once all is
            saved, or after `seconds`, and sends this process another SIGTERM.
        """
        self.hooks_write = self._is_final = True
        number = self.request()
        self._wakeup.wake()
        if not seconds:
            return True
        deadline = self._clock() + seconds
        if self._sending_thread == threading.get_ident():
            self._resend_by = self._resend_by or deadline
            return False
        longest = deadline + _MOST_WAITS * seconds
        while (self._sending_thread or self._has_thread()) and self._clock() < deadline:
            deadline = min(longest, max(deadline, self.last_hook + seconds))
            # While Kafka answers it is as quick as the journal, and then nothing is left behind.
            if self._confirmed >= number and self._is_enough():
                break
            self._wakeup.wake()
            time.sleep(self._timing.signal_poll_seconds)
        return True

    def note_hook(self) -> None:
        """Take note that a hook has offered an event; for hooks, after a request."""
        self.last_hook = self._clock()

    # What the sending thread calls.

    @property
    def is_requested(self) -> bool:
        """Whether everything is to be in the journal first."""
        return self.requested > self._withdrawn

    @property
    def is_confirmed(self) -> bool:
        """Whether every request so far is confirmed or taken back, or there was none."""
        return max(self._confirmed, self._withdrawn) >= self.requested

    @property
    def must_stop(self) -> bool:
        """Whether the sending thread is to stop, so that the SIGTERM is sent again."""
        return bool(self._resend_by) and (self.is_confirmed or self._clock() > self._resend_by)

    def withdraw(self) -> None:
        """Take back the requests of callers of `leave`: the process goes on."""
        if not self._is_final:
            self._withdrawn = self.requested  # a signal in between asks for one more

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


class Hold:
    """Keeps a process alive that its server ends by SIGTERM, until its events are sent.

    uvicorn, once it has shut down, puts the default action of SIGTERM back and raises the signal:
    the process ends there and then, without exit handlers, and what Kafka has not answered yet is
    in the journal alone. So the first SIGTERM blocks the signal in the main thread. What the server
    raises is pending then, and the main thread goes on to its end: the event loop's leftovers are
    reported, and our exit handler flushes and releases the signal. If the main thread does not get
    there in time, the sending thread ends the process, by the signal that the server wanted.

    `begin` and `release` run on the main thread, the rest on the sending thread. Other threads do
    not block the signal: another SIGTERM from outside is handled as ever.
    """

    def __init__(self) -> None:
        self.is_active = False  # the main thread's
        self._server_ended = math.inf  # monotonic seconds; the sending thread's

    def begin(self) -> None:
        """Block SIGTERM in the main thread; for the signal handler."""
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            self.is_active = True

    def release(self) -> None:
        """Let the pending signal end the process, if the server has raised it."""
        if self.is_active and threading.current_thread() is threading.main_thread():
            self.is_active = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def end_process_if_due(self, now: float, last_hook: float, *, is_settled: bool) -> None:
        """End the process if the server is done with it, and there is nothing to wait for.

        Args:
            now: monotonic seconds.
            last_hook: when a hook last offered an event.
            is_settled: no event needs more time.
        """
        if not self.is_active or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            return
        self._server_ended = min(self._server_ended, now)
        quiet = now - max(self._server_ended, last_hook)
        if quiet > (QUIET_SECONDS if is_settled else LAST_HOOK_SECONDS):
            # A thread that was started since has the main thread's mask.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.kill(os.getpid(), signal.SIGTERM)


def run_before_sigterm(save: Callable[..., bool], hold: Hold | None = None) -> bool:
    """Call `save` before the present handler of SIGTERM, which runs afterwards as it always did.

    Args:
        hold: begun where the present handler does not end the process at once.
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
    if getattr(previous, "save", None) == save:
        return True

    def handle(number: int, frame: Any) -> None:
        with suppress(Exception):
            if not save(last=previous == signal.SIG_DFL):
                return
        if callable(previous):
            if hold is not None:
                hold.begin()
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    handle.save = save  # type: ignore[attr-defined]  # so that it is not installed twice
    try:
        signal.signal(signal.SIGTERM, handle)
    except ValueError:  # a sub-interpreter's main thread may not
        return False
    return True

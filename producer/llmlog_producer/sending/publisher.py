"""Owns the hooks' side of sending: they offer events, wait for them, and end the thread.

A hook appends to the queue and returns; the sending thread does the rest (`sender`). A request
never notices that Kafka or a disk is down, slow or full: where memory is full too, the hook refuses
the event and counts it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog, error_name, flush_lines
from llmlog_producer.events.build import Written
from llmlog_producer.journal.journal import open_journal
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.sender import Sender
from llmlog_producer.sending.shutdown import Handover, Hold
from llmlog_producer.sending.timing import LIMITS, TIMING
from llmlog_producer.sending.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_producer.counters import Stats
    from llmlog_producer.events.build import CapturedPayload
    from llmlog_producer.journal.journal import Journal
    from llmlog_producer.sending.timing import Limits, Timing


class Publisher:
    """Sends captured payloads to the topic; one for each process.

    It owns the queue and the sending thread; `Sender` owns the events that have left the queue. The
    thread alone takes `Sender`'s steps. What else passes between hooks and that thread are the
    queue, `Wakeup`, and `Handover`; neither side writes the other's fields.

    The thread may be halted and started again, at any time: the publisher itself stays, so that no
    event comes too late for it. `_thread` is written by the hook that holds `_starting`; the thread
    itself takes its name out at its end, and then looks whether an event has come meanwhile.
    `_start_at` is infinite once there is to be no thread any more. `_late` is written by any hook.

    Args:
        settings: as loaded.
        stats: counted into.
        background: False: there is no thread, and `flush` does its work, in an interpreter that
            ends.
        timing: of sending.
        limits: of sending.
        queue: of the events that hooks accept.
        new_client: makes the Kafka client.
        journal: in the place of the one that the settings name; for tests.
        hold: of the process, after a SIGTERM.

    Raises:
        ConfigurationError: a librdkafka property is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        *,
        background: bool = True,
        timing: Timing = TIMING,
        limits: Limits = LIMITS,
        queue: EventQueue | None = None,
        new_client: Callable[..., KafkaProducer] = KafkaProducer,
        journal: Journal | None = None,
        hold: Hold | None = None,
    ) -> None:
        self._hold = hold or Hold()
        self._settings = settings
        self._stats = stats
        self._timing = timing
        self._log = ThrottledLog(GatewayLogger())
        self._queue = EventQueue() if queue is None else queue
        self._journal = journal or open_journal(settings, self._log)
        self._wakeup = Wakeup()
        self._handover = Handover(
            self._wakeup,
            hooks_write=settings.journal == "always",
            is_enough=self._is_nothing_to_wait_for,
            has_thread=lambda: self._thread is not None and not self._closing.is_set(),
            timing=timing,
        )
        self._sender = Sender(
            settings,
            stats,
            self._log,
            self._queue,
            self._journal,
            wakeup=self._wakeup,
            handover=self._handover,
            timing=timing,
            limits=limits,
            new_client=new_client,
        )
        self._late: Written | None = None  # what a hook did not wait for any longer
        self._closing = threading.Event()  # ends the present thread
        self._thread: threading.Thread | None = None
        self._start_at = 0.0 if background else math.inf  # monotonic seconds
        self._starting = threading.Lock()
        self._one_halt = threading.Lock()  # never taken by the signal handler
        self._start_thread()

    @property
    def summary(self) -> str:
        """One line: where events go, and what is redacted."""
        settings, journal = self._settings, self._journal
        place = f"{settings.journal} in {journal.folder}" if journal else "off"
        return (
            f"events go to topic {settings.topic} at {settings.kafka_bootstrap_servers}; "
            f"journal: {place}; redacted: {self._sender.redaction}"
        )

    @property
    def journal(self) -> Journal | None:
        """The journal; None where it is off, or its folder or a lock was refused."""
        journal = self._journal
        return journal if journal is not None and journal.is_usable else None

    # What the hook calls.

    @property
    def is_full(self) -> bool:
        """Whether memory takes no further event; asked before a payload is copied."""
        return self._queue.is_full

    def offer(self, captured: CapturedPayload) -> bool:
        """Accept one payload; False, counted, where there is no room.

        It waits only where its event has to be in the journal, and for 5 ms at most.
        """
        if self._handover.is_requested:
            self._handover.note_hook()
        if not self._queue.has_room(captured.size):
            return self.refuse()
        if self._handover.hooks_write and self.journal is not None and self._start_at < math.inf:
            captured.written = Written()
        self._stats.add("accepted")
        if self._queue.put(captured):
            self._wakeup.wake()
        self._start_thread()
        if captured.written is not None and not self._is_written(captured.written):
            self._stats.add("not_journaled")
            why = "the journal did not have an event when its hook returned: it waits in memory, "
            self._log(logging.WARNING, "not journaled", why + "where a kill -9 would cost it")
        return True

    def refuse(self) -> bool:
        """Count an event that memory has no room for; return False."""
        self._stats.add("dropped_queue_full")
        why = f"; journal: {self._journal.problem}" if self._journal else ""
        text = f"EVENTS ARE LOST: Kafka takes none and the memory bound is reached{why}"
        self._log(logging.ERROR, "full", text)
        return False

    def _is_written(self, written: Written) -> bool:
        """Wait until an event is in the journal; not while that is full, or late with another."""
        self._wakeup.wake()
        is_late = self._late is not None and not self._late.is_over
        is_stuck = is_late or self._thread is None or self._sender.is_journal_full
        if written.wait(0.0 if is_stuck else self._timing.hook_seconds):
            return True
        if not is_stuck:
            self._late = written
        return False

    # Flush and end.

    @property
    def unsafe(self) -> int:
        """Events that only memory holds."""
        return self._stats.unsafe

    def flush(self, timeout: float, *, adopted: bool = False) -> int:
        """Wait until every event is settled; return how many are not.

        Args:
            timeout: seconds, at most.
            adopted: wait also for what dead processes have left.
        """
        sender = self._sender
        self._wait(timeout, lambda: not self._stats.pending and (sender.has_adopted or not adopted))
        return self._stats.pending

    def leave(self, timeout: float) -> int:
        """Wait until all events are settled or in the journal, so that the process may end.

        It waits for Kafka while that answers; otherwise the journal is enough. Return how many
        events only memory holds.
        """
        deadline = time.monotonic() + timeout

        def is_safe() -> bool:
            return not self._stats.pending or (self._sender.is_unreachable and not self.unsafe)

        self._wait(timeout, lambda: is_safe() or self._sender.waits)
        is_late = self._stats.pending > 0 and self._sender.waits
        if is_late or (self.unsafe and self.journal):
            self._handover.request()
            self._wait(
                max(1.0, deadline - time.monotonic()),
                lambda: is_safe() if time.monotonic() < deadline else not self.unsafe,
            )
        if self._thread is None and not self._stats.pending:
            self._sender.release(self._timing.release_seconds)
        return self.unsafe

    def halt(self, timeout: float) -> int:
        """Leave, then end the thread; an event that comes later, or meanwhile, starts it again.

        Return how many events are not delivered. Those in the journal stay this process's.
        """
        with self._one_halt:
            lost = self.leave(timeout)
            unsent = self._stats.pending
            why = f"; Kafka: {self._sender.trouble}" if self._sender.trouble else ""
            if lost:
                self._log(logging.ERROR, "unsent", f"closed with {lost} events unsent{why}")
            elif unsent and self._journal:
                kept = f"{unsent} events are not sent yet: they are kept in {self._journal.folder}"
                self._log(logging.WARNING, "kept", kept + why)
            self._end_thread(2.0)
            if not self._stats.pending:
                self._sender.release(self._timing.release_seconds)
            flush_lines(self._timing.release_seconds)
            return unsent

    def close(self, timeout: float) -> int:
        """Halt for good, and let go of the journal: another process takes it over."""
        self.end_background()
        unsent = self.halt(timeout)
        self._sender.release(self._timing.release_seconds)
        return unsent

    def end_background(self) -> None:
        """Start no thread any more, in an interpreter that ends: `leave` does its work."""
        self._start_at = math.inf

    def stop(self, timeout: float) -> None:
        """End the thread for good after its present step, in `timeout` seconds; flush nothing."""
        self.end_background()
        self._end_thread(timeout)

    def _end_thread(self, timeout: float) -> None:
        with self._starting:  # one that is not started yet cannot be waited for
            thread, closing = self._thread, self._closing
        if thread is not None:
            closing.set()
            self._wakeup.wake()
            thread.join(timeout)
        self._start_for_entries()

    def journal_first(self, timeout: float) -> bool:
        """Have everything in the journal from now on; for a signal handler (`Handover.save`)."""
        return self._handover.save(timeout)

    def abandon(self) -> None:
        """Close this process's copies of open files, in a forked child."""
        if self._journal:
            self._journal.abandon()

    def _is_nothing_to_wait_for(self) -> bool:
        """Tell whether Kafka has all events, or takes none."""
        return self._sender.is_unreachable or not self._stats.pending

    def _wait(self, timeout: float, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        if self._stats.pending:
            self._start_thread()
        if self._thread is None:
            self._send(deadline, is_done, background=False)
            return
        while not is_done() and (left := deadline - time.monotonic()) > 0:
            self._wakeup.wake()
            self._stats.wait_settled(min(left, self._timing.flush_poll_seconds))

    # The sending thread.

    def _start_for_entries(self) -> None:
        """Start a thread if there is none and an event has come.

        A hook appends, then looks for the thread, and leaves the start to whichever thread is at
        it; so those that have ended a thread look for entries afterwards, and wait for their turn.
        """
        if self._queue.has_entries:
            self._start_thread(blocking=True)

    def _start_thread(self, *, blocking: bool = False) -> None:
        """Start the thread if there is none and it is time to.

        Args:
            blocking: wait for another thread that is starting or ending one.
        """
        if time.monotonic() < self._start_at or (self._thread is not None and not blocking):
            return
        if not self._starting.acquire(blocking=blocking):
            return
        try:
            if self._thread is not None:
                return
            self._closing = threading.Event()
            # Set before it runs: `_wait` asks whether there is one.
            self._thread = threading.Thread(
                target=self._run, args=(self._closing,), name="llmlog-publisher", daemon=True
            )
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            retry_at = time.monotonic() + self._timing.thread_retry_seconds
            self._start_at = max(self._start_at, retry_at)
            if "shutdown" not in str(error):  # since Python 3.12 an ending interpreter starts none
                why = f"no thread can be started, events stay in memory: {error}"
                self._log(logging.ERROR, "thread", why)
        finally:
            self._starting.release()

    def _run(self, closing: threading.Event) -> None:
        self._send(math.inf, closing.is_set, background=True)
        self._sender.end()
        self._handover.withdraw()
        self._thread = None
        self._start_for_entries()

    def _send(self, deadline: float, is_done: Callable[[], bool], *, background: bool) -> None:
        """Take steps until `is_done`, or until the deadline, or until a SIGTERM comes again."""

        def take_steps() -> None:
            while (
                not (is_done() or self._handover.must_stop)
                and (left := deadline - time.monotonic()) > 0
            ):
                try:
                    self._sender.step(left, background=background)
                except BaseException as error:  # no error may end the thread
                    if not background and not isinstance(error, Exception):
                        raise  # a user's Ctrl-C
                    self._log(logging.ERROR, f"thread {type(error)}", f"bug: {error_name(error)}")
                    self._closing.wait(self._timing.flush_poll_seconds)
                if background and self._handover.is_requested:
                    is_settled = self._is_nothing_to_wait_for() and not self.unsafe
                    self._hold.end_process_if_due(
                        time.monotonic(), self._handover.last_hook, is_settled=is_settled
                    )

        self._handover.run_as_sender(take_steps)

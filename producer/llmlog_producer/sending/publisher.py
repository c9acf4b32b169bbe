"""What a hook hands its payload to, and what a process that ends waits for.

The hook appends to the intake and returns; a background thread sends (`sender`). Kafka being down,
slow or full never shows in a request.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog, error_name
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_producer.counters import Stats
    from llmlog_producer.events.build import CapturedPayload, EncodedEvent

_GLANCE: Final = 0.005
"""Seconds after which a signal's handler looks again."""
_LOOK: Final = 0.05
"""Seconds after which a waiting `flush` looks again, told or not."""
_START_AGAIN: Final = 1.0


class Publisher:
    """Sends captured payloads to the topic; made once in each process.

    Args:
        settings: as loaded.
        stats: counted into.
        background: False: no thread; `flush` does its work, in an interpreter that ends.

    Raises:
        ConfigurationError: a librdkafka property is wrong.
    """

    def __init__(self, settings: Settings, stats: Stats, *, background: bool = True) -> None:
        self._settings = settings
        self._stats = stats
        self._log = ThrottledLog(GatewayLogger())
        self._intake = EventQueue()
        self._journal = self._opened()
        self._inline = settings.journal == "always" and self._journal is not None
        self._sender = Sender(settings, stats, self._log, self._intake, self._journal)
        self._closing = threading.Event()
        self._working = threading.Lock()
        self._worker = 0  # the thread that holds it
        self._again_by = 0.0  # a SIGTERM is to come again, at this time at the latest
        self._thread: threading.Thread | None = None
        self._start_at = 0.0 if background else math.inf
        self._starting = threading.Lock()
        if background:
            self._start_thread()
            GatewayLogger().log(logging.INFO, self.summary)

    @property
    def summary(self) -> str:
        """Say in one line where events go and what is redacted."""
        settings, journal = self._settings, self._journal
        spool = f"{settings.journal} in {journal.folder}" if journal else "off"
        return (
            f"events go to topic {settings.topic} at {settings.kafka_bootstrap_servers}; "
            f"journal: {spool}; redacted: {self._sender.redacts}"
        )

    # What the hook calls.

    def offer(self, captured: CapturedPayload) -> bool:
        """Take one payload; False, counted, where there is no room. Never waits for Kafka."""
        room = self._intake.has_room(captured.size)
        inline = self._inline or (self._thread is None and self._unattended)
        if inline or (not room and self._journal_has_room(captured.size)):
            return self._offer_inline(captured, room=room)
        if not room:
            return self._dropped()
        return self._take(captured)

    @property
    def _unattended(self) -> bool:
        """A thread is wanted and cannot be started: at a SIGTERM nobody would write the journal."""
        return self._journal is not None and self._start_at < math.inf

    def _offer_inline(self, captured: CapturedPayload, *, room: bool) -> bool:
        """Write the event to the journal before the hook returns."""
        item = self._sender.prepared(captured, counted=False)
        if item is None:
            return False
        if self._sender.write(item, taken=room):
            if room:
                return self._take(item)
            self._stats.add("accepted")
            return True
        return self._take(item) if room else self._dropped()

    def _take(self, entry: CapturedPayload | EncodedEvent) -> bool:
        self._stats.add("accepted")
        if self._intake.put(entry):
            self._sender.wake()
        if self._thread is None and time.monotonic() >= self._start_at:
            self._start_thread()
        return True

    def _dropped(self) -> bool:
        self._stats.add("dropped_queue_full")
        why = f"; journal: {self._journal.problem}" if self._journal else ""
        self._log(
            logging.ERROR,
            "full",
            f"EVENTS ARE LOST: Kafka takes none and the memory bound is reached{why}",
        )
        return False

    def _journal_has_room(self, size: int) -> bool:
        return self._journal is not None and self._journal.has_room(size)

    # Flush and end.

    @property
    def unsafe(self) -> int:
        """Events that only memory holds."""
        return max(0, self._stats.pending - (self._journal.waiting if self._journal else 0))

    def flush(self, timeout: float) -> int:
        """Wait until every event is settled, for `timeout` seconds at most.

        Returns:
            Events still unsettled.
        """
        self._wait(timeout, lambda: not self._stats.pending)
        return self._stats.pending

    def recover(self, timeout: float) -> int:
        """Send what dead processes have left, for `timeout` seconds at most.

        Returns:
            Events still unsettled.
        """
        self._wait(timeout, lambda: self._sender.has_adopted and not self._stats.pending)
        return self._stats.pending

    def leave(self, timeout: float) -> int:
        """Wait until nothing is lost if the process ends: all is settled, or in the journal.

        Kafka is waited for while it answers; where it does not, the journal is enough.

        Returns:
            Events that only memory holds.
        """
        deadline = time.monotonic() + timeout

        def safe() -> bool:
            return not self._stats.pending or (self._sender.unreachable and not self.unsafe)

        self._wait(timeout, safe)
        if self.unsafe and self._journal:
            self._sender.asked += 1
            self._wait(max(1.0, deadline - time.monotonic()), lambda: not self.unsafe)
        if self._thread is None and self._journal and not self._stats.pending:
            self._journal.release()
        return self.unsafe

    def close(self, timeout: float) -> int:
        """Leave, then end the thread.

        Returns:
            Events not delivered; the log says how many of them are in the journal.
        """
        lost = self.leave(timeout)
        unsent = self._stats.pending
        if lost:
            self._log(logging.ERROR, "unsent", f"closed with {lost} events unsent")
        elif unsent and self._journal:
            self._log(
                logging.WARNING,
                "kept",
                f"{unsent} events are not sent yet: they are kept in {self._journal.folder}",
            )
        self._closing.set()
        self._sender.wake()
        if self._thread is not None:
            self._thread.join(2.0)
        if self._journal:
            self._journal.release()
        return unsent

    def journal_first(self, timeout: float) -> bool:
        """Have everything in the journal from now on; for a signal handler: takes no lock.

        Args:
            timeout: seconds to wait until what is in memory is written, and on the topic where
                Kafka answers.

        Returns:
            False where the handler has interrupted the very thread that writes it. That stops once
            it is done, or after `timeout`, and sends this process a SIGTERM.
        """
        if self._journal is None:
            return True
        sender = self._sender
        self._inline = True
        sender.asked += 1
        asked = sender.asked
        sender.wake()
        if not timeout:
            return True
        deadline = time.monotonic() + timeout
        if self._worker == threading.get_ident():
            self._again_by = self._again_by or deadline
            return False
        while self._at_work and time.monotonic() < deadline:
            # Kafka is as quick as the journal while it answers, and then nothing is left behind.
            if sender.saved >= asked and (sender.unreachable or not self._stats.pending):
                break
            sender.wake()
            time.sleep(_GLANCE)
        return True

    @property
    def _at_work(self) -> bool:
        """Somebody sends and writes, or is about to."""
        return self._worker != 0 or not (self._thread is None or self._closing.is_set())

    def abandon(self) -> None:
        """Close this process's copies of what is open, in a forked child."""
        self._sender.abandon()
        if self._journal:
            self._journal.abandon()

    def _wait(self, timeout: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        if self._thread is None:
            self._work(deadline, done)
            return
        settled = self._sender.settled
        while not done() and (left := deadline - time.monotonic()) > 0:
            self._sender.wake()
            with settled:  # no longer: a signal's handler waits for the thread that notifies
                settled.wait(min(left, _LOOK))

    # The background thread.

    def _start_thread(self) -> None:
        if not self._starting.acquire(blocking=False):  # another hook is at it
            return
        try:
            if self._thread is not None:
                return
            self._start_at = time.monotonic() + _START_AGAIN
            self._sender.background = True
            # Set before it runs: it asks whether there is one.
            self._thread = threading.Thread(target=self._run, name="llmlog-publisher", daemon=True)
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self._sender.background = False
            if "shutdown" not in str(error):  # since Python 3.12 an ending interpreter starts none
                kept = "the hook writes the journal" if self._journal else "events stay in memory"
                self._log(logging.ERROR, "thread", f"no thread can be started, {kept}: {error}")
        finally:
            self._starting.release()

    def _run(self) -> None:
        self._work(math.inf, self._closing.is_set)
        self._sender.end()

    def _work(self, deadline: float, done: Callable[[], bool]) -> None:
        """Send until `done`, or until the deadline."""
        try:
            with self._working:
                self._worker = threading.get_ident()
                try:
                    while (
                        not (done() or self._interrupted)
                        and (left := deadline - time.monotonic()) > 0
                    ):
                        self._step(left)
                finally:
                    self._worker = 0
        finally:
            if self._again_by:
                self._again_by = 0.0
                os.kill(os.getpid(), signal.SIGTERM)

    @property
    def _interrupted(self) -> bool:
        """A SIGTERM is to come again now."""
        return bool(self._again_by) and (
            self._sender.all_saved or time.monotonic() > self._again_by
        )

    def _step(self, left: float) -> None:
        try:
            self._sender.step(left)
        except Exception as error:  # noqa: BLE001 - nothing may end the thread
            self._log(logging.ERROR, f"thread {type(error)}", f"bug: {error_name(error)}")
            self._closing.wait(_LOOK)

    def _opened(self) -> Journal | None:
        if self._settings.journal == "off":
            return None
        try:
            return Journal(folder_of(self._settings), self._settings.journal_max_bytes)
        except (OSError, RuntimeError) as error:
            self._log(
                logging.ERROR,
                "spool",
                f"no journal, events are kept in memory alone: {error} (LLMLOG_JOURNAL_DIR)",
            )
            return None

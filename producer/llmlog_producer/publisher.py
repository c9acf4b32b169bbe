"""Owns an event's way from the hook to Kafka: queue, journal, delivery reports, flush.

The hook appends to the queue and returns. One background thread takes from it:

    queue ── prepared ──> in flight ── acknowledged ──> settled
                │             │ for 2 s without an answer: written to the journal
                └─────────────┴──> journal ──> in flight, once Kafka takes events again

Kafka being down, slow or full never shows in a request.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

from llmlog_producer.event import Captured, Item, Preparer
from llmlog_producer.journal import Journal, folder_of
from llmlog_producer.kafka import Client
from llmlog_producer.quiet_log import QuietLog, logger, spelt
from llmlog_schemas.codec import Encoder
from llmlog_schemas.errors import ConfigurationError, Unreachable
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_producer.stats import Stats
    from llmlog_schemas.settings import Settings

MAX_QUEUED_EVENTS: Final = 20_000
MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
"""Bounds of the queue between hook and thread."""

OVERDUE: Final = 2.0
"""Seconds for which memory alone holds an event; then the journal has it too."""

_POLL: Final = 0.05
_NAP: Final = 0.02
_TEND: Final = 0.25
_LOOK_AGAIN: Final = 2.0
_ADOPT_AGAIN: Final = 30.0
_WINDOW: Final = 10_000
_BACKLOG_EVENTS: Final = 500
_BACKLOG_BYTES: Final = 4 * 1024 * 1024

_HOPELESS: Final = frozenset((KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP))
"""Answers about the record itself; all others are about the cluster, and are waited out."""
_TOO_LARGE: Final = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE))


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
        self._log = QuietLog()
        self._prepare = Preparer(settings, stats)
        self._client = Client(settings, self._on_report, self._on_error)
        self._journal = self._opened()
        self._inline = settings.journal == "always" and self._journal is not None
        self._queue: queue.SimpleQueue[Captured | Item] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._counting = threading.Lock()
        self._head: Captured | Item | None = None
        self._again: deque[Item] = deque()
        # In the order of sending; `_late` are those that the journal has taken as overdue.
        self._in_flight: dict[Item, None] = {}
        self._late: dict[Item, None] = {}
        self._window = _WINDOW
        self._framing: Encoder | None = None
        self._hold_until = 0.0
        self._next_look = self._next_adoption = self._next_tending = 0.0
        self._urgent = False
        self._saved = threading.Event()
        self._settled = threading.Condition()
        self._closing = threading.Event()
        self._working = threading.Lock()
        self._thread: threading.Thread | None = None
        if background:
            self._start_thread()
            logger.info("llmlog: %s", self.summary)

    @property
    def summary(self) -> str:
        """Say in one line where events go and what is redacted."""
        settings, journal = self._settings, self._journal
        spool = f"{settings.journal} in {journal.folder}" if journal else "off"
        return (
            f"events go to topic {settings.topic} at {settings.kafka_bootstrap_servers}; "
            f"journal: {spool}; redacted: {self._prepare.redacts}"
        )

    # What the hook calls.

    def offer(self, captured: Captured) -> bool:
        """Take one payload; False, counted, where there is no room. Never waits for Kafka."""
        room = self._has_room(captured.size)
        if self._inline or (not room and self._journal_has_room(captured.size)):
            return self._offer_inline(captured, room=room)
        if not room:
            return self._dropped()
        self._stats.add("accepted")
        self._enqueue(captured)
        return True

    def _offer_inline(self, captured: Captured, *, room: bool) -> bool:
        """Write the event to the journal before the hook returns."""
        item = self._prepared(captured, counted=False)
        if item is None:
            return False
        if self._write(item, taken=room):
            self._stats.add("accepted")
            if room:
                self._enqueue(item)
            return True
        if not room:
            return self._dropped()
        self._stats.add("accepted")
        self._enqueue(item)
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

    def _has_room(self, size: int) -> bool:
        return (
            self._queue.qsize() < MAX_QUEUED_EVENTS
            and self._queued_bytes + size <= MAX_QUEUED_BYTES
        )

    def _enqueue(self, entry: Captured | Item) -> None:
        with self._counting:
            self._queued_bytes += entry.size
        self._queue.put(entry)

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
        self._wait(timeout, lambda: bool(self._next_adoption) and not self._stats.pending)
        return self._stats.pending

    def leave(self, timeout: float) -> int:
        """Wait until nothing is lost if the process ends: all is settled, or in the journal.

        Kafka is waited for while it answers; where it does not, the journal is enough.

        Returns:
            Events that only memory holds.
        """
        deadline = time.monotonic() + timeout

        def safe() -> bool:
            return not self._stats.pending or (self._unreachable() and not self.unsafe)

        self._wait(timeout, safe)
        if self.unsafe and self._journal:
            self._urgent = True
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
        if self._thread is not None:
            self._thread.join(2.0)
        if self._journal:
            self._journal.release()
        return unsent

    def journal_first(self, timeout: float) -> None:
        """Have everything in the journal from now on; for a signal handler: takes no lock.

        Args:
            timeout: seconds to wait until what is in memory is written.
        """
        if self._journal is None:
            return
        self._inline = self._urgent = True
        if timeout:
            self._saved.wait(timeout)

    def abandon(self) -> None:
        """Close this process's copy of the files, in a forked child."""
        if self._journal:
            self._journal.abandon()

    def _wait(self, timeout: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        if self._thread is None:
            self._work(deadline, done)
            return
        with self._settled:
            while not done() and (left := deadline - time.monotonic()) > 0:
                self._settled.wait(min(left, _POLL))

    # The background thread. Everything below runs in it alone, or under its lock.

    def _start_thread(self) -> None:
        # Set before it runs: it asks whether there is one.
        self._thread = threading.Thread(target=self._run, name="llmlog-publisher", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # since Python 3.12 an interpreter that ends starts no threads
            self._thread = None

    def _run(self) -> None:
        self._work(math.inf, self._closing.is_set)

    def _work(self, deadline: float, done: Callable[[], bool]) -> None:
        """Publish until `done`, or until the deadline."""
        with self._working:
            while not done() and (left := deadline - time.monotonic()) > 0:
                try:
                    self._step(left)
                except Exception as error:  # noqa: BLE001 - nothing may end the thread
                    self._log(logging.ERROR, f"thread {type(error)}", f"bug: {spelt(error)}")
                    self._closing.wait(_POLL)

    def _step(self, left: float) -> None:
        self._client.poll(0)
        if time.monotonic() >= self._next_tending:
            self._tend(left)
        urgent = self._urgent  # a signal may come at any line
        if urgent:
            self._save_in_flight()
        flowing = self._flowing()
        if flowing:
            self._send_backlog()
        entry = self._next(min(_NAP, left))
        if entry is None:
            if urgent:
                self._saved.set()
            return
        if flowing or self._spills(entry):
            item = entry if isinstance(entry, Item) else self._prepared(entry)
            if item is None or self._forward(item, flowing=flowing):
                return
            entry = item
        self._head = entry
        self._client.poll(min(_POLL, left))

    def _next(self, timeout: float) -> Captured | Item | None:
        if self._head is not None:
            head, self._head = self._head, None
            return head
        if self._again:
            return self._again.popleft()
        try:
            entry = self._queue.get_nowait()
        except queue.Empty:
            # Hooks wake nobody: that would cost each of them a system call.
            if not self._hurries():
                time.sleep(timeout)
            return None
        with self._counting:
            self._queued_bytes -= entry.size
        return entry

    def _hurries(self) -> bool:
        return self._urgent and not self._saved.is_set()

    def _flowing(self) -> bool:
        """Tell whether Kafka takes events, as far as one can know."""
        return (
            self._framing is not None
            and not (self._journal and self._late)
            and len(self._in_flight) < self._window
            and time.monotonic() >= self._hold_until
        )

    def _spills(self, entry: Captured | Item) -> bool:
        """Tell whether an event that Kafka cannot take now goes to the journal now."""
        if self._journal is None:
            return False
        if self._urgent or isinstance(entry, Item):
            return True
        crowded = (
            self._queue.qsize() > MAX_QUEUED_EVENTS // 4
            or self._queued_bytes > MAX_QUEUED_BYTES // 4
        )
        return crowded or time.time() - entry.at > OVERDUE

    def _forward(self, item: Item, *, flowing: bool) -> bool:
        """Hand an event to Kafka or to the journal; False where neither takes it."""
        if self._urgent and item.ref is None:
            self._write(item, taken=True)
        if flowing and self._produce(item):
            return True
        return self._keep(item)

    def _keep(self, item: Item) -> bool:
        """Leave an event to the journal, to be sent later."""
        if self._journal is None:
            return False
        if item.ref is not None:
            self._journal.give_back(item.ref)
            return True
        return self._write(item, taken=False)

    def _write(self, item: Item, *, taken: bool) -> bool:
        if self._journal is None:
            return False
        ref = self._journal.append(item.body, taken=taken)
        if ref is None:
            self._log(
                logging.ERROR, "journal", f"the journal takes no events: {self._journal.problem}"
            )
            return False
        item.ref = ref
        self._stats.add("journaled")
        return True

    def _produce(self, item: Item) -> bool:
        if self._framing is None:
            return False
        try:
            value = self._framing.reframed(item.value)
            self._client.produce(item, value)
        except BufferError:
            return False
        except KafkaException as error:
            self._refused(item, error.args[0])
        except Exception as error:  # noqa: BLE001 - bytes from an old journal
            self._give_up(item, f"not an event: {spelt(error)}")
        else:
            item.sent = time.monotonic()
            self._in_flight[item] = None
        return True

    def _send_backlog(self) -> None:
        """Send the journal's oldest events, in small helpings: new ones do not wait for them."""
        number = min(_BACKLOG_EVENTS, self._window) - len(self._in_flight)
        if self._journal is None or number <= 0:
            return
        for ref, body in self._journal.take(number, _BACKLOG_BYTES):
            item = Item(body, ref)
            if not self._flowing() or not self._produce(item):
                self._keep(item)
        if lost := self._journal.lost:
            self._journal.lost = 0
            self._stats.add("journal_damaged", lost)
            self._stats.add("failed", lost)
            self._log(
                logging.ERROR, "lost", f"{lost} events cannot be read: {self._journal.problem}"
            )

    # What is done once in a while.

    def _tend(self, left: float) -> None:
        now = time.monotonic()
        self._next_tending = now + _TEND
        self._adopt(now)
        self._spill_overdue(now)
        if self._client.broken:
            self._rebuild()
        if self._framing is None and now >= self._next_look:
            self._next_look = math.inf
            self._look_aside(min(1.0, left))

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

    def _adopt(self, now: float) -> None:
        if self._journal is None or now < self._next_adoption:
            return
        found = self._journal.adopt()
        self._stats.add("recovered", found.events)
        self._next_adoption = now + _ADOPT_AGAIN
        self._stats.add("journal_torn", found.torn)
        self._stats.add("journal_damaged", found.damaged)
        if found.events:
            self._log(
                logging.WARNING,
                "recovered",
                f"{found.events} events that an earlier process left are sent now",
            )
        if found.damaged:
            self._log(
                logging.ERROR,
                "damaged",
                f"the journal is damaged in {found.damaged} places: what can be read is sent, "
                f"the files are kept in {self._journal.folder} as *.damaged",
            )

    def _spill_overdue(self, now: float) -> None:
        if self._journal is None:
            return
        late = []
        for item in self._in_flight:
            if now - item.sent < OVERDUE or not (item.ref or self._write(item, taken=True)):
                break
            item.body = b""
            late.append(item)
        for item in late:
            del self._in_flight[item]
            self._late[item] = None

    def _save_in_flight(self) -> None:
        for item in self._in_flight:
            if item.ref is None and not self._write(item, taken=True):
                return

    def _look_aside(self, timeout: float) -> None:
        """Look for the topic in a thread of its own: the journal waits for no broker."""
        if self._thread is not None:
            look = threading.Thread(
                target=self._look_for_topic, args=(timeout,), name="llmlog-topic", daemon=True
            )
            try:
                look.start()
            except RuntimeError:  # an interpreter that ends starts no threads
                pass
            else:
                return
        self._look_for_topic(timeout)

    def _look_for_topic(self, timeout: float) -> None:
        """Find the topic and the registry; until then nothing is produced."""
        try:
            if self._client.topic_exists(timeout):
                registry = Registry.of_settings(self._settings)
                framing = Encoder(registry.register(self._settings.topic) if registry else None)
                if (topic_bytes := self._client.max_message_bytes(timeout)) is not None:
                    self._prepare.lower_limit(topic_bytes)
                self._client.down = False
                self._framing = framing  # last: from here on events are sent
                return
            self._log(
                logging.ERROR,
                "topic",
                f"topic {self._settings.topic} does not exist: run `pipeline setup`",
            )
        except KafkaException as error:
            self._log(logging.WARNING, "kafka", f"waiting for Kafka: {error.args[0].str()}")
        except (Unreachable, ConfigurationError) as error:
            self._log(logging.ERROR, "registry", f"waiting: {error}")
        except Exception as error:  # noqa: BLE001 - nothing may end the looking
            self._log(logging.ERROR, f"look {type(error)}", f"bug: {spelt(error)}")
        finally:
            self._next_look = time.monotonic() + _LOOK_AGAIN

    def _unreachable(self) -> bool:
        return self._framing is None or self._client.down or bool(self._late)

    def _rebuild(self) -> None:
        """Answer a fatal error: a new client, and what was not acknowledged is sent again."""
        again = [*self._late, *self._in_flight]
        self._late.clear()
        self._in_flight.clear()
        self._client.rebuild()
        self._stats.add("producer_rebuilt")
        for item in again:
            self._send_again(item)

    def _send_again(self, item: Item) -> None:
        if not self._keep(item):
            self._again.append(item)

    def _prepared(self, captured: Captured, *, counted: bool = True) -> Item | None:
        try:
            return self._prepare(captured)
        except Exception as error:  # noqa: BLE001 - a payload must never end the thread
            if not counted:
                self._stats.add("accepted")
            self._settle("dropped_unreadable")
            self._log(
                logging.ERROR, f"unreadable {type(error)}", f"payload dropped: {spelt(error)}"
            )
            return None

    # What Kafka answers.

    def _on_report(self, item: Item, error: KafkaError | None) -> None:
        self._in_flight.pop(item, None)
        self._late.pop(item, None)
        if error is not None:
            self._refused(item, error)
            return
        self._window = _WINDOW
        if item.ref is not None and self._journal:
            self._journal.settle(item.ref)
        self._settle("delivered")

    def _refused(self, item: Item, error: KafkaError) -> None:
        if error.code() in _TOO_LARGE:
            if not item.body:  # the journal has it
                self._keep(item)
                return
            smaller = self._prepare.smaller(item)
            if smaller is not None:
                self._again.append(smaller)
                return
        if error.code() in _HOPELESS or error.code() in _TOO_LARGE:
            self._give_up(item, error.str())
            return
        # The cluster's trouble, not the event's: try one event after a while.
        self._window = 1
        self._hold_until = time.monotonic() + _LOOK_AGAIN
        self._send_again(item)
        self._log(
            logging.ERROR, f"delivery {error.code()}", f"Kafka takes no events: {error.str()}"
        )

    def _give_up(self, item: Item, why: str) -> None:
        if item.ref is not None and self._journal:
            self._journal.settle(item.ref)
        self._settle("failed")
        self._log(logging.ERROR, "refused", f"event lost: {why}")

    def _settle(self, counter: str) -> None:
        self._stats.add(counter)
        with self._settled:
            self._settled.notify_all()

    def _journal_has_room(self, size: int) -> bool:
        return self._journal is not None and self._journal.has_room(size)

    def _on_error(self, error: KafkaError) -> None:
        self._log(logging.WARNING, f"kafka {error.code()}", f"Kafka: {error.str()}")

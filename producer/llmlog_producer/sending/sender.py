"""Owns an event's way from the intake to Kafka: order, delivery reports, what was refused.

    intake ── prepared ──> in flight ── acknowledged ──> settled
                 │             │ for a second without an answer: written to the journal
                 └─────────────┴──> journal ──> in flight, once Kafka takes events again

One thread takes steps, and naps between them. Waking up is what costs a gateway that is busy: it
has to hand the interpreter over, and the first event after that costs several times what the next
ones do. So events are sent in bursts, and what goes to the journal too (`spill`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

from llmlog_common.throttled_log import error_name
from llmlog_producer.converter.client import Converter
from llmlog_producer.events.build import CapturedPayload, EncodedEvent, EventBuilder
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_producer.sending.spill import Spill
from llmlog_producer.sending.topic_lookup import TopicLookup

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.journal import Journal
    from llmlog_producer.sending.queue import EventQueue

_POLL: Final = 0.05
_NAP: Final = 0.9
"""Seconds that an event waits at most. By then what was sent before is overdue, or acknowledged."""
_SLICE: Final = 0.002
"""Seconds of work after which the interpreter is left to others, if they want it."""
_TEND: Final = 0.25
_HOLD: Final = 2.0
_WINDOW: Final = 10_000
_HELPING: Final = 32
_BACKLOG_EVENTS: Final = 500

_HOPELESS: Final = frozenset((KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP))
"""Answers about the record itself; all others are about the cluster, and are waited out."""
_TOO_LARGE: Final = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE))


class Sender:
    """Takes from the intake and sends.

    Attributes:
        asked: how often everything was to be in the journal first; raised by a signal handler,
            at any line.
        saved: the last of these that is done. Plain numbers: the handler may take no lock.
        settled: notified when events were settled.
        background: a thread of ours takes the steps, and may start others.
        redacts: in a few words, what is redacted.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        log: ThrottledLog,
        intake: EventQueue,
        journal: Journal | None,
    ) -> None:
        self._stats = stats
        self._log = log
        self._prepare = EventBuilder(settings, stats)
        self._convert = Converter(settings, stats, log, lambda: self.urgent)
        self._intake = intake
        self._spill = Spill(journal, stats, log, intake)
        self._client = KafkaProducer(settings, self._on_report, self._on_error)
        self._topic = TopicLookup(settings, log, self._prepare, self._client)
        self.redacts = self._prepare.redacts
        self.asked = self.saved = 0
        self.settled = threading.Condition()
        self.background = False
        # Out of the intake and not handed on; `_again` comes first.
        self._taken: deque[CapturedPayload | EncodedEvent] = deque()
        self._again: deque[EncodedEvent] = deque()
        # In the order of sending; `_late` are those that the journal has taken as overdue.
        self._in_flight: dict[EncodedEvent, None] = {}
        self._late: dict[EncodedEvent, None] = {}
        self._delivered = 0
        # While it is 1 each is sent alone: those sent since then have a batch of their own.
        self._window = _WINDOW
        self._alone_since = math.inf
        self._hold_until = 0.0
        self._next_tending = 0.0
        # Held while there is nothing to wake for.
        self._rest = threading.Lock()
        self._rest.acquire()

    @property
    def has_adopted(self) -> bool:
        """What dead processes have left was looked for."""
        return self._spill.has_adopted

    @property
    def urgent(self) -> bool:
        """Everything is to be in the journal first, from when it was first asked for."""
        return self.asked > 0

    @property
    def all_saved(self) -> bool:
        """Whatever was asked for is done."""
        return self.saved == self.asked

    @property
    def unreachable(self) -> bool:
        """Kafka does not answer, as far as one can know."""
        return self._topic.framing is None or self._client.down or bool(self._late)

    def step(self, left: float) -> None:
        """Do what there is to do now, or nap; for `left` seconds at most, about."""
        self._poll(0)
        if time.monotonic() >= self._next_tending:
            self._tend(left)
        asked = self.asked
        urgent = asked > 0
        if urgent:
            self._spill.write(self._in_flight, taken=True)
        began = time.monotonic()
        flowing = self._flowing(began)
        if flowing and not self._again:
            self._send_backlog()
        waits = over = False
        while not (waits or over) and (entry := self._next()) is not None:
            flowing = flowing and len(self._in_flight) < self._window
            waits = not self._hand_on(entry, flowing=flowing)
            over = time.monotonic() - began > _SLICE
        not_kept = self._spill.write_kept()
        self._again.extend(not_kept)
        waits = waits or bool(not_kept)
        if waits and (self._in_flight or urgent):
            self._poll(min(_POLL, left))
        elif waits or not over:
            if urgent:
                self.saved = asked
            if self.all_saved:
                self._rest.acquire(timeout=min(self._idle_wait(flowing=flowing), left))

    def wake(self) -> None:
        """End a nap. For any thread, and for signal handlers: it waits for nothing."""
        with suppress(RuntimeError):  # somebody else has
            self._rest.release()

    def prepared(self, captured: CapturedPayload, *, counted: bool = True) -> EncodedEvent | None:
        """Return the event of a payload; None, counted, of one that cannot be read.

        Args:
            captured: the payload.
            counted: it counts as accepted already.
        """
        try:
            return self._prepare(captured)
        except Exception as error:  # noqa: BLE001 - a payload must never end the thread
            if not counted:
                self._stats.add("accepted")
            self._settle("dropped_unreadable")
            self._log(
                logging.ERROR, f"unreadable {type(error)}", f"payload dropped: {error_name(error)}"
            )
            return None

    def write(self, item: EncodedEvent, *, taken: bool) -> bool:
        """Write an event to the journal; False where it takes none.

        Args:
            item: the event.
            taken: it is on its way to Kafka; otherwise the journal hands it out later.
        """
        return self._spill.write([item], taken=taken)

    def end(self) -> None:
        """End what runs beside the thread; by the thread itself."""
        self._convert.close()
        if all(item.ref is not None for item in self._in_flight):
            self._client.purge()  # the journal has them: whoever takes that over would double them

    def abandon(self) -> None:
        """Close this process's copies of what is open, in a forked child."""
        self._convert.abandon()

    def _idle_wait(self, *, flowing: bool) -> float:
        """Return the seconds after which there may be something to do."""
        if not self.background or (flowing and self._spill.has_backlog):
            return _POLL
        overdue_in = self._spill.overdue_in(self._in_flight, time.monotonic())
        return max(_TEND, min(_NAP, overdue_in))

    def _next(self) -> CapturedPayload | EncodedEvent | None:
        if self._again:
            return self._again.popleft()
        if not self._taken:
            self._taken.extend(self._intake.take(_HELPING))
        return self._taken.popleft() if self._taken else None

    def _flowing(self, now: float) -> bool:
        """Tell whether Kafka takes events, as far as one can know."""
        return (
            self._topic.framing is not None
            and not (self._spill.possible and self._late)
            and len(self._in_flight) < self._window
            and now >= self._hold_until
        )

    def _hand_on(self, entry: CapturedPayload | EncodedEvent, *, flowing: bool) -> bool:
        """Hand an entry to Kafka or to the journal; False where it has to wait."""
        if not flowing and not self._spill.is_due(entry, urgent=self.urgent):
            self._taken.appendleft(entry)
            return False
        item = entry if isinstance(entry, EncodedEvent) else self._converted(entry)
        if item is None:
            return True
        if self.urgent and item.ref is None:
            self.write(item, taken=True)
        if (flowing and self._produce(item)) or self._spill.keep(item):
            return True
        self._taken.appendleft(item)
        return False

    def _converted(self, captured: CapturedPayload) -> EncodedEvent | None:
        """Return a payload's event; those of the next ones may be made with it."""
        behind = self._taken
        made = self._convert(captured, behind, self._prepare.limit) if self.background else []
        for place, item in enumerate(made[1:]):
            if item is not None:
                behind[place] = item
        return (made[0] if made else None) or self.prepared(captured)

    def _produce(self, item: EncodedEvent) -> bool:
        if self._topic.framing is None:
            return False
        try:
            value = self._topic.framing.reframed(item.value)
            self._client.produce(item, value)
        except BufferError:
            return False
        except KafkaException as error:
            self._refused(item, error.args[0], alone=True)
        except Exception as error:  # noqa: BLE001 - bytes from an old journal
            self._give_up(item, f"not an event: {error_name(error)}")
        else:
            item.sent = time.monotonic()
            self._in_flight[item] = None
        return True

    def _send_backlog(self) -> None:
        """Send the journal's oldest events, in small helpings: new ones do not wait for them."""
        for item in self._spill.backlog(min(_BACKLOG_EVENTS, self._window) - len(self._in_flight)):
            if not self._flowing(time.monotonic()) or not self._produce(item):
                self._spill.keep(item)

    # What is done once in a while.

    def _tend(self, left: float) -> None:
        now = time.monotonic()
        self._next_tending = now + _TEND
        self._spill.adopt(now)
        for item in self._spill.overdue(self._in_flight, now):
            if item.sent < self._alone_since:  # of one sent alone there may be something to cut
                item.body = b""
            del self._in_flight[item]
            self._late[item] = None
        if self._client.broken:
            self._rebuild()
        if self.background or self.all_saved:  # it may take a while
            self._topic.look(now, left, aside=self.background)

    def _rebuild(self) -> None:
        """Answer a fatal error: a new client, and what was not acknowledged is sent again."""
        self._client.rebuild()
        again = [*self._late, *self._in_flight]
        self._late.clear()
        self._in_flight.clear()
        self._stats.add("producer_rebuilt")
        for item in again:
            self._send_again(item)

    def _send_again(self, item: EncodedEvent) -> None:
        if not self._spill.keep(item):
            self._again.append(item)

    # What Kafka answers.

    def _poll(self, timeout: float) -> None:
        """Serve reports; what was delivered is counted once for all of them."""
        try:
            self._client.poll(timeout)
        finally:
            if self._delivered:
                number, self._delivered = self._delivered, 0
                self._settle("delivered", number)

    def _on_report(self, item: EncodedEvent, error: KafkaError | None) -> None:
        self._in_flight.pop(item, None)
        self._late.pop(item, None)
        if error is not None:
            self._refused(item, error, alone=item.sent >= self._alone_since)
            return
        if self._window > 1 or item.sent >= self._alone_since:
            self._window, self._alone_since = min(_WINDOW, 2 * self._window), math.inf
        self._spill.settle(item)
        self._delivered += 1

    def _refused(self, item: EncodedEvent, error: KafkaError, *, alone: bool) -> None:
        if error.code() in _TOO_LARGE:
            if not item.body:  # the journal has it
                self._send_alone()
                self._spill.keep(item)
                return
            if not alone:  # a batch is refused for the size of all of it
                self._send_alone()
                self._again.append(item)
                return
            smaller = self._prepare.smaller(item)
            if smaller is not None:
                self._spill.replace(item, smaller)
                self._again.append(smaller)
                return
        if error.code() in _HOPELESS or error.code() in _TOO_LARGE:
            self._give_up(item, error.str())
            return
        # The cluster's trouble, not the event's: try one event after a while.
        self._send_alone()
        self._hold_until = time.monotonic() + _HOLD
        self._send_again(item)
        self._log(
            logging.ERROR, f"delivery {error.code()}", f"Kafka takes no events: {error.str()}"
        )

    def _send_alone(self) -> None:
        """Send one event at a time, until one is acknowledged."""
        if self._window > 1:
            self._window, self._alone_since = 1, time.monotonic()

    def _give_up(self, item: EncodedEvent, why: str) -> None:
        self._spill.settle(item)
        self._settle("failed")
        self._log(logging.ERROR, "refused", f"event lost: {why}")

    def _settle(self, counter: str, number: int = 1) -> None:
        self._stats.add(counter, number)
        with self.settled:
            self.settled.notify_all()

    def _on_error(self, error: KafkaError) -> None:
        self._log(logging.WARNING, f"kafka {error.code()}", f"Kafka: {error.str()}")

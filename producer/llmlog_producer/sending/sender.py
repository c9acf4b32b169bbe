"""Owns an event's way from the queue to Kafka: order, delivery reports, refused events.

    queue ── built ──> in flight ── acknowledged ──> settled
               │            │ unanswered for a second: written to the journal
               └────────────┴──> journal ──> in flight, once Kafka takes events again

A partition that does not answer keeps the events that it was given; new ones go to the others
(`partitioner`). After a while its events are sent to others too, by a new client.

One thread takes steps, and waits between them. To wake up is what costs a busy gateway most: the
interpreter has to be handed over, and the first event after that costs several times what the next
ones do. So events are sent in bursts, and go to the journal in bursts too (`spill`). Within a burst
it gives way to the other threads after each conversion or two, unless events come faster than that.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from llmlog_common.throttled_log import error_name
from llmlog_producer.events.build import CapturedPayload, EncodedEvent, EventBuilder
from llmlog_producer.sending.conversion import Conversion
from llmlog_producer.sending.deliveries import Deliveries
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_producer.sending.spill import Spill
from llmlog_producer.sending.timing import LIMITS, TIMING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.job_thread import JobThread
    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.journal import Journal
    from llmlog_producer.sending.queue import EventQueue
    from llmlog_producer.sending.shutdown import Handover
    from llmlog_producer.sending.timing import Limits, Timing
    from llmlog_producer.sending.wakeup import Wakeup


class Sender:
    """Takes events from the queue and sends them, step by step.

    The sending thread calls `step` and `end`, and owns all fields. Threads that wait for their
    events read `is_unreachable`, `is_journal_full`, `waits`, `trouble` and `has_adopted`, which
    tell what was true a moment ago.

    Args:
        settings: as loaded.
        stats: counted into.
        log: told about lost events and refusals.
        queue: where events come from.
        journal: None where there is none.
        wakeup: ends the wait between two steps.
        handover: tells when everything is to be in the journal first, and is told when it is.
        timing: of sending.
        limits: of sending.
        new_client: makes the Kafka client.
        clock: monotonic seconds.
        journal_thread: makes the calls into the journal.

    Attributes:
        redaction: what is redacted, in a few words.

    Raises:
        ConfigurationError: a librdkafka property is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        log: ThrottledLog,
        queue: EventQueue,
        journal: Journal | None,
        *,
        wakeup: Wakeup,
        handover: Handover,
        timing: Timing = TIMING,
        limits: Limits = LIMITS,
        new_client: Callable[..., KafkaProducer] = KafkaProducer,
        clock: Callable[[], float] = time.monotonic,
        journal_thread: JobThread | None = None,
    ) -> None:
        self._stats = stats
        self._log = log
        self._queue = queue
        self._wakeup = wakeup
        self._handover = handover
        self._timing = timing
        self._limits = limits
        self._clock = clock
        self._builder = EventBuilder(settings, stats)
        self._spill = Spill(
            journal, stats, log, queue,
            wake=wakeup.wake, thread=journal_thread, timing=timing, limits=limits,
        )  # fmt: skip
        self._deliveries = Deliveries(
            settings, stats, log, self._builder, self._spill,
            timing=timing, limits=limits, new_client=new_client, clock=clock,
        )  # fmt: skip
        self._conversion = Conversion(
            self._builder, stats, log,
            wake=wakeup.wake, give_way=self._give_way, timing=timing, limits=limits, clock=clock,
        )  # fmt: skip
        self.redaction = self._builder.redaction
        # Out of the queue and not handed on; `Deliveries.again` comes first.
        self._taken: deque[CapturedPayload | EncodedEvent] = deque()
        self._next_housekeeping = 0.0

    # What other threads call.

    @property
    def has_adopted(self) -> bool:
        """Whether the journals of dead processes were searched for."""
        return self._spill.has_adopted

    @property
    def is_journal_full(self) -> bool:
        """Whether the journal has taken no event lately."""
        return self._spill.is_full

    @property
    def is_unreachable(self) -> bool:
        """Whether Kafka takes no events, as far as is known."""
        return self._deliveries.is_unreachable

    @property
    def waits(self) -> bool:
        """Whether all that is not settled waits for partitions that do not answer."""
        return self._stats.pending <= self._deliveries.late

    @property
    def trouble(self) -> str:
        """Why Kafka takes no events; empty while it does."""
        return self._deliveries.trouble

    # What the sending thread calls.

    def _build(self, captured: CapturedPayload) -> EncodedEvent | None:
        """Return the event of a payload that runs no foreign code; None, counted, without one."""
        try:
            event = self._builder.build(captured)
        except Exception as error:  # noqa: BLE001 - a bug of ours: it must not end the thread
            self._count_unreadable(captured, error)
            return None
        event.written = captured.written
        return event

    def _count_unreadable(self, captured: CapturedPayload, error: BaseException) -> None:
        self._stats.settle("dropped_unreadable")
        why = f"payload dropped: {error_name(error)}"
        self._log(logging.ERROR, f"unreadable {type(error)}", why)
        if captured.written is not None:
            captured.written.finish(is_written=True)  # there is nothing to be written

    def _take_converted(self, *, urgent: bool) -> None:
        for captured, result in self._conversion.take(urgent=urgent):
            if isinstance(result, BaseException):
                self._count_unreadable(captured, result)
            else:
                result.written = captured.written
                self._deliveries.again.append(result)

    def step(self, seconds_left: float, *, background: bool) -> None:
        """Do all that can be done now, then wait until there may be more to do.

        Args:
            seconds_left: it returns after about so many seconds at most.
            background: the publisher's own thread calls. It may wait long, and may start a thread
                that looks up the topic.
        """
        self._deliveries.poll(0)
        if self._clock() >= self._next_housekeeping:
            self._keep_house(seconds_left, background=background)
        requested = self._handover.requested
        urgent = self._handover.is_requested
        if urgent:
            self._spill.copy_all(self._deliveries.in_flight)
        self._take_converted(urgent=urgent)
        began = self._clock()
        is_open = self._deliveries.room > 0
        if is_open and not self._deliveries.again:
            self._send_backlog()
        has_to_wait = out_of_time = False
        while not (has_to_wait or out_of_time) and (entry := self._next_entry()) is not None:
            is_open = is_open and self._deliveries.in_flight.room > 0
            has_to_wait = not self._hand_on(entry, is_open=is_open)
            out_of_time = self._clock() - began > self._timing.max_busy_seconds
        refused = self._spill.exchange(is_awaited=has_to_wait or urgent, urgent=urgent)
        self._deliveries.again.extend(refused)
        has_to_wait = has_to_wait or bool(refused)
        if has_to_wait or not out_of_time:
            seconds = min(self._idle_seconds(is_open=is_open, background=background), seconds_left)
            self._wait(requested if urgent else 0, seconds, has_to_wait=has_to_wait)
        elif background:
            self._give_way()

    def _give_way(self) -> None:
        """Leave other threads the interpreter, unless events come faster or the process ends.

        The thread of the conversions calls it too.
        """
        if not (self._handover.is_requested or self._queue.nearly_full):
            self._wakeup.give_way(self._timing.give_way_seconds)

    def _wait(self, requested: int, seconds: float, *, has_to_wait: bool) -> None:
        """Wait until there may be more to do, for so many seconds at most.

        Args:
            requested: hand-overs that were requested when the step began.
            seconds: of an idle wait.
            has_to_wait: an entry is left that neither Kafka nor the journal takes now.
        """
        poll_seconds = min(self._timing.poll_seconds, seconds)
        is_busy = self._spill.is_busy or self._conversion.is_busy
        if is_busy and (has_to_wait or requested):
            self._wakeup.idle_wait(poll_seconds)
        elif has_to_wait and (self._deliveries.in_flight or requested):
            self._deliveries.poll(poll_seconds)
        else:
            if requested and self._spill.has_all(self._deliveries.in_flight):
                self._handover.confirm(requested)
            if self._handover.is_confirmed:
                self._wakeup.idle_wait(seconds)

    def end(self) -> None:
        """End the other threads, and leave the journal what is in flight; steps may follow."""
        self._conversion.end()
        self._spill.end(self._timing.release_seconds)
        self._deliveries.end()

    def release(self, seconds: float) -> None:
        """End the journal: what is not settled stays in it; wait for so many seconds at most."""
        self._spill.release(seconds)

    def _idle_seconds(self, *, is_open: bool, background: bool) -> float:
        """Return the seconds after which there may be something to do."""
        timing = self._timing
        # After a SIGTERM the process may end soon.
        is_busy = is_open and (self._spill.has_backlog or self._handover.is_requested)
        if not background or is_busy:
            return timing.poll_seconds
        overdue_in = self._spill.overdue_in(self._deliveries.in_flight, self._clock())
        return max(timing.housekeeping_seconds, min(timing.max_idle_seconds, overdue_in))

    def _next_entry(self) -> CapturedPayload | EncodedEvent | None:
        if self._deliveries.again:
            return self._deliveries.again.popleft()
        if not self._taken:
            self._taken.extend(self._queue.take(self._limits.taken_events))
        return self._taken.popleft() if self._taken else None

    def _hand_on(self, entry: CapturedPayload | EncodedEvent, *, is_open: bool) -> bool:
        """Hand an entry to Kafka or to the journal; False if it has to wait."""
        urgent = self._handover.is_requested
        if not is_open and not self._spill.is_due(entry, urgent=urgent):
            self._taken.appendleft(entry)
            return False
        if isinstance(entry, CapturedPayload) and self._builder.runs_foreign_code(entry):
            return self._submit(entry)
        event = entry if isinstance(entry, EncodedEvent) else self._build(entry)
        if event is None:
            return True
        if is_open and self._deliveries.produce(event):
            # Asked again: a signal may have come while the payload was converted.
            if event.written is not None or self._handover.is_requested:
                self._spill.copy(event)
            return True
        if self._spill.keep(event):
            return True
        self._taken.appendleft(event)
        return False

    def _submit(self, captured: CapturedPayload) -> bool:
        """Have a payload converted that may run foreign code; False if it has to wait."""
        try:
            if self._conversion.has_room:
                self._conversion.submit(captured)
                return True
        except BaseException:  # a user's Ctrl-C where no thread can be started
            self._taken.appendleft(captured)
            raise
        self._taken.appendleft(captured)
        return False

    def _send_backlog(self) -> None:
        """Send the journal's oldest events, a few at a time: new events do not wait for them."""
        most = min(self._limits.backlog_events, self._deliveries.in_flight.window.size)
        for event in self._spill.read_backlog(most - len(self._deliveries.in_flight)):
            if not self._deliveries.room or not self._deliveries.produce(event):
                self._spill.keep(event)  # it has a copy: the journal takes it back

    # What is done once in a while.

    def _keep_house(self, seconds_left: float, *, background: bool) -> None:
        now = self._clock()
        self._next_housekeeping = now + self._timing.housekeeping_seconds
        self._spill.keep_house(now)
        self._deliveries.keep_house(is_ending=self._handover.is_requested)
        # Without a thread of its own a lookup may take a second, and the journal comes first.
        if background or self._handover.is_confirmed:
            self._deliveries.look_topic_up(seconds_left, in_thread=background)

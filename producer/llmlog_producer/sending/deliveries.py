"""Owns the events from when they are handed to Kafka until Kafka has answered for them.

What Kafka refuses, and what a replaced client had, comes back in `again`, or goes to the journal.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from llmlog_common.errors import ConfigurationError
from llmlog_common.throttled_log import error_name
from llmlog_producer.sending.in_flight import InFlight
from llmlog_producer.sending.refusals import Remedy, is_fatal, reason_of, remedy_for
from llmlog_producer.sending.topic_lookup import TopicLookup
from llmlog_producer.sending.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.events.build import EncodedEvent, EventBuilder
    from llmlog_producer.sending.kafka_producer import KafkaProducer
    from llmlog_producer.sending.spill import Spill
    from llmlog_producer.sending.timing import Limits, Timing


class Deliveries:
    """The Kafka client, the events that it has, and what is done about each answer.

    The sending thread alone uses it; other threads read `is_unreachable`, `late` and `trouble`.

    Args:
        settings: as loaded.
        stats: counted into.
        log: told about lost events and refusals.
        builder: truncates events that are too large.
        spill: keeps events that have to wait.
        timing: of sending.
        limits: of sending.
        new_client: makes the Kafka client.
        clock: monotonic seconds.

    Attributes:
        again: events to be sent before all others.
        in_flight: events that are on time; iterates over them.

    Raises:
        ConfigurationError: a librdkafka property is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        log: ThrottledLog,
        builder: EventBuilder,
        spill: Spill,
        *,
        timing: Timing,
        limits: Limits,
        new_client: Callable[..., KafkaProducer],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._log = log
        self._builder = builder
        self._spill = spill
        self._timing = timing
        self._clock = clock
        self._client = new_client(settings, self._on_report, self._on_error)
        self._partitions = self._client.partitions
        self._topic = TopicLookup(settings, log, builder, self._client, timing=timing, clock=clock)
        self._trouble = Trouble(log, clock)
        self._next_rebuild = 0.0
        self._next_look = 0.0
        self._outdated_since: float | None = None
        self._delivered = 0  # acknowledged and not counted yet
        self.again: deque[EncodedEvent] = deque()
        self.in_flight = InFlight(
            spill,
            self._partitions,
            overdue_seconds=timing.overdue_seconds,
            max_events=limits.in_flight_events,
        )

    @property
    def is_unreachable(self) -> bool:
        """Whether Kafka takes no events, as far as is known; not while it is first asked."""
        if self._topic.encoder is None and not self._client.down:
            return self._topic.has_failed
        return self._client.down or not self._takes_events()

    @property
    def late(self) -> int:
        """The number of events that wait for partitions that do not answer."""
        return self.in_flight.late

    @property
    def trouble(self) -> str:
        """Why Kafka takes no events; empty while it does."""
        return self._trouble.reason

    @property
    def room(self) -> int:
        """How many events Kafka takes now, as far as is known."""
        return self.in_flight.room if self._takes_events() else 0

    def produce(self, event: EncodedEvent) -> bool:
        """Hand an event to the Kafka client; False if it takes none now."""
        if self._topic.encoder is None or self._client.broken:
            return False
        partition = None
        try:
            value = self._topic.encoder.reframe(event.value)
            partition = self._partitions.next_partition(len(value), self._clock())
            if partition is None:
                return False
            self._client.produce(event, value, partition)
        except BufferError:
            return False
        except KafkaException as refusal:
            self._on_refusal(event, refusal.args[0], partition, alone=True)
        except Exception as error:  # noqa: BLE001 - bytes from an old journal
            self._give_up(event, f"not an event: {error_name(error)}")
        else:
            event.sent = self._clock()
            self.in_flight.add(event, partition)
        return True

    def poll(self, seconds: float) -> None:
        """Serve delivery reports; the delivered events are counted once for all reports."""
        try:
            self._client.poll(seconds)
        finally:
            if self._delivered:
                number, self._delivered = self._delivered, 0
                self._stats.settle("delivered", number)

    def keep_house(self, *, is_ending: bool) -> None:
        """Do what is done once in a while: note late events, replace the client where it has to be.

        Args:
            is_ending: the process ends: no event waits for a partition that does not answer.
        """
        now = self._clock()
        self.in_flight.note_late(now)
        count = self._partitions.partition_count
        closed = self._partitions.closed(now)
        self._trouble.note_partitions(closed, count, self._settings.topic)
        is_due = self._client.broken or self._has_to_move(now, is_ending=is_ending)
        if is_due or self._is_outdated(now):
            self._rebuild(now)

    def look_topic_up(self, seconds_left: float, *, in_thread: bool) -> None:
        """Look the topic up, if it is time to (`TopicLookup.refresh`)."""
        now = self._clock()
        is_troubled = bool(self._trouble.reason or self._partitions.closed(now))
        self._topic.refresh(now, seconds_left, in_thread=in_thread, is_troubled=is_troubled)

    def end(self) -> None:
        """Leave the events to the journal if it has all of them; further steps send them again."""
        if self.in_flight.are_written:
            self._client.purge()  # the process that takes the journal over would send them too
            self._send_all_again(self._clock())

    def _takes_events(self) -> bool:
        return (
            self._topic.encoder is not None
            and not self._client.broken
            and self._partitions.takes_events(self._clock())
        )

    # The client's replacement.

    def _is_outdated(self, now: float) -> bool:
        """Tell whether the client has to be replaced, because its certificates have changed.

        It waits for a moment in which nothing is in flight, which would be sent twice, but not
        without end: an old certificate may end meanwhile.
        """
        if now >= self._next_look and self._outdated_since is None:
            self._next_look = now + self._timing.certificate_seconds
            if self._client.is_outdated:
                self._outdated_since = now
        since = self._outdated_since
        return since is not None and (not self.in_flight or now - since > self._timing.move_seconds)

    def _has_to_move(self, now: float, *, is_ending: bool) -> bool:
        """Tell whether late events are to be sent to other partitions.

        Only a new client forgets them, so none may be in flight to a partition that answers.
        """
        bound = self._timing.overdue_seconds if is_ending else self._timing.move_seconds
        is_late = self.in_flight.oldest_late_seconds(now) > bound
        return is_late and not self.in_flight and not self.is_unreachable

    def _rebuild(self, now: float) -> None:
        """Replace the client; the new one sends again the events that were not acknowledged."""
        if now < self._next_rebuild:
            return
        self._next_rebuild = now + self._timing.rebuild_seconds
        is_broken = self._client.broken
        try:
            self._client.rebuild()
        except ConfigurationError as error:  # a file that it needs is not there now
            self._trouble.begin("rebuild", str(error))
            return
        if is_broken:
            self._stats.add("producer_rebuilt")
        if self._outdated_since is not None:
            self._log(logging.WARNING, "certificates", "a new certificate is used")
        is_new = is_broken or self._outdated_since is not None
        self._outdated_since = None
        self._send_all_again(now if is_new else now + self._timing.move_seconds)

    def _send_all_again(self, pause_until: float) -> None:
        """Send again what the client has forgotten; late partitions are left out until then."""
        self._partitions.pause_late(pause_until)
        for event in self.in_flight.take_all():
            self._send_again(event)

    def _send_again(self, event: EncodedEvent) -> None:
        if not self._spill.keep(event):
            self.again.append(event)

    # What Kafka answers.

    def _on_report(self, event: EncodedEvent, error: KafkaError | None) -> None:
        partition = self.in_flight.remove(event)
        window = self.in_flight.window
        if error is not None:
            self._on_refusal(event, error, partition, alone=window.was_alone(event.sent))
            return
        self._trouble.end()
        window.acknowledge(event.sent)
        self._spill.settle(event)
        self._delivered += 1

    def _on_refusal(
        self, event: EncodedEvent, error: KafkaError, partition: int | None, *, alone: bool
    ) -> None:
        remedy = remedy_for(error.code(), alone=alone)
        now = self._clock()
        window = self.in_flight.window
        if remedy is Remedy.SHRINK and (smaller := self._builder.shrink(event)) is not None:
            # The larger copy in the journal, if there is one, stays: it would be truncated again.
            event.body, event.size = smaller.body, smaller.size
            self.again.append(event)
        elif remedy in {Remedy.SHRINK, Remedy.GIVE_UP}:
            self._give_up(event, error.str())
        elif remedy is Remedy.SEND_ALONE:
            window.send_alone(now)
            self.again.append(event)
        elif remedy is Remedy.WAIT:
            window.send_alone(now)
            self._send_again(event)
            if partition is not None:
                self._partitions.pause(partition, now + self._timing.refusal_pause_seconds)
            self._say_why(error)

    def _give_up(self, event: EncodedEvent, why: str) -> None:
        self._spill.settle(event)
        self._stats.settle("failed")
        self._log(logging.ERROR, "refused", f"event lost: {why}")

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._say_why(error)
        else:
            self._log(logging.WARNING, f"kafka {error.code()}", f"Kafka: {error.str()}")

    def _say_why(self, error: KafkaError) -> None:
        # The first fatal error has the cause, all later ones say only that there was one.
        if not (self._trouble.reason and error.code() == KafkaError._FATAL):  # noqa: SLF001
            reason = reason_of(error, self._settings.topic)
            self._trouble.begin(f"delivery {error.code()}", reason)

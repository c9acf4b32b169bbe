"""Owns the two ways of a replay: through the worker's own delivery, or back onto a topic.

Nothing is remembered between runs. A document that exists stays as it is, and a record that fails
again gets a newer letter of the same source. So a run that was interrupted is simply run again.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from llmlog_common.errors import (
    CircuitOpenError,
    ConfigurationError,
    ElasticsearchError,
    KafkaError,
)
from llmlog_consumer.dead_letters.reader import split_chunks
from llmlog_consumer.offset_tracker import UNKNOWN_EPOCH, Span
from llmlog_consumer.replay.plan import ReplayOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.delivery.pipeline import Delivery
    from llmlog_consumer.kafka.producer import KafkaProducer
    from llmlog_consumer.outcomes import Outcome, Settle
    from llmlog_consumer.replay.plan import ReplayPolicy

MAX_IN_FLIGHT_BYTES: Final = 24 * 1024 * 1024
"""Bytes of values in flight above which no more letters are taken in."""
MAX_MENDED_BYTES: Final = MAX_IN_FLIGHT_BYTES // 2
"""The same of mended ones: each is held beside what it was."""

_CHUNK_LETTERS: Final = 200
"""Letters with their headers that fit into a processor's cache."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The waits of a replay, in seconds.

    Attributes:
        turn_seconds: wait for results, or for the rate, in one turn.
        drain_seconds: wait for what is in flight after a signal.
    """

    turn_seconds: float = 0.02
    drain_seconds: float = 20.0


@dataclass(slots=True)
class ReplayRun:
    """What both ways of a replay share: which letters, how fast, until when, and the counts.

    Attributes:
        policy: which letters are replayed.
        stopping: asked on every turn; True ends the run.
        rate: letters a second at most; None for no bound.
        progress: called with the number of letters that are done.
        timing: waits.
        clock: monotonic seconds.
        counts: letters by outcome.
        letters: letters that a decision was made on.
    """

    policy: ReplayPolicy
    stopping: Callable[[], bool]
    rate: float | None = None
    progress: Callable[[int], None] | None = None
    timing: Timing = field(default_factory=Timing)
    clock: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    letters: int = 0
    _started: float = 0.0

    def start(self) -> None:
        """Start the clock of the rate."""
        self._started = self.clock()

    def decide(self, record: ReplayRecord) -> ReplayRecord | None:
        """Return the record to replay; None where its letter is left alone, which is counted."""
        self.letters += 1
        decision = self.policy.decide(record)
        if isinstance(decision, ReplayOutcome):
            self.counts[decision] += 1
            return None
        return decision

    def is_ahead_of_rate(self) -> bool:
        """Tell whether more letters were taken than the rate allows by now."""
        if self.rate is None:
            return False
        return self.letters > self.rate * (self.clock() - self._started)

    def report_progress(self) -> None:
        """Call `progress` with the number of letters that are done."""
        if self.progress:
            self.progress(self.counts.total())


class IndexReplay:
    """A replay through decoding and indexing. One thread owns it.

    Args:
        run: which letters, how fast, until when.
        new_delivery: makes the delivery, given the callback that it settles records with.
        max_in_flight_bytes: bytes of values above which no more letters are taken in.
    """

    def __init__(
        self,
        run: ReplayRun,
        new_delivery: Callable[[Settle], Delivery],
        *,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
    ) -> None:
        self._run = run
        self._max_in_flight_bytes = max_in_flight_bytes
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._generation = 0
        self._delivery = new_delivery(self._settle)

    @property
    def counts(self) -> Counter[str]:
        """Letters by outcome."""
        return self._run.counts

    def run(self, records: Iterable[ReplayRecord]) -> bool:
        """Replay every record to its outcome; return False where the run was stopped before.

        Raises:
            ElasticsearchError: the deployment is wrong; letters not yet replayed stay as they are.
            ConfigurationError: there is no schema for a letter's record.
            CircuitOpenError: nearly every record fails again.
        """
        run = self._run
        run.start()
        try:
            for chunk in split_chunks(records, _chunk_letters(run.rate)):
                self._accept(chunk)
                self._turn(0.0)
                while self._has_to_wait():
                    self._turn(run.timing.turn_seconds)
                    self._check_progress()
                if run.stopping():
                    break
            self._drain()
        finally:
            self._delivery.close()
        return not run.stopping()

    def _accept(self, chunk: list[ReplayRecord]) -> None:
        # Records of a topic, and of one that was recreated under its name, share coordinates: the
        # second of the same coordinates goes into a part of its own.
        parts: dict[tuple[str, int, int], list[ReplayRecord]] = defaultdict(list)
        seen: Counter[tuple[str, int, int]] = Counter()
        for record in chunk:
            decided = self._run.decide(record)
            if decided is not None:
                parts[(*decided.source[:2], seen[decided.source])].append(decided)
                seen[decided.source] += 1
        for (_, partition, _), records in parts.items():
            # A generation for each: two source topics may have the same partition and offset.
            self._generation += 1
            offsets = [record.source[2] for record in records]
            span = Span(
                partition,
                self._generation,
                min(offsets),
                max(offsets),
                UNKNOWN_EPOCH,
                len(records),
                self._run.clock(),
            )
            self._in_flight += len(records)
            self._in_flight_bytes += sum(record.size for record in records)
            self._delivery.accept(span, records)

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        span.unsettled -= records
        self._in_flight -= records
        self._in_flight_bytes -= size
        self._run.counts[outcome] += records

    def _has_to_wait(self) -> bool:
        if self._run.stopping():
            return False
        return self._run.is_ahead_of_rate() or self._in_flight_bytes > self._max_in_flight_bytes

    def _turn(self, wait_seconds: float) -> None:
        """Go on with what is in flight; raise where a person has to act."""
        self._delivery.step(wait_seconds if self._in_flight else 0.0)
        if not self._in_flight and self._run.rate:
            time.sleep(min(wait_seconds, 1 / self._run.rate))
        self._run.report_progress()
        if self._delivery.pause_reason:
            raise ElasticsearchError(f"{self._delivery.pause_reason}: fix it and run this again")
        if self._delivery.schema_reason:
            raise ConfigurationError(f"{self._delivery.schema_reason}: fix it and run this again")
        if self._delivery.circuit_open:
            raise CircuitOpenError(
                "nearly every record fails again of one cause: see the lines above; records that "
                "are not indexed stay dead letters, as they were"
            )

    def _drain(self) -> None:
        """Wait for what is in flight; after a signal for `drain_seconds` at most."""
        self._delivery.flush()
        deadline = None
        while self._in_flight:
            if self._run.stopping() and deadline is None:
                deadline = self._run.clock() + self._run.timing.drain_seconds
            if deadline is not None and self._run.clock() > deadline:
                return
            self._turn(self._run.timing.turn_seconds)
            self._check_progress()

    def _check_progress(self) -> None:
        """Raise where all that is left waits for an index that a person has to mend."""
        if self._in_flight and self._delivery.is_stuck:
            raise ElasticsearchError(f"{self._delivery.unhealthy}: fix it and run this again")


def _chunk_letters(rate: float | None) -> int:
    return _CHUNK_LETTERS if rate is None else max(1, min(_CHUNK_LETTERS, int(rate / 10)))


class TopicReplay:
    """A replay onto a topic, of the records as they were.

    Args:
        run: which letters, how fast, until when.
        topic: the target; None for the source topic of each record, which is the topic of the
            events for a letter that names none. Never the dead-letter topic.
        producer: sends the records; the records that it has delivered are counted here.
    """

    def __init__(self, run: ReplayRun, topic: str | None, producer: KafkaProducer[None]) -> None:
        settings = run.policy.settings
        self._run = run
        self._topic = topic
        self._events, self._dead_letters = settings.topic, settings.dlq_topic
        self._producer = producer

    @property
    def counts(self) -> Counter[str]:
        """Letters by outcome."""
        return self._run.counts

    def run(self, records: Iterable[ReplayRecord]) -> bool:
        """Send every record and wait for the brokers; return False where the run was stopped.

        Raises:
            KafkaError: the broker refuses, or does not confirm in time.
        """
        run = self._run
        run.start()
        try:
            for record in records:
                while run.is_ahead_of_rate() and not run.stopping():
                    self._producer.poll(run.timing.turn_seconds)
                if run.stopping() or self._producer.refusal:
                    break
                decided = run.decide(record)
                if decided is not None:
                    self._send(decided)
                run.counts["sent"] = self._producer.delivered
                run.report_progress()
            self._producer.finish("letters")
        finally:
            run.counts["sent"] = self._producer.delivered
        return not run.stopping()

    def _send(self, record: ReplayRecord) -> None:
        topic = self._topic or record.topic()
        if topic == self._dead_letters:
            topic = self._events
        with suppress(KafkaError):  # the producer remembers why, and the run ends
            self._producer.send(
                None, topic, record.value(), record.key(), headers=list(record.headers())
            )

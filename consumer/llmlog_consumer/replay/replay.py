"""Puts dead letters on their way again: through the worker's own way, or back onto a topic.

Nothing is remembered between runs: a document that is there stays as it is, and what dies again
is a newer letter of the same name. So a run that was cut off is simply run again.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from llmlog_common.errors import CircuitOpenError, ElasticsearchError, KafkaError
from llmlog_consumer.dead_letters.reader import chunks
from llmlog_consumer.offset_tracker import UNKNOWN_EPOCH, Span
from llmlog_consumer.replay.plan import ReplayOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.delivery.pipeline import Delivery
    from llmlog_consumer.kafka.producer import KafkaProducer
    from llmlog_consumer.outcomes import Outcome, Settle
    from llmlog_consumer.replay.plan import ReplayPolicy

MOST_BYTES: Final = 24 * 1024 * 1024
"""Bytes of values in flight above which no more letters are taken."""

_AT_ONCE: Final = 200
"""Letters with their headers that fit into a processor's cache."""
_DRAIN_SECONDS: Final = 20.0


class Indexing:
    """Replays through decoding and indexing.

    Args:
        gate: which letters may go.
        delivery: made with its `settle`: the callback that is given.
        stopping: asked on every turn; True ends the run with a drain.
        rate: letters a second at most; None for as fast as it goes.
        progress: told how many letters are done.
    """

    def __init__(
        self,
        gate: ReplayPolicy,
        delivery: Callable[[Settle], Delivery],
        *,
        stopping: Callable[[], bool],
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._gate = gate
        self._stopping = stopping
        self._rate = rate
        self._progress = progress
        self.counts: Counter[str] = Counter()
        self._in_flight = 0
        self._bytes = 0
        self._taken = 0
        self._generation = 0
        self._delivery = delivery(self._settle)

    def run(self, records: Iterable[ReplayRecord]) -> bool:
        """Take every letter to its end; False when told to stop before.

        Raises:
            ElasticsearchError: the deployment is wrong; letters not yet sent stay as they are.
            CircuitOpenError: nearly everything dies again.
        """
        began = time.monotonic()
        try:
            for chunk in chunks(records, _at_once(self._rate)):
                self._take(chunk)
                self._turn(wait=0.0)
                while not self._may_go_on(began):
                    self._turn()
                if self._stopping():
                    break
            self._drain()
        finally:
            self._delivery.close()
        return not self._stopping()

    def _take(self, chunk: list[ReplayRecord]) -> None:
        by_partition: dict[tuple[str, int], list[ReplayRecord]] = defaultdict(list)
        for record in chunk:
            opened = self._gate.open(record)
            if isinstance(opened, ReplayOutcome):
                self.counts[opened] += 1
            else:
                by_partition[opened.source[:2]].append(opened)
        for (_, partition), records in by_partition.items():
            # A generation for each: two source topics may have the same partition and offset.
            self._generation += 1
            offsets = [record.source[2] for record in records]
            span = Span(
                partition, self._generation, min(offsets), max(offsets), UNKNOWN_EPOCH,
                len(records), time.monotonic(),
            )  # fmt: skip
            self._in_flight += len(records)
            self._bytes += sum(record.size for record in records)
            self._delivery.accept(span, records)
        self._taken += len(chunk)

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        span.unsettled -= records
        self._in_flight -= records
        self._bytes -= size
        self.counts[outcome] += records

    def _may_go_on(self, began: float) -> bool:
        if self._stopping():
            return True
        if self._rate and self._taken > self._rate * (time.monotonic() - began):
            return False
        return self._bytes <= MOST_BYTES

    def _turn(self, wait: float = 0.02) -> None:
        """Go on with what is in flight; stop where a person has to mend something."""
        self._delivery.step(wait if self._in_flight else 0.0)
        if not self._in_flight and self._rate:
            time.sleep(min(wait, 1 / self._rate))
        if self._progress:
            self._progress(self.counts.total())
        if self._delivery.pause_reason:
            raise ElasticsearchError(f"{self._delivery.pause_reason}: mend it and run this again")
        if self._delivery.circuit_open:
            raise CircuitOpenError(
                "nearly everything dies again of one cause: see the lines above; what is not "
                "indexed stays a letter, as it was"
            )

    def _drain(self) -> None:
        """Wait for what is in flight; once told to stop, for a while only."""
        self._delivery.flush()
        deadline = None
        while self._in_flight:
            if self._stopping() and deadline is None:
                deadline = time.monotonic() + _DRAIN_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return
            self._turn()


def _at_once(rate: float | None) -> int:
    return _AT_ONCE if rate is None else max(1, min(_AT_ONCE, int(rate / 10)))


class ToTopic:
    """Replays onto a topic, as the records were, for whoever reads it.

    Args:
        gate: which letters may go.
        topic: where to; None for the source of each, which is the topic of the events for a
            letter that names none. Never the dead-letter topic.
        producer: sends the records; its reports are counted here.
        stopping: asked on every turn.
        rate: letters a second at most; None for as fast as it goes.
        progress: told how many letters are done.
    """

    def __init__(
        self,
        gate: ReplayPolicy,
        topic: str | None,
        producer: KafkaProducer[None],
        *,
        stopping: Callable[[], bool],
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._gate = gate
        self._topic = topic
        self._events, self._dead_letters = gate.settings.topic, gate.settings.dlq_topic
        self._stopping = stopping
        self._rate = rate
        self._progress = progress
        self.counts: Counter[str] = Counter()
        self._producer = producer

    def run(self, records: Iterable[ReplayRecord]) -> bool:
        """Send every letter and wait for the brokers; False when told to stop before.

        Raises:
            KafkaError: the broker refuses, or does not confirm in time.
        """
        began = time.monotonic()
        for taken, record in enumerate(records):
            while self._early(taken, began) and not self._stopping():
                self._producer.poll(0.02)
            if self._stopping() or self._producer.refusal:
                break
            opened = self._gate.open(record)
            if isinstance(opened, ReplayOutcome):
                self.counts[opened] += 1
            else:
                self._send(opened)
            self.counts["sent"] = self._producer.delivered
            if self._progress:
                self._progress(self.counts.total())
        try:
            self._producer.finish("letters")
        finally:
            self.counts["sent"] = self._producer.delivered
        return not self._stopping()

    def _early(self, taken: int, began: float) -> bool:
        return self._rate is not None and taken > self._rate * (time.monotonic() - began)

    def _send(self, record: ReplayRecord) -> None:
        topic = self._topic or record.topic()
        if topic == self._dead_letters:
            topic = self._events
        with suppress(KafkaError):  # the producer remembers why, and the run ends
            self._producer.send(
                None, topic, record.value(), record.key(), headers=list(record.headers())
            )

"""Owns the end of records that cannot be indexed: a dead letter, or held by the circuit breaker.

The way of a rejected record:

    reject ──circuit closed──> letter written ──delivery confirmed──> settled as DEAD
           ──circuit open────> held, in flight ──due────────────────> tried again

A record is settled when the delivery of its letter is confirmed, never before.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.dead_letter_counts import Kind, add_counts
from llmlog_consumer.dead_letters.reasons import redact
from llmlog_consumer.dead_letters.writer import LetterWriter, PendingLetter
from llmlog_consumer.delivery.circuit_breaker import ALERT_SHARE, CircuitBreaker, Phase
from llmlog_consumer.outcomes import Outcome, Settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_consumer.dead_letters.cause import Cause
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")

MAX_KINDS: Final = 100
"""Kinds of dead letters that are counted each by itself."""

HeldRecord = tuple["Span", "KafkaRecord"]


class Rejects:
    """The records that cannot be indexed. The thread that runs the delivery owns it.

    Args:
        letters: writes the dead letters.
        settle: called for each record whose letter is delivered.
        breaker: decides whether a record is held.
        clock: monotonic seconds.

    Attributes:
        dead_letters: letters delivered, by fingerprint and stage.
    """

    def __init__(
        self,
        letters: LetterWriter,
        settle: Settle,
        breaker: CircuitBreaker[HeldRecord],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._letters = letters
        self._settle = settle
        self._breaker = breaker
        self._clock = clock
        self._throttled = ThrottledLog(log, clock)
        self.dead_letters: Counter[Kind] = Counter()

    @property
    def circuit_open(self) -> str:
        """Say why the circuit is open, and what to do; empty while it is closed."""
        if not self._breaker.open:
            return ""
        return (
            f"nearly every record fails with one cause, {self._breaker.cause}: "
            "fix it, or let it through with "
            f"`pipeline consume --accept {self._breaker.cause}`"
        )

    @property
    def refusal(self) -> str:
        """Say why the dead-letter topic refuses letters; empty while it does not."""
        return self._letters.refusal

    @property
    def pending(self) -> int:
        """Letters that are not delivered yet."""
        return self._letters.pending

    def poll(self) -> None:
        """Serve the delivery reports of letters."""
        self._letters.poll()

    def reject(
        self, phase: Phase, span: Span, record: KafkaRecord, size: int, cause: Cause
    ) -> None:
        """End a record that cannot be indexed, or hold it while the circuit is open.

        Args:
            phase: the phase in which it failed.
            span: the span that it belongs to.
            record: of Kafka.
            size: bytes of its value.
            cause: why.
        """
        was_open, fingerprint = self._breaker.open, cause.fingerprint
        is_held = self._breaker.record_failure(
            phase, fingerprint, _key(span, record), (span, record), self._clock()
        )
        if self._breaker.open and not was_open:
            log.error(
                "circuit breaker opened: records are held, none is lost",
                why=self.circuit_open,
                error=redact(cause.message)[:300],
            )
        if is_held:
            return
        kind = fingerprint, str(cause.stage)
        on_delivered = partial(self._on_letter_delivered, span, size, kind)
        self._letters.write(PendingLetter(record, cause, on_delivered))
        self._log_letter(record, cause, fingerprint)

    def record_success(self, phase: Phase, number: int) -> None:
        """Count records that passed a phase."""
        self._breaker.record_success(phase, number)

    def record_indexed(self, span: Span, record: KafkaRecord) -> None:
        """Count a record whose document exists now; an open circuit may close by it."""
        if self._breaker.open:
            self._breaker.record_indexed(_key(span, record), self._clock())

    def record_released(self, span: Span, record: KafkaRecord) -> None:
        """Drop a record that was released or is expired; it tells nothing about the cause."""
        self._breaker.record_released(_key(span, record), self._clock())

    def due(self) -> list[HeldRecord]:
        """Return the held records to try again now; those of released spans are dropped."""
        return self._breaker.due(self._clock(), _is_ours)

    def _on_letter_delivered(self, span: Span, size: int, kind: Kind) -> None:
        add_counts(self.dead_letters, {kind: 1}, MAX_KINDS)
        self._settle(span, Outcome.DEAD, 1, size)

    def _log_letter(self, record: KafkaRecord, cause: Cause, fingerprint: str) -> None:
        if self._throttled.is_due(fingerprint):
            self._throttled(
                logging.WARNING,
                fingerprint,
                "dead letter",
                stage=str(cause.stage),
                fingerprint=fingerprint,
                why=redact(cause.message)[:300],
                see=f"pipeline dlq list --fingerprint {fingerprint}",
                record=f"{record.topic()}/{record.partition()}/{record.offset()}",
            )
        if self._breaker.share > ALERT_SHARE:
            self._throttled(
                logging.WARNING,
                "share",
                "many records are rejected",
                share=f"{self._breaker.share:.1%}",
            )


def _is_ours(item: HeldRecord) -> bool:
    return not item[0].released


def _key(span: Span, record: KafkaRecord) -> tuple[int, int, int]:
    return span.generation, span.partition, record.offset()

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
from llmlog_consumer.delivery.circuit_breaker import (
    ALERT_SHARE,
    PROBE_RECORDS,
    CircuitBreaker,
    Phase,
)
from llmlog_consumer.outcomes import Outcome, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_consumer.dead_letters.cause import Cause
    from llmlog_consumer.delivery.clock_doubt import ClockDoubt
    from llmlog_consumer.delivery.pauses.held_records import HeldRecord
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")

MAX_KINDS: Final = 100
"""Kinds of dead letters that are counted each by itself."""


class Rejects:
    """The records that cannot be indexed. The thread that runs the delivery owns it.

    Args:
        letters: writes the dead letters.
        settle: called for each record whose letter is delivered.
        breaker: decides whether a record is held.
        clock: monotonic seconds.
        doubt: tells whether this host's clock may be why records fail; None to never tell.

    Attributes:
        dead_letters: letters delivered, by fingerprint and stage.
    """

    def __init__(
        self,
        letters: LetterWriter,
        settle: Settle,
        breaker: CircuitBreaker[HeldRecord],
        clock: Callable[[], float] = time.monotonic,
        doubt: ClockDoubt | None = None,
    ) -> None:
        self._letters = letters
        self._settle = settle
        self._breaker = breaker
        self._clock = clock
        self._doubt = doubt
        self._clock_doubt = ""  # while the circuit is open
        self._throttled = ThrottledLog(log, clock)
        self.dead_letters: Counter[Kind] = Counter()

    @property
    def circuit_open(self) -> str:
        """Say why records are held by an open circuit, and what to do; empty while none is."""
        if not self._breaker.open or not (self._breaker.held or self._breaker.probing):
            return ""
        return self._describe_circuit()

    @property
    def circuit(self) -> str:
        """The fingerprint that opened the circuit; empty while it is closed."""
        return self._breaker.cause

    @property
    def wanted(self) -> int:
        """New records that an open circuit takes in as its probe; 0 where it takes in none."""
        return self._breaker.wanted

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

    @property
    def is_probing(self) -> bool:
        """Tell whether an open circuit takes in records, or tries some, before it decides."""
        return bool(self._breaker.wanted or self._breaker.probing)

    def restore_circuit(self, cause: str) -> None:
        """Open the circuit for a cause that an earlier owner of a partition noted."""
        if self._breaker.restore(cause):
            log.warning(
                "circuit breaker is open, as an earlier owner of a partition left it: "
                "a few records are tried first",
                cause=cause,
                records=PROBE_RECORDS,
            )

    def forget_circuit(self) -> None:
        """Close the circuit without a probe: no partition is left here."""
        self._breaker.forget()

    def take_in(self, span: Span, records: Iterable[KafkaRecord]) -> None:
        """Make new records part of the probe, where an open circuit wants any."""
        if self._breaker.wanted:
            self._breaker.take_in((_key(span, record) for record in records), self._clock())

    def reject(
        self,
        phase: Phase,
        span: Span,
        record: KafkaRecord,
        size: int,
        cause: Cause,
        *,
        in_row: bool = True,
    ) -> None:
        """End a record that cannot be indexed, or hold it while the circuit is open.

        Args:
            phase: the phase in which it failed.
            span: the span that it belongs to.
            record: of Kafka.
            size: bytes of its value.
            cause: why.
            in_row: it counts for the breaker's row of one cause, and not for its share alone.
        """
        was_open, fingerprint = self._breaker.open, cause.fingerprint
        is_held = self._breaker.record_failure(
            phase, fingerprint, _key(span, record), (span, record), self._clock(), in_row=in_row
        )
        if self._breaker.open and self._doubt is not None and not self._clock_doubt:
            self._clock_doubt = self._doubt.describe(cause.stage, record)
        if self._breaker.open and not was_open:
            log.error(
                "circuit breaker opened: records are held, none is lost",
                why=self._describe_circuit(),
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
            self._log_if_closed()

    def record_released(self, span: Span, record: KafkaRecord) -> None:
        """Drop a record that was released or waits elsewhere: it tells nothing about the cause."""
        if self._breaker.open:
            self._breaker.record_released(_key(span, record), self._clock())
            self._log_if_closed()

    def due(self) -> list[HeldRecord]:
        """Return the held records to try again now; those of released spans are dropped."""
        was_open, due = self._breaker.open, self._breaker.due(self._clock(), _is_ours)
        if was_open:
            self._log_if_closed()
        return due

    def _describe_circuit(self) -> str:
        return (
            f"nearly every record fails with one cause, {self._breaker.cause}: "
            f"{self._clock_doubt or 'fix it'}, or let it through with "
            f"`pipeline consume --accept {self._breaker.cause}`"
        )

    def _log_if_closed(self) -> None:
        if not self._breaker.open:
            self._clock_doubt = ""
            log.info("circuit breaker closed: records go their way again")

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

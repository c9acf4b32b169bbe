"""Owns the end of records that die: the circuit_open breaker is asked, then a letter is written.

A record is settled when its letter's delivery is confirmed, never before. What the breaker
withholds stays in flight and is given back, to be tried again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.dead_letter_counts import Kind, add_counts
from llmlog_consumer.dead_letters.reasons import redacted
from llmlog_consumer.dead_letters.writer import LetterWriter, PendingLetter
from llmlog_consumer.delivery.circuit_breaker import ALERT, Breaker, Phase
from llmlog_consumer.outcomes import Outcome, Settle

if TYPE_CHECKING:
    from llmlog_consumer.dead_letters.cause import Cause
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")

MOST_CAUSES: Final = 100
"""Kinds of deaths that are counted each by itself."""


class Rejects:
    """What becomes of records that cannot be indexed.

    Args:
        letters: writes them.
        settle: told of each record whose letter is delivered.
        accepted: fingerprints that the circuit_open breaker lets through.

    Attributes:
        deaths: letters delivered, by fingerprint and stage.
    """

    def __init__(
        self, letters: LetterWriter, settle: Settle, accepted: frozenset[str] = frozenset()
    ) -> None:
        self._letters = letters
        self._settle = settle
        self._breaker: Breaker[tuple[Span, Any]] = Breaker(accepted)
        self._throttled = ThrottledLog(log)
        self.deaths: Counter[Kind] = Counter()

    @property
    def circuit_open(self) -> str:
        """Say why the breaker is open, and what to do; empty while it is closed."""
        if not self._breaker.open:
            return ""
        return (
            f"nearly everything dies of one cause, {self._breaker.cause}: "
            "mend it, or let it through with "
            f"`pipeline consume --accept {self._breaker.cause}`"
        )

    @property
    def refusal(self) -> str:
        """Say why the dead-letter topic takes nothing; empty while it does."""
        return self._letters.refusal

    @property
    def pending(self) -> int:
        """Letters that are not delivered yet."""
        return self._letters.pending

    def poll(self) -> None:
        """Serve the delivery reports of letters."""
        self._letters.poll()

    def reject(self, phase: Phase, span: Span, record: Any, size: int, cause: Cause) -> None:
        """Write a dead letter, unless so many die that the deployment must be at fault."""
        was_open, fingerprint = self._breaker.open, cause.fingerprint
        held = self._breaker.record_failure(
            phase, fingerprint, _key(span, record), (span, record), time.monotonic()
        )
        if self._breaker.open and not was_open:
            log.error("circuit breaker opened: records are held", why=self.circuit_open,
                      said=redacted(cause.said)[:300])  # fmt: skip
        if held:
            return

        def settled() -> None:
            add_counts(self.deaths, {(fingerprint, str(cause.stage)): 1}, MOST_CAUSES)
            self._settle(span, Outcome.DEAD, 1, size)

        self._letters.write(PendingLetter(record, cause, settled))
        if self._throttled.is_due(fingerprint):
            self._throttled(
                logging.WARNING,
                fingerprint,
                "dead letter",
                stage=str(cause.stage),
                fingerprint=fingerprint,
                why=redacted(cause.said)[:300],
                see=f"pipeline dlq list --fingerprint {fingerprint}",
                record=f"{record.topic()}/{record.partition()}/{record.offset()}",
            )
        if self._breaker.share > ALERT:
            self._throttled(
                logging.WARNING, "share", "many records die", share=f"{self._breaker.share:.1%}"
            )

    def record_success(self, phase: Phase, number: int) -> None:
        """Count records that a phase let through."""
        self._breaker.record_success(phase, number)

    def record_indexed(self, span: Span, record: Any) -> None:
        """Take note of one whose document is there: it tells an open breaker something."""
        if self._breaker.open:
            self._breaker.record_indexed(_key(span, record), time.monotonic())

    def record_released(self, span: Span, record: Any) -> None:
        """Take note of one that is released or expired: it tells nothing."""
        self._breaker.record_released(_key(span, record), time.monotonic())

    def due(self) -> list[tuple[Span, Any]]:
        """Return what the breaker gives back now, without what is no longer ours."""
        return self._breaker.due(time.monotonic(), _ours)


def _ours(item: tuple[Span, Any]) -> bool:
    return not item[0].released


def _key(span: Span, record: Any) -> tuple[int, int, int]:
    return span.generation, span.partition, record.offset()

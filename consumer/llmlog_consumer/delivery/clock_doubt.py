"""Owns the suspicion that this host's clock is wrong, by Kafka's timestamps of records. Pure.

A record that fails for its time alone tells nothing: the gateway's clock may be wrong, or the event
old. But where Kafka's timestamp of the record is as far from this host's clock as its event is, the
record was fresh when it was written, and two clocks that agree stand against one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.elasticsearch.index_names import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from llmlog_consumer.kafka_record import KafkaRecord

_STAGES: Final = (Stage.TRANSFORM, Stage.EXPIRED)
"""Where records fail for their time."""


@dataclass(frozen=True, slots=True)
class ClockDoubt:
    """The rule by which a failed record makes this host's clock suspicious.

    Attributes:
        host: this host's name.
        max_event_age: age above which an event is expired.
        clock: epoch seconds, of this host.
    """

    host: str
    max_event_age: timedelta
    clock: Callable[[], float] = time.time

    def describe(self, stage: Stage, record: KafkaRecord) -> str:
        """Say what contradicts the clock, and what to check; empty where nothing does.

        Args:
            stage: at which the record failed.
            record: of Kafka.
        """
        if stage not in _STAGES:
            return ""
        kind, written_ms = record.timestamp()
        if not kind or written_ms <= 0:
            return ""
        now_ms = self.clock() * 1000
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        if written_ms - now_ms > DAY_MS:
            days = (written_ms - now_ms) / DAY_MS
            return (
                f"check the clock of {self.host}: Kafka has the record {place} "
                f"from {days:.1f} days after it"
            )
        age_ms = now_ms - written_ms
        if stage is Stage.EXPIRED and age_ms > self.max_event_age.total_seconds() * 1000:
            return (
                f"check the clock of {self.host}: by it, Kafka has had the record {place} "
                f"for {age_ms / DAY_MS:.1f} days, longer than LLMLOG_MAX_EVENT_AGE"
            )
        return ""

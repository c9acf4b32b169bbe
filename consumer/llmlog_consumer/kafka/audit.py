"""Owns the audit topic: who opens contents and who replays, one record each, before it happens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import KafkaException

from llmlog_common.errors import KafkaError
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError as ClientError

    from llmlog_common.settings import Settings

CONFIRM_SECONDS: Final = 5.0
"""Time that the brokers have to confirm a record; without it the action is refused."""
_POLL_SECONDS: Final = 0.05


@dataclass(slots=True)
class _Report:
    """What the brokers said of one record."""

    is_done: bool = False
    refusal: str = ""


class AuditLog:
    """The writer of the audit topic. Any thread may call it.

    Args:
        settings: how to reach Kafka, and the topic's name.
        program: that acts: `console`, `dlq replay`.
        require: checks that the topic exists; default asks the broker.
        producer: sends records.
        clock: epoch seconds.
        confirm_seconds: time that the brokers have for one record.
    """

    def __init__(
        self,
        settings: Settings,
        program: str,
        *,
        require: Callable[[str], object] | None = None,
        producer: Callable[..., Any] = KafkaProducer,
        clock: Callable[[], float] = time.time,
        confirm_seconds: float = CONFIRM_SECONDS,
    ) -> None:
        self._settings = settings
        self._program = program
        self._require = require
        self._new_producer = producer
        self._clock = clock
        self._confirm_seconds = confirm_seconds
        self._lock = threading.Lock()  # guards what follows
        self._producer: Any = None

    def write(self, who: str, action: str, what: str, **details: Any) -> None:
        """Write a record, and wait until the brokers have confirmed it.

        Args:
            who: the person's name.
            action: `contents`, `search`, `replay`.
            what: that was acted on: an event id, coordinates, a filter.
            details: further values for the record.

        Raises:
            KafkaError: it is not written: the action must not be carried out.
            KafkaUnreachable: no broker answers: the same.
        """
        topic = self._settings.audit_topic
        value = orjson.dumps(
            {
                "at": iso(self._clock() * 1000, "milliseconds"),
                "who": who,
                "action": action,
                "what": what,
                "program": self._program,
                "group": self._settings.group,
                "topic": self._settings.topic,
                **details,
            }
        )
        with self._lock:
            if self._producer is None:
                # A topic that is missing would be waited for, or made by the broker.
                (self._require or self._ask_broker)(topic)
                self._producer = self._new_producer(self._settings, self._take_report)
            report = _Report()
            try:
                self._producer.try_send(report, topic, value, who)
                self._wait(report)
            except (BufferError, KafkaException) as error:
                report.refusal = str(error.args[0])
            if not report.is_done or report.refusal:
                # A client that holds a record back would deliver it later: no more than that one.
                self._producer = None
                why = report.refusal or f"no confirmation in {self._confirm_seconds:g} s"
                raise KafkaError(
                    f"the audit topic {topic} cannot be written, so this is refused: {why}; run "
                    "`pipeline setup`, or grant WRITE on it"
                )

    def _ask_broker(self, topic: str) -> None:
        KafkaAdmin(self._settings, patience_seconds=self._confirm_seconds).require(topic)

    def _wait(self, report: _Report) -> None:
        deadline = time.monotonic() + self._confirm_seconds
        while not report.is_done and time.monotonic() < deadline:
            self._producer.poll(_POLL_SECONDS)

    @staticmethod
    def _take_report(report: _Report, error: ClientError | None) -> None:
        report.is_done = True
        report.refusal = "" if error is None else error.str()

"""Owns the writing of dead letters: a letter counts once the brokers have confirmed it.

A letter that the topic refuses is kept and sent again, for as long as the refusal lasts. A client
that Kafka has refused for good is replaced after a while: no WRITE on any topic is such a refusal.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letters.headers import PREFIX, TRUNCATED_KEY_BYTES, build_headers
from llmlog_consumer.kafka.errors import is_fatal
from llmlog_consumer.kafka.producer import KafkaProducer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.cause import Cause
    from llmlog_consumer.kafka_record import KafkaRecord

log = structlog.get_logger("llmlog.letters")

TRUNCATED_BYTES: Final = 64 * 1024
"""What is left of the value of a letter that the topic refuses for its size."""

_MAX_TRUNCATIONS: Final = 2
_RETRY: Final = Backoff(first_seconds=0.5, max_seconds=30.0)
_NEW_CLIENT: Final = Backoff(first_seconds=1.0, max_seconds=10.0)
_FORBIDDEN: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


@dataclass(slots=True, eq=False)
class PendingLetter:
    """A record on its way to the dead-letter topic.

    Attributes:
        record: the source record.
        cause: why it failed.
        on_delivered: called once, when the brokers have confirmed the letter.
        truncations: how often the topic refused the letter for its size. The first one truncates
            the value, the second one key and headers.
        attempts: refused so far, for other reasons than the size.
        not_before: monotonic seconds of the next attempt.
    """

    record: KafkaRecord
    cause: Cause
    on_delivered: Callable[[], None]
    truncations: int = 0
    attempts: int = 0
    not_before: float = 0.0


class LetterWriter:
    """Writes each letter to the partition that has the number of its source's partition.

    The worker's thread alone uses it.

    Args:
        settings: topic names and Kafka properties.
        partitions: of the dead-letter topic.
        client: makes the client's producer.
        clock: monotonic seconds.

    Attributes:
        refusal: why the topic refuses letters now; empty while it accepts them.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        *,
        client: Callable[..., Any] = Producer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._clock = clock
        self._producer: KafkaProducer[PendingLetter] = KafkaProducer(
            settings, self._on_report, client=client
        )
        self._waiting: list[PendingLetter] = []
        self._throttled = ThrottledLog(log)
        self._broken_clients = 0  # in a row
        self._new_client_at: float | None = None
        self.refusal = ""

    @property
    def pending(self) -> int:
        """Return the number of letters that are not confirmed."""
        return self._producer.unconfirmed + len(self._waiting)

    def write(self, letter: PendingLetter) -> None:
        """Send a letter; a later `poll` calls its `on_delivered`."""
        if self._new_client_at is not None:
            self._waiting.append(letter)
            return
        try:
            self._send(letter)
        except BufferError:
            self._waiting.append(letter)
        except KafkaException as error:
            self._retry(letter, error.args[0])

    def poll(self) -> None:
        """Receive reports, and send the letters again that are due; never waits."""
        if self._new_client_at is not None:
            if self._clock() < self._new_client_at:
                return
            self._replace_client()
        try:
            self._producer.poll()
        except KafkaException as error:
            self._refuse(error.args[0])
        if self._waiting:
            now = self._clock()
            due = [letter for letter in self._waiting if letter.not_before <= now]
            self._waiting = [letter for letter in self._waiting if letter.not_before > now]
            for letter in due:
                self.write(letter)

    def _send(self, letter: PendingLetter) -> None:
        record = letter.record
        if letter.truncations:  # a mended record stands on no topic: its original does
            record = getattr(record, "unmended", None) or record
        key, value = record.key(), record.value()
        headers = build_headers(record, letter.cause, group=self._settings.group)
        if letter.truncations and value is not None:
            headers += [
                (f"{PREFIX}truncated.length", str(len(value)).encode()),
                (f"{PREFIX}truncated.sha256", hashlib.sha256(value).hexdigest().encode()),
            ]
            value = value[:TRUNCATED_BYTES]
        if letter.truncations > 1:
            headers = [header for header in headers if header[0].startswith(PREFIX)]
            key = key[:TRUNCATED_KEY_BYTES] if key else key
        self._producer.try_send(
            letter,
            self._settings.dlq_topic,
            value,
            key,
            headers=headers,
            partition=letter.record.partition() % self._partitions,
        )

    def _on_report(self, letter: PendingLetter, error: KafkaError | None) -> None:
        if error is not None:
            self._retry(letter, error)
            return
        self._broken_clients = 0
        if self.refusal:
            self.refusal = ""
            for waiting in self._waiting:  # the topic may accept these too
                waiting.not_before = 0.0
        letter.on_delivered()

    def _retry(self, letter: PendingLetter, error: KafkaError) -> None:
        """Keep a refused letter for another attempt."""
        is_too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        if is_too_large and letter.truncations < _MAX_TRUNCATIONS:
            letter.truncations += 1
            self._waiting.append(letter)
            return
        letter.attempts += 1
        letter.not_before = self._clock() + _RETRY.delay(letter.attempts)
        self._waiting.append(letter)
        self._refuse(error)

    def _refuse(self, error: KafkaError) -> None:
        """Say that the topic takes nothing; plan a new client where this one is of no use."""
        advice = ": grant WRITE on it" if error.code() in _FORBIDDEN else ""
        if not (self.refusal and error.code() == KafkaError._FATAL):  # noqa: SLF001 - the cause is known
            self.refusal = f"{self._settings.dlq_topic}: {error.str()}{advice}"
        self._throttled(
            logging.ERROR,
            "refusal",
            "dead-letter topic refuses letters, they are kept and sent again",
            why=self.refusal,
        )
        if is_fatal(error) and self._new_client_at is None:
            self._broken_clients += 1
            self._new_client_at = self._clock() + _NEW_CLIENT.delay(self._broken_clients)

    def _replace_client(self) -> None:
        self._new_client_at = None
        unconfirmed = self._producer.rebuild()
        log.warning("producer of dead letters replaced", unconfirmed=len(unconfirmed))
        self._waiting += unconfirmed
        for letter in self._waiting:
            letter.not_before = 0.0

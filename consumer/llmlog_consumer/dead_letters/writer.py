"""Owns the producer of the dead-letter topic: a letter counts when its delivery is confirmed.

A letter that cannot be delivered is held and sent again for as long as it takes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from llmlog_common.kafka_clients import new_client, producer_config
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letters.cause import PREFIX, TRUNCATED_KEY_BYTES, Cause, headers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

log = structlog.get_logger("llmlog.letters")

TRUNCATED_BYTES: Final = 64 * 1024
"""What is kept of the value of a letter that the topic refuses for its size."""

_MOST_CUTS: Final = 2
_RETRY: Final = Backoff(first=0.5, longest=30.0)


@dataclass(slots=True, eq=False)
class PendingLetter:
    """A record on its way to the dead-letter topic.

    Attributes:
        record: the source message.
        cause: why it died.
        settled: called once, when the letter is delivered.
        cuts: how often the topic refused it for its size: first the value is cut, then key and
            headers.
    """

    record: Any
    cause: Cause
    settled: Callable[[], None]
    cuts: int = 0
    attempts: int = 0
    not_before: float = 0.0


class LetterWriter:
    """Writes letters beside the partition that they came from.

    Args:
        settings: topic names and Kafka properties.
        partitions: of the dead-letter topic.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._partitions = partitions
        self._producer = self._new_producer()
        self._sent: set[PendingLetter] = set()
        self._waiting: list[PendingLetter] = []
        self._throttled = ThrottledLog(log)
        self.refusal = ""
        """Why the topic takes no letters now; empty while it does."""

    @property
    def pending(self) -> int:
        """Letters not yet confirmed."""
        return len(self._sent) + len(self._waiting)

    def write(self, letter: PendingLetter) -> None:
        """Send a letter; its `settled` is called from `poll` once it is delivered."""
        try:
            self._produce(letter)
        except BufferError:
            self._waiting.append(letter)
        except KafkaException as error:
            self._failed(letter, error.args[0])

    def poll(self) -> None:
        """Take delivery reports and send again what is due; never waits."""
        self._producer.poll(0)
        if self._waiting:
            now = time.monotonic()
            due = [letter for letter in self._waiting if letter.not_before <= now]
            self._waiting = [letter for letter in self._waiting if letter.not_before > now]
            for letter in due:
                self.write(letter)

    def _produce(self, letter: PendingLetter) -> None:
        key, value = letter.record.key(), letter.record.value()
        headers = headers_of(letter.record, letter.cause, group=self._settings.group)
        if letter.cuts and value is not None:
            headers += [
                (f"{PREFIX}truncated.length", str(len(value)).encode()),
                (f"{PREFIX}truncated.sha256", hashlib.sha256(value).hexdigest().encode()),
            ]
            value = value[:TRUNCATED_BYTES]
        if letter.cuts > 1:
            headers = [header for header in headers if header[0].startswith(PREFIX)]
            key = key[:TRUNCATED_KEY_BYTES] if key else key
        self._producer.produce(
            self._settings.dlq_topic,
            key=key,
            value=value,
            headers=headers,
            partition=letter.record.partition() % self._partitions,
            on_delivery=partial(self._reported, letter),
        )
        self._sent.add(letter)

    def _reported(self, letter: PendingLetter, error: KafkaError | None, _message: Any) -> None:
        if letter not in self._sent:
            return  # sent again by a new producer; its own report counts
        self._sent.discard(letter)
        if error is not None:
            self._failed(letter, error)
            return
        if self.refusal:
            self.refusal = ""
            for waiting in self._waiting:  # what one letter passes, the others may pass too
                waiting.not_before = 0.0
        letter.settled()

    def _failed(self, letter: PendingLetter, error: KafkaError) -> None:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and letter.cuts < _MOST_CUTS:
            letter.cuts += 1
            self._waiting.append(letter)
            return
        letter.attempts += 1
        letter.not_before = time.monotonic() + _RETRY.delay(letter.attempts)
        self._waiting.append(letter)
        self.refusal = f"{self._settings.dlq_topic}: {error.str()}"
        self._throttled(
            logging.ERROR,
            "refusal",
            "dead-letter topic refuses letters, they are held",
            why=self.refusal,
        )
        if error.fatal():
            self._start_over()

    def _start_over(self) -> None:
        """Replace a producer that is beyond recovery; send again what it had not confirmed."""
        log.warning("dead-letter producer is replaced", unconfirmed=len(self._sent))
        self._waiting += self._sent
        self._sent = set()
        self._producer = self._new_producer()

    def _new_producer(self) -> Producer:
        return new_client(Producer, producer_config(self._settings))

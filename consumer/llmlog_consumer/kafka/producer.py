"""Owns the Kafka producer of the consumer's side: of `produce`, of `replay`, and of the letters.

produce, replay    `send` waits for room, `finish` waits for the confirmations
letters            `try_send` never waits, and `rebuild` returns what a dead client had left
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Producer

from llmlog_common.errors import KafkaError
from llmlog_common.kafka_clients import Reasons, new_client, producer_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

FLUSH_SECONDS: Final = 60.0
"""Time that `finish` waits for the brokers' confirmations."""

_FULL_QUEUE_SECONDS: Final = 0.1
"""Wait for room in the client's queue, before the next attempt."""

_ANY_PARTITION: Final = -1

_NO_RIGHT: Final = frozenset(
    {ClientError.TOPIC_AUTHORIZATION_FAILED, ClientError.CLUSTER_AUTHORIZATION_FAILED}
)

T = TypeVar("T")


class KafkaProducer(Generic[T]):
    """A producer that knows of each record whether the brokers have confirmed it.

    One thread uses it. Reports arrive within `poll`, `send` and `finish`, on that thread.

    Args:
        settings: how to reach Kafka.
        on_report: is called once for each record: with the caller's item, and the error or None.
            After a `rebuild` it is not called any more for the records that were sent before.
        client: makes the client's producer.

    Attributes:
        delivered: number of confirmed records.
        refusal: why the last record that failed was refused; empty where none failed.

    Raises:
        ConfigurationError: librdkafka does not know a property or its value.
    """

    def __init__(
        self,
        settings: Settings,
        on_report: Callable[[T, ClientError | None], None] | None = None,
        *,
        client: Callable[..., Any] = Producer,
    ) -> None:
        self._settings = settings
        self._on_report = on_report
        self._client_class = client
        self._producer = self._new_client()
        self._sent = 0
        self._unconfirmed: dict[int, T] = {}
        self.delivered = 0
        self.refusal = ""

    @property
    def unconfirmed(self) -> int:
        """Return the number of records that the brokers have neither confirmed nor refused."""
        return len(self._unconfirmed)

    def try_send(
        self,
        item: T,
        topic: str,
        value: bytes | None,
        key: bytes | str | None,
        *,
        headers: list[tuple[str, Any]] | None = None,
        partition: int = _ANY_PARTITION,
    ) -> None:
        """Give a record to the client, without waiting.

        Args:
            item: given back with the report.
            topic: to write to.
            value: None for a tombstone.
            key: None for a record without a key.
            headers: in their order.
            partition: by default the client's partitioner decides.

        Raises:
            BufferError: the client's queue is full.
            KafkaException: the client refuses the record; there is no report.
        """
        self._sent += 1
        number = self._sent
        self._unconfirmed[number] = item
        try:
            self._producer.produce(
                topic,
                value=value,
                key=key,
                headers=headers or [],
                partition=partition,
                on_delivery=partial(self._report, number),
            )
        except (BufferError, KafkaException):
            del self._unconfirmed[number]
            raise

    def send(
        self,
        item: T,
        topic: str,
        value: bytes | None,
        key: bytes | str | None,
        *,
        headers: list[tuple[str, Any]] | None = None,
    ) -> None:
        """Give a record to the client; waits while the client's queue is full.

        Args:
            item: given back with the report.
            topic: to write to.
            value: None for a tombstone.
            key: None for a record without a key.
            headers: in their order.

        Raises:
            KafkaError: the client refuses the record.
        """
        while True:
            try:
                self.try_send(item, topic, value, key, headers=headers)
            except BufferError:
                self.poll(_FULL_QUEUE_SECONDS)
            except KafkaException as error:
                raise self._refused(topic, error) from None
            else:
                break
        try:
            self.poll()
        except KafkaException as error:  # a fatal one may be reported nowhere else
            raise self._refused(topic, error) from None

    def poll(self, seconds: float = 0.0) -> None:
        """Receive reports; wait up to this time for a first one."""
        self._producer.poll(seconds)

    def finish(self, records: str) -> None:
        """Wait until the brokers have confirmed everything.

        Args:
            records: what they are called in the error's text: `events`.

        Raises:
            KafkaError: a record was refused, or not confirmed in time.
        """
        try:
            left = self._producer.flush(FLUSH_SECONDS)
        except KafkaException as error:  # a fatal one may be reported nowhere else
            left, self.refusal = 1, self.refusal or _why(error.args[0])
        if left or self.refusal:
            why = self.refusal or self._reasons.text() or "no answer in time"
            raise KafkaError(
                f"{self.delivered} {records} sent, the others not ({why}): run it again"
            )

    def rebuild(self) -> list[T]:
        """Replace the client after a fatal error.

        Returns:
            The items of the records that the old client had not confirmed, oldest first.
        """
        unconfirmed = list(self._unconfirmed.values())
        self._unconfirmed = {}
        self._producer = self._new_client()
        return unconfirmed

    def _new_client(self) -> Any:
        self._reasons = Reasons()
        config = producer_config(self._settings) | {"error_cb": self._reasons}
        return new_client(self._client_class, config)

    def _refused(self, topic: str, error: KafkaException) -> KafkaError:
        self.refusal = f"{topic}: {_why(error.args[0])}"
        return KafkaError(self.refusal)

    def _report(self, number: int, error: ClientError | None, _message: object) -> None:
        if number not in self._unconfirmed:
            return  # of a client that was replaced
        item = self._unconfirmed.pop(number)
        if error is None:
            self.delivered += 1
        else:
            self.refusal = _why(error)
        if self._on_report is not None:
            self._on_report(item, error)


def _why(error: ClientError) -> str:
    """Return the client's own reason, with the right that is missing."""
    return f"{error.str()}: grant WRITE on it" if error.code() in _NO_RIGHT else str(error.str())

"""Owns the Kafka client of the gateway: made anew after fatal errors, one callback an event."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
)

from llmlog_common.kafka_clients import admin_config, new_client, producer_config
from llmlog_producer.sending.partitioner import BurstPartitioner

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_producer.events.build import EncodedEvent


_BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of `batch.size`."""
_BATCH_OVERHEAD: Final = 512


class KafkaProducer:
    """A librdkafka producer; used by one thread, except that another may look for the topic.

    Args:
        settings: as loaded.
        on_report: told the outcome of each event, from within `poll`.

    Attributes:
        broken: a fatal error: nothing goes any more until `rebuild`.
        down: no broker answers.

    Raises:
        ConfigurationError: librdkafka does not know a property, or not its value.
    """

    def __init__(
        self,
        settings: Settings,
        on_report: Callable[[EncodedEvent, KafkaError | None], None],
        on_error: Callable[[KafkaError], None],
    ) -> None:
        self._settings = settings
        self._topic = settings.topic
        self._on_report = on_report
        self._on_error = on_error
        self._config = {**producer_config(settings), "error_cb": self._error}
        self.broken = False
        self.down = False
        self._generation = 0
        self._partitions = BurstPartitioner()
        self._producer = self._new()

    def _new(self) -> Any:
        return new_client(Producer, self._config)

    def topic_exists(self, timeout: float, *, known: bool) -> bool:
        """Look the topic up, and take note of how many partitions it has.

        Args:
            timeout: seconds.
            known: it was found before, and is asked for by its name. Until then that could create
                it; but all topics of a large cluster would be too much every few minutes.

        Raises:
            KafkaException: no broker answers.
        """
        topics = self._producer.list_topics(self._topic if known else None, timeout).topics
        found = topics.get(self._topic)
        if "partitioner" not in self._config:  # a user has decided
            self._partitions.count = len(found.partitions) if found else 0
        return found is not None

    def max_message_bytes(self, timeout: float) -> int | None:
        """Ask for the topic's bound; None where we may not know it."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
        try:
            admin = new_client(AdminClient, admin_config(self._settings))
            answer = admin.describe_configs([resource], request_timeout=timeout)[resource]
            return int(answer.result(timeout + 1.0)["max.message.bytes"].value)
        except Exception:  # noqa: BLE001 - not allowed, too old, too slow: a refusal tells it too
            return None

    def limit_batches(self, topic_bytes: int) -> None:
        """Have no batch larger than the topic takes: all events of one are refused together.

        Called before anything is sent.
        """
        most = max(1, topic_bytes - _BATCH_OVERHEAD)
        try:
            now = int(str(self._config.get("batch.size", _BATCH_BYTES)), 0)  # `0x80000` too
        except ValueError:  # librdkafka reads more than Python does
            now = most + 1
        if most < now:
            self._config["batch.size"] = most
            self.rebuild()

    def produce(self, item: EncodedEvent, value: bytes) -> None:
        """Hand one event over.

        Raises:
            BufferError: the client's own queue is full.
            KafkaException: it will not take this event.
        """
        report = functools.partial(self._report, item, self._generation)
        partition = self._partitions.take(len(value), time.monotonic())
        try:
            self._producer.produce(
                self._topic, value=value, key=item.key, partition=partition, on_delivery=report
            )
        except KafkaException as refused:
            if refused.args[0].code() == KafkaError._UNKNOWN_PARTITION:  # noqa: SLF001 - public
                self._partitions.count = 0  # a topic made anew has fewer
            raise

    def poll(self, timeout: float) -> None:
        """Serve reports and errors; wait for the first of them for `timeout` seconds."""
        self._producer.poll(timeout)

    def purge(self) -> None:
        """Forget what was handed over and is not sent yet; it will not be reported."""
        self._generation += 1
        self._producer.purge()

    def rebuild(self) -> None:
        """Replace the client after a fatal error; what it had will not be reported."""
        new = self._new()
        self.purge()
        self._producer = new
        self.broken = False

    def _report(
        self, item: EncodedEvent, generation: int, error: KafkaError | None, message: Any
    ) -> None:
        del message
        if generation != self._generation:
            return
        if error is None:
            self.down = False
        elif error.fatal():
            self.broken = True
        self._on_report(item, error)

    def _error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - their public name
            self.down = True
        if error.fatal():
            self.broken = True
        self._on_error(error)

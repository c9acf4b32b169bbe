"""Owns the Kafka client of the gateway, which is replaced after a fatal error."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
)

from llmlog_common.kafka_clients import admin_config, new_client, producer_config
from llmlog_common.renewal import Renewal
from llmlog_producer.sending.partitioner import BurstPartitioner
from llmlog_producer.sending.refusals import NO_TOPIC, is_fatal

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_producer.events.build import EncodedEvent


_DEFAULT_BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of `batch.size`."""
_BATCH_OVERHEAD_BYTES: Final = 512


class KafkaProducer:
    """A librdkafka producer with one delivery report for each event.

    The sending thread calls it. The thread of the topic's lookup calls `topic_exists`,
    `max_message_bytes`, `limit_batches` and `mark_up`; `limit_batches` before anything is sent.
    Once a fatal error is known, from whichever call, nothing is sent until `rebuild`.

    Args:
        settings: as loaded.
        on_report: called within `poll` with each event and its error, or None.
        on_error: called within `poll` with the client's own errors.
        create: creates a client of a class, with its configuration.

    Attributes:
        broken: there was a fatal error. The sending thread writes it, all read it.
        partitions: of the topic, and which of them take events.
        down: no broker answers. The sending thread and the topic's lookup write it, all read it.

    Raises:
        ConfigurationError: librdkafka does not know a property, or not its value.
    """

    def __init__(
        self,
        settings: Settings,
        on_report: Callable[[EncodedEvent, KafkaError | None], None],
        on_error: Callable[[KafkaError], None],
        *,
        create: Callable[..., Any] = new_client,
    ) -> None:
        self._settings = settings
        self._topic = settings.topic
        self._on_report = on_report
        self._on_error = on_error
        self._create = create
        self._config = {**producer_config(settings), "error_cb": self._on_client_error}
        self.broken = False
        self.down = False
        self._generation = 0  # reports of an earlier one are ignored
        self.partitions = BurstPartitioner(is_by_key="partitioner" in self._config)
        self._renewal = Renewal(settings, "kafka_", 0.0)
        self._producer = self._new_producer()

    @property
    def is_outdated(self) -> bool:
        """Tell whether a certificate, a key or a secret has changed that the client read once."""
        return self._renewal.are_certificates_new

    @property
    def batch_bytes(self) -> int | None:
        """The bound of a batch; None for a user's own value that Python cannot read."""
        try:
            return int(str(self._config.get("batch.size", _DEFAULT_BATCH_BYTES)), 0)  # `0x80000`
        except ValueError:
            return None

    def _new_producer(self) -> Any:
        return self._create(Producer, self._config)

    def topic_exists(self, timeout: float, *, known: bool) -> bool:
        """Look the topic up, count its partitions, and note which of them have no leader.

        Args:
            timeout: seconds.
            known: it was found before: ask for it by its name. A first request by name could create
                the topic; later on a large cluster's list of all topics would cost too much.

        Raises:
            KafkaException: no broker answers, or the topic may not be seen.
        """
        topics = self._producer.list_topics(self._topic if known else None, timeout).topics
        topic = topics.get(self._topic)
        if topic is not None and not topic.partitions and topic.error is not None:
            if topic.error.code() not in NO_TOPIC:
                raise KafkaException(topic.error)
            topic = None
        found = topic.partitions if topic is not None else {}
        self.partitions.partition_count = len(found)
        self.partitions.leaderless = frozenset(n for n, one in found.items() if one.leader < 0)
        return topic is not None

    def max_message_bytes(self, timeout: float) -> int | None:
        """Return the topic's bound of a record; None where the broker does not tell it."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
        try:
            admin = self._create(AdminClient, admin_config(self._settings))
            future = admin.describe_configs([resource], request_timeout=timeout)[resource]
            return int(future.result(timeout + 1.0)["max.message.bytes"].value)
        except Exception:  # noqa: BLE001 - not allowed, too old, too slow: a refusal will tell
            return None

    def limit_batches(self, topic_bytes: int) -> None:
        """Lower the bound of a batch to what the topic takes: a batch is refused as a whole.

        To be called before anything is sent: the client is replaced.
        """
        most = max(1, topic_bytes - _BATCH_OVERHEAD_BYTES)
        current = self.batch_bytes
        if current is None or most < current:
            self._config["batch.size"] = most
            self.rebuild()

    def mark_up(self) -> None:
        """Take note that brokers answer."""
        self.down = False

    def produce(self, event: EncodedEvent, value: bytes, partition: int) -> None:
        """Hand one event to the client.

        Raises:
            BufferError: the client's own queue is full.
            KafkaException: the client does not take this event.
        """
        report = functools.partial(self._report, event, self._generation)
        try:
            self._producer.produce(
                self._topic, value=value, key=event.key, partition=partition, on_delivery=report
            )
        except KafkaException as refusal:
            error = refusal.args[0]
            self.broken = self.broken or is_fatal(error)
            if error.code() == KafkaError._UNKNOWN_PARTITION:  # noqa: SLF001 - public
                self.partitions.forget()  # the topic was recreated with fewer
            raise

    def poll(self, timeout: float) -> None:
        """Call back reports and errors; wait for the first of them for `timeout` seconds."""
        try:
            self._producer.poll(timeout)
        except KafkaException as error:  # a fatal one may be reported nowhere else
            self._on_client_error(error.args[0])

    def purge(self) -> None:
        """Forget the events that are not acknowledged; they are not reported any more."""
        self._generation += 1
        self._producer.purge()

    def rebuild(self) -> None:
        """Replace the client, with its files as they are now; events of the old one are forgotten.

        Raises:
            ConfigurationError: a file that it needs cannot be used now.
        """
        renewed = self._renewal.renew()
        if new_settings := renewed.settings:
            bound = self._config.get("batch.size")
            self._settings = new_settings
            self._config = {**producer_config(new_settings), "error_cb": self._on_client_error}
            if bound is not None:
                self._config["batch.size"] = bound
        new = self._new_producer()
        self._renewal.accept(renewed)
        self.purge()
        self._producer = new
        self.broken = False

    def _report(
        self, event: EncodedEvent, generation: int, error: KafkaError | None, _message: object
    ) -> None:
        if generation != self._generation:
            return
        if error is None:
            self.down = False
        elif is_fatal(error):
            self.broken = True
        self._on_report(event, error)

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - their public name
            self.down = True
        if is_fatal(error):
            self.broken = True
        self._on_error(error)

"""Owns a connection to the Kafka cluster: who answers, who refuses, and for what reason."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from llmlog_common.errors import ConfigurationError, KafkaError, KafkaUnreachable
from llmlog_common.kafka_clients import admin_config, new_client
from llmlog_common.listener_probe import describe_alert, describe_mismatch
from llmlog_common.renewal import Renewal
from llmlog_consumer.kafka.errors import CONNECTION, CREDENTIALS, MOVING, NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

REQUEST_SECONDS: Final = 10.0
"""Time that the cluster has to answer one request."""

LOOK_SECONDS: Final = 1.0
"""Time after which the client's own reason is looked at, while no broker answers."""

POLL_SECONDS: Final = 0.05
MOVING_SECONDS: Final = 0.1
"""Time between two questions while a leader or a coordinator moves."""

T = TypeVar("T")


class KafkaConnection:
    """One admin client, and the errors of its cluster as this project's.

    Args:
        settings: how to reach Kafka.
        client: makes the connection.
        patience_seconds: time for a first answer of any broker.

    Attributes:
        settings: how to reach Kafka.
        client: the admin client.
        on_trouble: called with the client's reason as long as no broker answers, each second.

    Raises:
        ConfigurationError: librdkafka does not know a property.
    """

    def __init__(
        self,
        settings: Settings,
        client: Callable[..., Any] = AdminClient,
        patience_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.settings = settings
        self._patience = patience_seconds
        # Written in `_on_error`, which runs within the client's `poll`.
        self._refusal = ""
        self._trouble = ""
        self._is_probed = False
        self.on_trouble: Callable[[str], object] = str
        self._renewal = Renewal(settings, "kafka_", 0.0)
        self._new_client = client
        self.client = self._connect()

    def _connect(self) -> Any:
        config = admin_config(self.settings) | {"error_cb": self.on_error}
        return new_client(self._new_client, config)

    def _renew(self) -> None:
        """Replace the client where a certificate that it has read has changed."""
        if not self._renewal.are_certificates_new:
            return
        renewed = self._renewal.renew()
        self.settings = renewed.settings or self.settings
        try:
            self.client = self._connect()
        except ConfigurationError:  # a file that is half written; the next call tries again
            return
        self._renewal.accept(renewed)
        self._refusal, self._is_probed = "", False

    @property
    def where(self) -> str:
        """Return the addresses of the brokers."""
        return self.settings.kafka_bootstrap_servers

    def list_topics(self) -> Any:
        """Return the metadata; say why there is none before the time is over."""
        self._renew()
        deadline = time.monotonic() + self._patience
        seconds = LOOK_SECONDS
        while True:
            try:
                return self.client.list_topics(timeout=seconds)
            except KafkaException as error:
                self.client.poll(POLL_SECONDS)
                if error.args[0].code() not in NO_ANSWER or self._refusal:
                    raise
                self.on_trouble(self._describe_silence(error.args[0]))
                if not self._is_probed:
                    self._is_probed = True
                    self._refusal = self._describe_mismatch()
                if self._refusal or time.monotonic() >= deadline:
                    raise
                # A broker that is slow, and not away, has the rest of the time for one answer.
                left = deadline - time.monotonic()
                seconds = LOOK_SECONDS if self._trouble else max(LOOK_SECONDS, left)

    def _describe_mismatch(self) -> str:
        protocol = self.settings.admin_properties().get("security.protocol", "plaintext")
        return describe_mismatch(self.where, str(protocol))

    def _describe_silence(self, error: ClientError) -> str:
        return f"Kafka at {self.where} does not answer: {self._trouble or error.str()}"

    def ask(self, question: Callable[[], T], group: str = "") -> T:
        """Return the answer to a question; ask again while a leader or a coordinator moves.

        Args:
            question: asks the cluster, each time that it is called; any client of this cluster.
            group: that the question is about, for the error's text.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        deadline = time.monotonic() + self._patience

        def ask_again() -> T:
            while True:
                try:
                    return question()
                except KafkaException as error:
                    if error.args[0].code() not in MOVING or time.monotonic() >= deadline:
                        raise
                time.sleep(MOVING_SECONDS)

        return self.call(ask_again, group)

    def call(self, request: Callable[[], T], group: str = "") -> T:
        """Return what a request returns, with the client's exceptions as this project's errors.

        Args:
            request: asks the cluster; any client of this cluster.
            group: that the request is about, for the error's text.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        try:
            return request()
        except KafkaException as error:
            self.client.poll(0)
            code = error.args[0].code()
            if self._refusal:
                raise KafkaError(
                    f"Kafka at {self.where} refuses the connection: {self._refusal}"
                ) from None
            if code in NO_ANSWER:
                raise KafkaUnreachable(self._describe_silence(error.args[0])) from None
            about = f"group {group}: " if group else ""
            raise KafkaError(f"Kafka at {self.where}: {about}{error.args[0].str()}") from None

    def on_error(self, error: ClientError) -> None:
        """Keep a client's reason: of this connection's, or of another client of the cluster."""
        if error.code() in CREDENTIALS:
            self._refusal = error.str()
        elif advice := describe_alert(error.str()):
            self._refusal = f"{error.str()} ({advice})"
        elif error.code() in CONNECTION:
            self._trouble = error.str()

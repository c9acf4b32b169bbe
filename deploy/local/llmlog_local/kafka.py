"""Owns the handle of a Kafka server: one KRaft node that is broker and controller."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from llmlog_local import jars
from llmlog_local.errors import KafkaStartError, LocalStackError
from llmlog_local.ports import HOST, free_ports
from llmlog_local.server import LOGGING, Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLUSTER_ID = "bGxtbG9nLWxvY2FsLTAwMQ"  # KRaft requires 22 characters

_silent_logger = logging.getLogger("llmlog_local.kafka.client")
_silent_logger.addHandler(logging.NullHandler())
_silent_logger.propagate = False


class KafkaServer(Server):
    """A real Kafka broker on 127.0.0.1.

    Args:
        folder: Its data, configuration and log.
        port: The plaintext listener.
        heap: The Java heap.
        properties: Further or different broker properties.
    """

    name: ClassVar[str] = "kafka"
    start_error: ClassVar[type[LocalStackError]] = KafkaStartError

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        heap: str = "384m",
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port, version=jars.KAFKA_VERSION, heap=heap)
        self.lock_file = jars.KAFKA_LOCK
        self.properties = dict(properties or {})

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"

    def _prepare(self) -> list[str]:
        (controller,) = free_ports(1)
        lines = [f"{key}={value}" for key, value in self._configuration(controller).items()]
        (self.folder / "server.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        classpath = [str(jar) for jar in jars.classpath(self.lock_file)]
        (self.folder / "classpath").write_text("\n".join(classpath), encoding="utf-8")
        return ["llmlog_local.kafka_node", "--heap", self.heap, "--cluster-id", CLUSTER_ID]

    def _configuration(self, controller: int) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": "data",  # relative to the process's folder, whose path may hold commas
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # One node needs no 50 partitions for its offsets. A short session lets a killed node
            # restart sooner.
            "offsets.topic.num.partitions": "4",
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self.properties,
        }

    def _is_ready(self) -> bool:
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "error_cb": lambda _: None,
        }
        admin = AdminClient(settings, logger=_silent_logger)
        try:
            metadata = admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return self.running and metadata.cluster_id == CLUSTER_ID and bool(metadata.brokers)

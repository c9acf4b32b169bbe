"""Owns the handle of a Kafka server: one KRaft node that is broker and controller."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from llmlog_local import jars
from llmlog_local.errors import KafkaStartError, LocalStackError
from llmlog_local.ports import HOST, free_ports
from llmlog_local.security import ADMIN, SERVER
from llmlog_local.server import LOGGING, Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_local.security import Security

_GRANT_SECONDS = 30.0
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
        security: Users, certificates and rights: `port` is for SASL over TLS then, no other takes
            anything but TLS.
        tls_port: For client certificates, where there is security; a free one at each start if
            None.
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
        security: Security | None = None,
        tls_port: int | None = None,
    ) -> None:
        super().__init__(folder, port, version=jars.KAFKA_VERSION, heap=heap)
        self.lock_file = jars.KAFKA_LOCK
        self.properties = dict(properties or {})
        self.security = security
        self.tls_port = tls_port

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
        if self.security is not None:
            # A file, because all users of the machine see the words of a command.
            users = {user: self.security.password(user) for user in self.security.users}
            path = self.folder / "users.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(users), encoding="utf-8")
        return ["llmlog_local.nodes.kafka", "--heap", self.heap, "--cluster-id", CLUSTER_ID]

    def _configuration(self, controller: int) -> dict[str, str]:
        listeners = (
            {
                "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "PLAINTEXT",
            }
            if self.security is None
            else self._secure_listeners(controller, self.security)
        )
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            **listeners,
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

    def _secure_listeners(self, controller: int, security: Security) -> dict[str, str]:
        self.tls_port = self.tls_port or free_ports(1)[0]
        for_clients = f"SASL_SSL://{HOST}:{self.port},SSL://{HOST}:{self.tls_port}"
        return {
            "listeners": f"{for_clients},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": for_clients,
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(security.server.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(security.authority.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{SERVER};User:{ADMIN}",
        }

    def admin(self) -> AdminClient:
        """Return a client that may do everything."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "error_cb": lambda _: None,
            **(self.security.kafka_settings(ADMIN) if self.security else {}),
        }
        return AdminClient(settings, logger=_silent_logger)

    def grant(self) -> None:
        """Give each user its rights; those it has already stay.

        Raises:
            KafkaStartError: the broker does not take them.
        """
        if self.security is None:
            return
        bindings = [
            AclBinding(
                ResourceType[grant.kind.upper()], grant.name, ResourcePatternType.LITERAL,
                f"User:{user}", "*", _operation(operation), AclPermissionType.ALLOW,
            )
            for user, rights in self.security.rights.items()
            for grant in rights.kafka
            for operation in grant.operations
        ]  # fmt: skip
        admin = self.admin()  # kept until the answers are there
        try:
            for future in admin.create_acls(bindings).values() if bindings else ():
                future.result(_GRANT_SECONDS)
        except KafkaException as error:
            raise KafkaStartError(f"kafka does not take access rights: {error}") from error

    def _is_ready(self) -> bool:
        admin = self.admin()
        try:
            metadata = admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return self.running and metadata.cluster_id == CLUSTER_ID and bool(metadata.brokers)


def _operation(name: str) -> AclOperation:
    """Return `DescribeConfigs` as the client has it."""
    return AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()]

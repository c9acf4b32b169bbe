"""A Kafka and an Elasticsearch that ask who one is, with our users and their rights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from llmlog_common.settings import load
from llmlog_consumer.provision.rights import (
    User,
    elasticsearch_role,
    elasticsearch_users,
    kafka_rights,
)
from llmlog_local.certificates import Authority
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import HOST, free_ports
from llmlog_local.security import ADMIN, Grant, Rights, Security
from support.pipeline import Pipeline, base_environment

NAMES = {"LLMLOG_TOPIC": "secure", "LLMLOG_INDEX": "secure", "LLMLOG_GROUP": "secure"}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass
class SecureServers:
    """Both servers, and who may use them."""

    security: Security
    kafka: KafkaServer
    elasticsearch: ElasticsearchServer

    @property
    def authority(self) -> Authority:
        return self.security.authority

    def environment(self, user: str = ADMIN) -> dict[str, str]:
        """The settings of a user: SCRAM and a password."""
        certificates, password = str(self.authority.ca_file), self.security.password(user)
        return {
            **NAMES,
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "LLMLOG_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "LLMLOG_KAFKA_SASL_USERNAME": user,
            "LLMLOG_KAFKA_SASL_PASSWORD": password,
            "LLMLOG_KAFKA_SSL_CA_LOCATION": certificates,
            "LLMLOG_ELASTICSEARCH_URL": self.elasticsearch.url,
            "LLMLOG_ELASTICSEARCH_USERNAME": user,
            "LLMLOG_ELASTICSEARCH_PASSWORD": password,
            "LLMLOG_ELASTICSEARCH_CA_CERTS": certificates,
        }

    def by_certificate(self, user: str) -> dict[str, str]:
        """The settings of a user in Kafka: a client certificate in the place of a password."""
        own = self.authority.get(user)
        return {
            **NAMES,
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{self.kafka.tls_port}",
            "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SSL",
            "LLMLOG_KAFKA_SSL_CA_LOCATION": str(self.authority.ca_file),
            "LLMLOG_KAFKA_SSL_CERTIFICATE_LOCATION": str(own.certificate),
            "LLMLOG_KAFKA_SSL_KEY_LOCATION": str(own.key),
        }

    @contextmanager
    def without(self, user: str, kind: str, name: str, operation: str) -> Iterator[None]:
        """Take one right in Kafka away for the length of the block."""
        where = (ResourceType[kind.upper()], name, ResourcePatternType.LITERAL)
        who = (f"User:{user}", "*", OPERATIONS[operation], AclPermissionType.ALLOW)
        admin = self.kafka.admin()
        for future in admin.delete_acls([AclBindingFilter(*where, *who)]).values():
            future.result(30)
        yield
        for future in admin.create_acls([AclBinding(*where, *who)]).values():
            future.result(30)

    def set_roles(self, roles: Mapping[str, Mapping[str, object]]) -> None:
        """Change roles of Elasticsearch, which reads them within five seconds."""
        rights = {
            name: replace(one, role=roles.get(name, one.role))
            for name, one in self.security.rights.items()
        }
        config = self.elasticsearch.folder / "config"
        Security(self.security.folder, rights).write_login_files(config)


def our_rights(users: Iterable[User] = User) -> dict[str, Rights]:
    """What the documentation gives each user."""
    settings = load(environ=NAMES)
    return {
        str(user): Rights(
            [Grant(one.kind, one.name, one.operations) for one in kafka_rights(user, settings)],
            elasticsearch_role(user, settings) if user in elasticsearch_users() else None,
        )
        for user in users
    }


@contextmanager
def secure_servers(
    folder: Path, *, kafka_properties: Mapping[str, str] | None = None
) -> Iterator[SecureServers]:
    """Run both for the length of the block."""
    security = Security(folder / "security", our_rights())
    kafka_port, port = free_ports(2)
    kafka = KafkaServer(folder / "k", kafka_port, security=security, properties=kafka_properties)
    elasticsearch = ElasticsearchServer(folder / "e", port, security=security)
    servers = (kafka, elasticsearch)
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        kafka.grant()
        yield SecureServers(security, kafka, elasticsearch)
    finally:
        for server in servers:
            server.stop()


def run_as(
    pipeline: Pipeline, servers: SecureServers, user: str, *arguments: str, **options: Any
) -> str:
    """Run a command as a user; return what it writes to stdout."""
    pipeline.environment = base_environment(servers.environment(user))
    return str(pipeline.run(*arguments, **options).stdout)

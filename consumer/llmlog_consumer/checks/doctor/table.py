"""Owns the table of all checks of `pipeline doctor`, in their order; no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.checks.doctor.certificates import certificate_check
from llmlog_consumer.checks.doctor.elasticsearch_checks import ElasticsearchChecks
from llmlog_consumer.checks.doctor.findings import Check, Seen, green, skipped, yellow
from llmlog_consumer.checks.doctor.kafka_checks import KafkaChecks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.provision.rights import User


_AFTER: Final[Mapping[str, tuple[str, ...]]] = {
    "kafka.": ("kafka.connection",),
    "topic.": ("kafka.connection", "topic.exists"),
    "topic.clock": ("topic.cleanup",),
    "dead_letters.": ("kafka.connection", "topic.exists", "dead_letters.exists"),
    "group.": ("kafka.connection", "topic.exists", "topic.cleanup"),
    "elasticsearch.": ("elasticsearch.connection",),
    "index.": ("elasticsearch.connection", "elasticsearch.version"),
}
"""The checks that have to hold before others can be asked, by the beginnings of their names."""


def new_table(settings: Settings, where: str, user: User) -> list[Check]:
    """Return the checks of a deployment.

    Args:
        settings: as loaded.
        where: URL of an Elasticsearch node, without credentials.
        user: whose rights are looked at.
    """
    checks = [
        *KafkaChecks(settings).rows(),
        certificate_check("kafka", "LLMLOG_KAFKA_SSL_CA_LOCATION"),
        Check(
            "kafka.secrecy", "a password is sent over TLS alone", (), lambda: _judge_kafka(settings)
        ),
        *ElasticsearchChecks(settings, where, user).rows(),
        certificate_check("elasticsearch", "LLMLOG_ELASTICSEARCH_CA_CERTS"),
        Check(
            "elasticsearch.secrecy",
            "a key or password is sent over TLS alone",
            (),
            lambda: _judge_elasticsearch(settings, where),
        ),
        Check(
            "registry.connection",
            "the Schema Registry answers and lets us in",
            ("registry",),
            _judge_registry,
            "check LLMLOG_SCHEMA_REGISTRY_URL, and user, password and certificates in "
            "LLMLOG_SCHEMA_REGISTRY_…",
        ),
    ]
    return [replace(check, after=_names_before(check.name)) for check in checks]


def _names_before(name: str) -> tuple[str, ...]:
    before = (names for begin, names in _AFTER.items() if name.startswith(begin))
    return tuple(other for names in before for other in names if other != name)


def _judge_registry(answer: Any) -> Seen:
    return skipped("none is set") if answer is None else green(answer)


def _judge_kafka(settings: Settings) -> Seen:
    properties = settings.admin_properties()
    protocol = str(properties.get("security.protocol", "plaintext")).lower()
    if protocol == "sasl_plaintext":
        return yellow(
            "sasl_plaintext: password and events can be read on the way",
            "set LLMLOG_KAFKA_SECURITY_PROTOCOL=SASL_SSL",
        )
    return green(protocol)


def _judge_elasticsearch(settings: Settings, where: str) -> Seen:
    has_secret = any(
        getattr(settings, f"elasticsearch_{name}") is not None
        for name in ("api_key", "password", "bearer_auth")
    )
    if has_secret and where.startswith("http://"):
        return yellow(
            f"{where} without TLS: the credentials can be read on the way",
            "set LLMLOG_ELASTICSEARCH_URL to https://…",
        )
    return green(where.partition("://")[0])

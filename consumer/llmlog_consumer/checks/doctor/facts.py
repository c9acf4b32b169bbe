"""Owns what `pipeline doctor` asks the servers: each question by its name, as a table."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.checks.doctor.certificates import (
    elasticsearch_certificates,
    kafka_certificates,
)
from llmlog_consumer.checks.doctor.elasticsearch_checks import SetupView
from llmlog_consumer.checks.status_reader import read_status
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.index_names import daily_indices
from llmlog_consumer.provision.indices import index_steps
from llmlog_consumer.provision.rights import (
    elasticsearch_role,
    elasticsearch_users,
    kafka_rights,
)
from llmlog_schemas.codec import UnknownSchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_consumer.provision.rights import User
    from llmlog_schemas.registry import Registry

_NO_SECURITY: Final = frozenset((400, 404, 405, 410))
"""Answers of clusters without security to a question about rights."""
_FORBIDDEN: Final = 403
_NO_LIFECYCLE: Final = frozenset((400, 404, 405, 410))
_FLAT: Final = {"flat_settings": "true", "expand_wildcards": "all"}


def questions(
    settings: Settings,
    user: User,
    *,
    admin: KafkaAdmin,
    offsets: KafkaOffsets,
    elastic: Elastic,
    registry: Registry | None,
) -> Mapping[str, Callable[[], Any]]:
    """Return each question to the servers, by the name of its fact.

    Args:
        settings: as loaded.
        user: whose rights are asked for.
        admin: of Kafka.
        offsets: of the group.
        elastic: the cluster.
        registry: None where none is set.
    """
    return {
        "now_ms": lambda: int(time.time() * 1000),
        "cluster": admin.topics,
        "topic_config": partial(admin.config, settings.topic),
        "dead_letters_config": partial(admin.config, settings.dlq_topic),
        "broker_config": admin.broker_config,
        "missing_topic_rights": lambda: _missing_topic_rights(settings, user, admin),
        "missing_group_rights": lambda: _missing_group_rights(settings, user, admin),
        "status": lambda: read_status(settings, admin, offsets),
        "newest_ms": lambda: admin.newest_timestamp(settings.topic),
        "kafka_certificates": partial(kafka_certificates, settings),
        "root": lambda: elastic.demand("GET", "/"),
        "notice": lambda: elastic.notice,
        "health": lambda: elastic.demand("GET", "/_cluster/health"),
        "nodes": lambda: elastic.demand("GET", "/_nodes/stats/fs"),
        "http": lambda: elastic.demand("GET", "/_nodes/http"),
        "cluster_settings": lambda: elastic.demand(
            "GET",
            "/_cluster/settings",
            params={"flat_settings": "true", "include_defaults": "true"},
        ),
        "privileges": lambda: _privileges(settings, user, elastic),
        "setup": lambda: _view_setup(settings, elastic),
        "ilm": lambda: elastic.find("/_ilm/status", absent=_NO_LIFECYCLE),
        "indices": lambda: elastic.demand(
            "GET", f"/{daily_indices(settings.index)}/_settings", params=_FLAT
        ),
        "pipelines": lambda: _read_pipelines(elastic),
        "elasticsearch_certificates": partial(elasticsearch_certificates, settings),
        "registry": lambda: _ask_registry(registry),
    }


def _missing_topic_rights(settings: Settings, user: User, admin: KafkaAdmin) -> dict[str, set[str]]:
    topics, _ = admin.topics()
    return {
        right.name: _of_kafka(admin.missing_rights(right.name, *map(_upper, right.operations)))
        for right in kafka_rights(user, settings)
        if right.kind == "topic" and right.name in topics
    }


def _missing_group_rights(settings: Settings, user: User, admin: KafkaAdmin) -> dict[str, set[str]]:
    return {
        right.name: _of_kafka(
            admin.missing_group_rights(right.name, *map(_upper, right.operations))
        )
        for right in kafka_rights(user, settings)
        if right.kind == "group"
    }


_OPERATIONS: Final = {"DescribeConfigs": "DESCRIBE_CONFIGS"}
_NAMES: Final = {name: operation for operation, name in _OPERATIONS.items()}


def _upper(operation: str) -> str:
    return _OPERATIONS.get(operation, operation.upper())


def _of_kafka(names: set[str]) -> set[str]:
    return {_NAMES.get(name, name.title()) for name in names}


def _privileges(settings: Settings, user: User, elastic: Elastic) -> Any:
    """Return the answer to the question for rights; None where the cluster has none, or no user."""
    if user not in elasticsearch_users():
        return None
    role = elasticsearch_role(user, settings)
    body = {"cluster": role["cluster"], "index": role["indices"]}
    answer = elastic.request("POST", "/_security/user/_has_privileges", body=body)
    if answer.status in _NO_SECURITY:
        return None
    return elastic.body_of(answer, "POST", "/_security/user/_has_privileges")


def _read_pipelines(elastic: Elastic) -> Any:
    """Return the ingest pipelines by name; None where this user may not see them."""
    answer = elastic.request("GET", "/_ingest/pipeline")
    if answer.status == _FORBIDDEN:
        return None
    if answer.status == NOT_FOUND and isinstance(answer.body, dict):
        return {}
    return elastic.body_of(answer, "GET", "/_ingest/pipeline")


def _view_setup(settings: Settings, elastic: Elastic) -> SetupView:
    steps = []
    try:
        for step in index_steps(settings, elastic):
            steps.append(step)  # noqa: PERF402 - those before an error count too
    except ElasticsearchError as error:
        return SetupView(tuple(steps), str(error))
    return SetupView(tuple(steps))


def _ask_registry(registry: Registry | None) -> str | None:
    """Return what the registry says; None where none is set.

    Raises:
        ConfigurationError: it refuses.
        Unreachable: it does not answer.
    """
    if registry is None:
        return None
    try:
        registry.schema_text(1)
    except UnknownSchemaError:
        return "it answers, and has no schema 1"
    return "it answers"

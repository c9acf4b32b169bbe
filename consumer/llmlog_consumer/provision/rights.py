"""Owns who needs which rights in Kafka and Elasticsearch, and no more than these. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.elasticsearch.index_names import daily_indices

if TYPE_CHECKING:
    from llmlog_common.settings import Settings


class User(StrEnum):
    """Those who use the servers: each may sign in on its own."""

    GATEWAY = "gateway"
    """The callback in LiteLLM, and `pipeline produce`."""
    WORKER = "worker"
    """`pipeline consume`."""
    READER = "reader"
    """Whatever changes nothing: `pipeline status`, `verify`, `trace`, `report`, `dlq list`."""
    OPERATOR = "operator"
    """The same, and `pipeline dlq replay`, `offsets accept-gap`, `offsets reset`."""
    CONSOLE = "console"
    """`pipeline console`."""
    AUDITOR = "auditor"
    """Reads who replayed dead letters, and who opened contents."""
    SETUP = "setup"
    """`pipeline setup`."""


@dataclass(frozen=True, slots=True)
class KafkaRight:
    """What a user may do with one topic or group.

    Attributes:
        kind: `topic` or `group`.
        name: of the topic or group.
        operations: in Kafka's words.
    """

    kind: str
    name: str
    operations: tuple[str, ...]


_LOOK: Final = ("Describe", "DescribeConfigs")


def kafka_rights(user: User, settings: Settings) -> tuple[KafkaRight, ...]:
    """Return what a user needs in Kafka."""
    source, letters, group = settings.topic, settings.dlq_topic, settings.group
    gaps, audit = f"{group}.gaps", settings.audit_topic
    operator = (
        KafkaRight("topic", source, (*_LOOK, "Read", "Write")),
        KafkaRight("topic", letters, (*_LOOK, "Read", "Write")),
        KafkaRight("topic", audit, (*_LOOK, "Write")),
        KafkaRight("group", group, ("Describe", "Read")),
        KafkaRight("group", gaps, ("Describe", "Read")),
    )
    rights = {
        User.GATEWAY: (KafkaRight("topic", source, (*_LOOK, "Write")),),
        User.WORKER: (
            KafkaRight("topic", source, (*_LOOK, "Read")),
            KafkaRight("topic", letters, (*_LOOK, "Write")),
            KafkaRight("group", group, ("Describe", "Read")),
            KafkaRight("group", gaps, ("Describe",)),
        ),
        User.READER: (
            KafkaRight("topic", source, (*_LOOK, "Read")),
            KafkaRight("topic", letters, (*_LOOK, "Read")),
            KafkaRight("topic", audit, (*_LOOK, "Write")),
            KafkaRight("group", group, ("Describe",)),
            KafkaRight("group", gaps, ("Describe",)),
        ),
        User.OPERATOR: operator,
        User.CONSOLE: operator,
        User.AUDITOR: (KafkaRight("topic", audit, ("Describe", "Read")),),
        User.SETUP: (
            KafkaRight("topic", source, (*_LOOK, "Create")),
            KafkaRight("topic", letters, (*_LOOK, "Create")),
            KafkaRight("topic", audit, (*_LOOK, "Create")),
        ),
    }
    return rights[user]


_CLUSTER: Final = {
    User.WORKER: ("monitor",),
    User.READER: ("monitor",),
    User.OPERATOR: ("monitor",),
    User.CONSOLE: ("monitor",),
    User.SETUP: ("monitor", "manage_index_templates", "manage_ilm"),
}
_READ: Final = ("read", "view_index_metadata", "maintenance")
_INDEX: Final = {
    User.WORKER: ("create_doc", "create_index", "view_index_metadata"),
    User.READER: _READ,
    User.OPERATOR: (*_READ, "create_doc", "create_index"),
    User.CONSOLE: (*_READ, "create_doc", "create_index"),
    User.SETUP: ("manage",),
}


def elasticsearch_role(user: User, settings: Settings) -> dict[str, Any]:
    """Return the role of a user in Elasticsearch, as the body of `PUT /_security/role/NAME`.

    Raises:
        KeyError: the user does not use Elasticsearch: see `elasticsearch_users`.
    """
    return {
        "cluster": list(_CLUSTER[user]),
        "indices": [
            {
                "names": [settings.index, daily_indices(settings.index)],
                "privileges": list(_INDEX[user]),
            }
        ],
    }


def group_reader_role(group: str, settings: Settings) -> dict[str, Any]:
    """Return the role of a person who may read one group's documents, and no others.

    It names indices: a right on the alias would be a right on all of them.
    """
    names = [daily_indices(settings.index, group)]
    privileges = ["read", "view_index_metadata"]
    return {"cluster": [], "indices": [{"names": names, "privileges": privileges}]}


def elasticsearch_users() -> tuple[User, ...]:
    """Return those who use Elasticsearch."""
    return tuple(_INDEX)

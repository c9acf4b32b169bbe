"""Owns `pipeline setup --print`: everything that setup installs, and all rights, as text.

For people who may not let a program of ours do it. No server is asked.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.elasticsearch.index_names import PERIOD_DAYS
from llmlog_consumer.provision import templates
from llmlog_consumer.provision.profiles import PROFILES
from llmlog_consumer.provision.rights import (
    User,
    elasticsearch_role,
    elasticsearch_users,
    group_reader_role,
    kafka_rights,
)
from llmlog_consumer.provision.topics import MAX_REPLICAS, plan_topics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmlog_common.settings import Settings
    from llmlog_consumer.provision.rights import KafkaRight
    from llmlog_consumer.provision.topics import TopicPlan

_KAFKA_HEAD = """\
#!/bin/sh
# {purpose}
# BOOTSTRAP_SERVERS, and COMMAND_CONFIG (a file with credentials), may be set before.
set -eu
: "${{BOOTSTRAP_SERVERS:={servers}}}"
command -v {tool} > /dev/null && SUFFIX= || SUFFIX=.sh
run() {{
    {tool}$SUFFIX --bootstrap-server "$BOOTSTRAP_SERVERS" \\
        ${{COMMAND_CONFIG:+--command-config "$COMMAND_CONFIG"}} "$@"
}}
"""
_CURL_HEAD = """\
#!/bin/sh
# Puts the files beside this one into Elasticsearch, each at the path that it is named after, over
# what is there. A cluster without lifecycle management does without the policy and its name.
# Give credentials and certificates to curl as arguments: ./put.sh --user me --cacert ca.pem
set -eu
cd "$(dirname "$0")"
ELASTICSEARCH_URL=${ELASTICSEARCH_URL:-http://localhost:9200}
"""


class Part(StrEnum):
    """What can be printed by itself; all else that `--print` is given is a folder."""

    ACLS = "acls"
    """`kafka-acls` commands for each user."""
    ROLE = "role"
    """Roles of Elasticsearch."""
    TEMPLATE = "template"
    """Its index template, with the component template of the settings."""
    POLICY = "policy"
    """Its lifecycle policy."""
    TOPICS = "topics"
    """`kafka-topics` commands."""


_PATHS: Final = {
    Part.ROLE: ("_security/role/",),
    Part.TEMPLATE: ("_component_template/", "_index_template/"),
    Part.POLICY: ("_ilm/policy/",),
}
"""How the paths of Elasticsearch begin that a part is put to."""
_CURL = (
    'curl --fail-with-body -sS "$@" -X PUT "$ELASTICSEARCH_URL"/{path} '
    "-H 'content-type: application/json' --data-binary @{file}"
)


def write_files(
    settings: Settings, folder: Path, *, kafka: bool = True, elasticsearch: bool = True
) -> list[Path]:
    """Write the files, over earlier ones of the same names; return their paths.

    Args:
        settings: as loaded.
        folder: is made where it is missing.
        kafka: topics and ACLs.
        elasticsearch: lifecycle policy, templates and roles.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    contents: dict[str, str] = {}
    if kafka:
        contents |= _kafka_files(settings)
    if elasticsearch:
        contents |= _elasticsearch_files(settings)
    written = []
    for name, text in contents.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)
        except OSError as error:
            raise ConfigurationError(f"--print: {path}: {error.strerror}") from None
        written.append(path)
    return written


def describe_part(settings: Settings, part: Part) -> str:
    """Return a part as people use it: shell commands, or requests for Kibana's console. Pure."""
    if part in _PATHS:
        requests = _objects_of(settings, part).items()
        return "\n".join(f"PUT {path}\n{json.dumps(body, indent=2)}\n" for path, body in requests)
    if part is Part.TOPICS:
        return _kafka_files(settings)["kafka/topics.sh"]
    head = _head(settings, "Gives each user its rights.", "kafka-acls")
    return head + "".join(
        f"\n# {user}\n" + "".join(_acl(right, f"User:llmlog-{user}") for right in rights)
        for user in User
        if (rights := kafka_rights(user, settings))
    )


def part_as_json(settings: Settings, part: Part) -> dict[str, Any]:
    """Return a part as data: bodies by their path, or a list of topics or rights. Pure."""
    if part in _PATHS:
        return _objects_of(settings, part)
    if part is Part.TOPICS:
        return {"topics": [asdict(plan) for plan in _plans(settings)]}
    rights = ((user, right) for user in User for right in kafka_rights(user, settings))
    return {"acls": [{"user": str(user), **asdict(right)} for user, right in rights]}


def _objects_of(settings: Settings, part: Part) -> dict[str, Any]:
    objects = elasticsearch_objects(settings).items()
    return {path: body for path, body in objects if path.startswith(_PATHS[part])}


def _plans(settings: Settings) -> Iterable[TopicPlan]:
    return plan_topics(settings, brokers=MAX_REPLICAS, partitions=settings.partitions)


def elasticsearch_objects(settings: Settings) -> dict[str, Any]:
    """Return what is put into Elasticsearch, by the path of the request; in their order. Pure."""
    alias, days = settings.index, PERIOD_DAYS[settings.index_period]
    profile = PROFILES[settings.index_profile]
    shared = templates.index_template(alias, profile)
    objects: dict[str, Any] = {
        f"_ilm/policy/{alias}": {
            "policy": templates.lifecycle_policy(settings.max_event_age, days)
        },
        f"_component_template/{templates.settings_name(alias)}": templates.default_settings(
            alias, lifecycle=True, profile=profile, shards=settings.index_shards
        ),
        f"_index_template/{alias}": shared,
    }
    for group in settings.groups:
        name = templates.group_name(alias, group)
        objects[f"_ilm/policy/{name}"] = {
            "policy": templates.lifecycle_policy(settings.max_age_of(group), days)
        }
        objects[f"_index_template/{name}"] = templates.group_template(
            shared, alias, group, lifecycle=True
        )
        objects[f"_security/role/{name}-reader"] = group_reader_role(group, settings)
    for user in elasticsearch_users():
        objects[f"_security/role/{alias}-{user}"] = elasticsearch_role(user, settings)
    return objects


def _elasticsearch_files(settings: Settings) -> dict[str, str]:
    objects = elasticsearch_objects(settings)
    files = {
        f"elasticsearch/{path}.json": json.dumps(body, indent=2) + "\n"
        for path, body in objects.items()
    }
    commands = [_CURL.format(path=quote(path), file=quote(f"{path}.json")) for path in objects]
    return files | {"elasticsearch/put.sh": _CURL_HEAD + "\necho\n".join((*commands, ""))}


def _head(settings: Settings, purpose: str, tool: str) -> str:
    servers = settings.kafka_bootstrap_servers
    return _KAFKA_HEAD.format(purpose=purpose, tool=tool, servers=servers)


def _kafka_files(settings: Settings) -> dict[str, str]:
    files = {
        "kafka/topics.sh": _head(settings, "Creates the topics.", "kafka-topics")
        + "".join(_topic(plan) for plan in _plans(settings))
    }
    for user in User:
        purpose = f"Gives the {user} its rights; PRINCIPAL is its name in Kafka."
        files[f"kafka/acls-{user}.sh"] = (
            _head(settings, purpose, "kafka-acls")
            + f': "${{PRINCIPAL:=User:llmlog-{user}}}"\n'
            + "".join(_acl(right) for right in kafka_rights(user, settings))
        )
    return files


def _topic(plan: TopicPlan) -> str:
    return (
        f"run --create --if-not-exists --topic {quote(plan.name)} --partitions {plan.partitions} "
        f"--replication-factor {plan.replication}"
        + "".join(f" --config {key}={value}" for key, value in plan.config.items())
        + "\n"
    )


def _acl(right: KafkaRight, principal: str = "$PRINCIPAL") -> str:
    operations = " ".join(f"--operation {operation}" for operation in right.operations)
    return (
        f'run --add --allow-principal "{principal}" {operations} '
        f"--{right.kind} {quote(right.name)}\n"
    )

"""What `pipeline setup` installs: topics, index template, lifecycle policy, today's index.

Idempotent; creates and updates its own, never destroys, and says each step.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError
from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.index_names import daily_index, daily_indices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.admin import KafkaAdmin

DLQ_RETENTION: Final = timedelta(days=30)
"""At least: a letter is never gone before its record."""
MOST_REPLICAS: Final = 3
DAY: Final = timedelta(days=1)
_NO_SUCH_API: Final = frozenset((400, 404, 405, 410))
"""What clusters without lifecycles answer to a question about them; 410 is the serverless one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that setup looked at.

    Attributes:
        what: its kind and name.
        change: `created`, `updated`, `unchanged`, `differs`; with `--dry-run` what it would be.
        detail: more, possibly of several lines.
    """

    what: str
    change: str
    detail: str = ""


def topics(settings: Settings, admin: KafkaAdmin, *, dry_run: bool) -> Iterator[Step]:
    """Create the source and the dead-letter topic where they are missing.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    found, brokers = admin.topics()
    replication = settings.replication or min(MOST_REPLICAS, brokers)
    partitions = settings.partitions
    if settings.topic in found:
        partitions = found[settings.topic].partitions
    for name, retention in (
        (settings.topic, settings.retention),
        (settings.dlq_topic, max(DLQ_RETENTION, settings.retention)),
    ):
        detail = f"{partitions} partitions, replication {replication}, kept {retention.days} days"
        if name not in found:
            if not dry_run:
                admin.create(name, partitions, replication, _topic_config(retention, replication))
            yield Step(f"topic {name}", "created", detail)
        elif found[name].partitions != (wanted := _wanted(settings, name, partitions)):
            there = found[name].partitions
            yield Step(f"topic {name}", "differs", f"{there} partitions, {wanted} set: left alone")
        else:
            yield Step(f"topic {name}", "unchanged")


def _wanted(settings: Settings, name: str, partitions: int) -> int:
    return settings.partitions if name == settings.topic else partitions


def _topic_config(retention: timedelta, replication: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(int(retention / timedelta(milliseconds=1))),
        "max.message.bytes": str(MAX_RECORD_BYTES),
        "min.insync.replicas": str(max(1, min(2, replication - 1))),
    }


def indices(settings: Settings, elastic: Elastic, *, dry_run: bool) -> Iterator[Step]:
    """Install lifecycle policy, index template and today's index.

    Raises:
        ElasticsearchError: a plain index has the alias's name, or the cluster refuses.
        ElasticsearchUnreachable: no node answers.
    """
    alias = settings.index
    refuse_plain_index(elastic, alias)
    lifecycle = has_lifecycle(elastic)
    if lifecycle:
        policy = lifecycle_policy(settings)
        there = _policy(elastic, alias)
        yield _put(elastic, f"/_ilm/policy/{alias}", f"lifecycle policy {alias}", there,
                   {"policy": policy}, dry_run=dry_run)  # fmt: skip
    else:
        yield Step(f"lifecycle policy {alias}", "unchanged", "this cluster has no ILM: left out")
    template = index_template(alias, lifecycle=lifecycle)
    yield _put(elastic, f"/_index_template/{alias}", f"index template {alias}",
               _template(elastic, alias), template, dry_run=dry_run)  # fmt: skip
    today = daily_index(alias, int(time.time() * 1000))
    if elastic.find(f"/{today}/_mapping") is None:
        if not dry_run:
            elastic.demand("PUT", f"/{today}")
        yield Step(f"index {today}", "created")
    else:
        yield Step(f"index {today}", "unchanged")


def refuse_plain_index(elastic: Elastic, alias: str) -> None:
    """See that nothing but an alias has the alias's name.

    Raises:
        ElasticsearchError: a plain index has, as LiteLLM's older guide made it.
    """
    if alias in (elastic.find(f"/{alias}/_mapping") or ()):
        raise ElasticsearchError(
            f"{alias} is a plain index, where the alias of the daily indices belongs: keep its "
            f"documents with `POST _reindex` into {alias}-legacy, delete {alias}, then run "
            "`pipeline setup`; or set LLMLOG_INDEX to another name"
        )


def require_template(elastic: Elastic, alias: str) -> None:
    """See that setup was run.

    Raises:
        ElasticsearchError: the index template is missing.
        ElasticsearchUnreachable: no node answers.
    """
    refuse_plain_index(elastic, alias)
    if elastic.request("GET", f"/_index_template/{alias}").status == NOT_FOUND:
        raise ElasticsearchError(f"index template {alias} is missing: run `pipeline setup`")


def has_lifecycle(elastic: Elastic) -> bool:
    """Tell whether the cluster manages lifecycles (some distributions do not).

    Raises:
        ElasticsearchError: the cluster does not let us ask.
        ElasticsearchUnreachable: no node answers, or the answer is "not now".
    """
    return elastic.find("/_ilm/status", absent=_NO_SUCH_API) is not None


def index_template(alias: str, *, lifecycle: bool) -> dict[str, Any]:
    """Return the shipped index template for this alias."""
    template: dict[str, Any] = copy.deepcopy(_shipped("index_template.json"))
    template["index_patterns"] = [daily_indices(alias)]
    template["template"]["aliases"] = {alias: {}}
    if lifecycle:
        template["template"]["settings"]["index"]["lifecycle"] = {"name": alias}
    return template


def lifecycle_policy(settings: Settings) -> dict[str, Any]:
    """Return the shipped lifecycle policy: an index goes when its day's last event has expired."""
    policy: dict[str, Any] = copy.deepcopy(_shipped("lifecycle_policy.json"))
    policy["phases"]["delete"]["min_age"] = f"{math.ceil(settings.max_event_age / DAY) + 1}d"
    return policy


def _shipped(name: str) -> Any:
    return json.loads(resources.files("llmlog_schemas").joinpath("elasticsearch", name).read_text())


def _template(elastic: Elastic, alias: str) -> Any:
    found = elastic.find(f"/_index_template/{alias}")
    return found and found["index_templates"][0]["index_template"]


def _policy(elastic: Elastic, alias: str) -> Any:
    found = elastic.find(f"/_ilm/policy/{alias}")
    return found and {"policy": found[alias]["policy"]}


def _put(elastic: Elastic, path: str, what: str, there: Any, wanted: Any, *, dry_run: bool) -> Step:
    before, after = _lines(there), _lines(wanted)
    if there is not None and before == after:
        return Step(what, "unchanged")
    if not dry_run:
        elastic.demand("PUT", path, body=wanted)
    if there is None:
        return Step(what, "created")
    diff = difflib.unified_diff(before, after, "there", "wanted", lineterm="", n=1)
    return Step(what, "updated", "\n".join(diff))


def _lines(value: Any) -> list[str]:
    """Return a comparable form: the cluster answers with numbers and booleans as text."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items() if key != "composed_of"}
        if isinstance(item, list):
            return [plain(inner) for inner in item]
        return str(item).lower() if isinstance(item, (bool, int)) else item

    return json.dumps(plain(value), indent=1, sort_keys=True).splitlines()

"""Owns the set-up of a deployment: topics, index template, lifecycle policy, today's index.

Idempotent: it creates and updates its own things, deletes nothing, and reports each step.
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

MIN_DLQ_RETENTION: Final = timedelta(days=30)
"""Letters are kept for at least this long, and never shorter than their records."""
MAX_REPLICAS: Final = 3
_DAY: Final = timedelta(days=1)
_NO_SUCH_API: Final = frozenset((400, 404, 405, 410))
"""Answers of clusters without lifecycles to a request for them; 410 is the serverless one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that setup has checked.

    Attributes:
        what: its kind and name.
        change: `created`, `updated`, `unchanged` or `differs`; in a dry run the change that a real
            run would make.
        detail: more text, possibly of several lines.
    """

    what: str
    change: str
    detail: str = ""


def topics(settings: Settings, admin: KafkaAdmin, *, dry_run: bool) -> Iterator[Step]:
    """Create the source topic and the dead-letter topic where they are missing.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    existing, brokers = admin.topics()
    replication = settings.replication or min(MAX_REPLICAS, brokers)
    partitions = settings.partitions
    if settings.topic in existing:
        partitions = existing[settings.topic].partitions
    for name, retention in (
        (settings.topic, settings.retention),
        (settings.dlq_topic, max(MIN_DLQ_RETENTION, settings.retention)),
    ):
        detail = f"{partitions} partitions, replication {replication}, kept {retention.days} days"
        if name not in existing:
            if not dry_run:
                admin.create(name, partitions, replication, _topic_config(retention, replication))
            yield Step(f"topic {name}", "created", detail)
        elif existing[name].partitions != (wanted := _wanted(settings, name, partitions)):
            has = existing[name].partitions
            yield Step(f"topic {name}", "differs", f"{has} partitions, {wanted} set: left alone")
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
        yield _put(
            elastic,
            f"/_ilm/policy/{alias}",
            f"lifecycle policy {alias}",
            existing=_find_policy(elastic, alias),
            wanted={"policy": lifecycle_policy(settings)},
            dry_run=dry_run,
        )
    else:
        yield Step(f"lifecycle policy {alias}", "unchanged", "this cluster has no ILM: left out")
    yield _put(
        elastic,
        f"/_index_template/{alias}",
        f"index template {alias}",
        existing=_find_template(elastic, alias),
        wanted=index_template(alias, lifecycle=lifecycle),
        dry_run=dry_run,
    )
    today = daily_index(alias, int(time.time() * 1000))
    if elastic.find(f"/{today}/_mapping") is None:
        if not dry_run:
            elastic.demand("PUT", f"/{today}")
        yield Step(f"index {today}", "created")
    else:
        yield Step(f"index {today}", "unchanged")


def refuse_plain_index(elastic: Elastic, alias: str) -> None:
    """Check that no plain index has the alias's name.

    Raises:
        ElasticsearchError: a plain index has it, as LiteLLM's older guide created it.
    """
    if alias in (elastic.find(f"/{alias}/_mapping") or ()):
        raise ElasticsearchError(
            f"{alias} is a plain index, where the alias of the daily indices belongs: keep its "
            f"documents with `POST _reindex` into {alias}-legacy, delete {alias}, then run "
            "`pipeline setup`; or set LLMLOG_INDEX to another name"
        )


def require_template(elastic: Elastic, alias: str) -> None:
    """Check that setup was run.

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
        ElasticsearchError: the cluster refuses the request.
        ElasticsearchUnreachable: no node answers, or the answer is "not now".
    """
    return elastic.find("/_ilm/status", absent=_NO_SUCH_API) is not None


def index_template(alias: str, *, lifecycle: bool) -> dict[str, Any]:
    """Return the shipped index template for this alias."""
    template: dict[str, Any] = copy.deepcopy(_load("index_template.json"))
    template["index_patterns"] = [daily_indices(alias)]
    template["template"]["aliases"] = {alias: {}}
    if lifecycle:
        template["template"]["settings"]["index"]["lifecycle"] = {"name": alias}
    return template


def lifecycle_policy(settings: Settings) -> dict[str, Any]:
    """Return the shipped lifecycle policy: it deletes an index when its last event has expired."""
    policy: dict[str, Any] = copy.deepcopy(_load("lifecycle_policy.json"))
    policy["phases"]["delete"]["min_age"] = f"{math.ceil(settings.max_event_age / _DAY) + 1}d"
    return policy


def _load(name: str) -> Any:
    return json.loads(resources.files("llmlog_schemas").joinpath("elasticsearch", name).read_text())


def _find_template(elastic: Elastic, alias: str) -> Any:
    answer = elastic.find(f"/_index_template/{alias}")
    return answer and answer["index_templates"][0]["index_template"]


def _find_policy(elastic: Elastic, alias: str) -> Any:
    answer = elastic.find(f"/_ilm/policy/{alias}")
    return answer and {"policy": answer[alias]["policy"]}


def _put(
    elastic: Elastic, path: str, what: str, *, existing: Any, wanted: Any, dry_run: bool
) -> Step:
    """Store a thing of ours where the existing one differs; None where there is none."""
    before, after = _comparable_lines(existing), _comparable_lines(wanted)
    if existing is not None and before == after:
        return Step(what, "unchanged")
    if not dry_run:
        elastic.demand("PUT", path, body=wanted)
    if existing is None:
        return Step(what, "created")
    diff = difflib.unified_diff(before, after, "existing", "wanted", lineterm="", n=1)
    return Step(what, "updated", "\n".join(diff))


def _comparable_lines(value: Any) -> list[str]:
    """Return JSON lines to compare: the cluster returns numbers and booleans as text."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items() if key != "composed_of"}
        if isinstance(item, list):
            return [plain(inner) for inner in item]
        return str(item).lower() if isinstance(item, (bool, int)) else item

    return json.dumps(plain(value), indent=1, sort_keys=True).splitlines()

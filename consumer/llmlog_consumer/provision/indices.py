"""Owns what setup does in Elasticsearch: its steps, and the daily indices that need repair."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError
from llmlog_common.groups import make_place
from llmlog_consumer.elasticsearch.daily_index import ALREADY_EXISTS
from llmlog_consumer.elasticsearch.index_names import (
    PERIOD_DAYS,
    daily_index,
    daily_indices,
    is_daily_index,
    read_name,
)
from llmlog_consumer.provision import templates
from llmlog_consumer.provision.merge import differences, get, join, missing_fields
from llmlog_consumer.provision.profiles import PROFILES
from llmlog_consumer.provision.requirements import require_alias
from llmlog_consumer.provision.steps import CREATED, DIFFERS, UNCHANGED, UPDATED, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic

_NO_SUCH_API: Final = frozenset((400, 404, 405, 410))
"""Answers of clusters without lifecycles to a request for them; 410 is the serverless one."""
_OF_INDICES: Final = {
    "expand_wildcards": "all",
    # The uuid is asked for so that an index is in the answer which has nothing else of it.
    "filter_path": "*.aliases,*.mappings._meta,*.settings.index",
}
_OF_TEMPLATES: Final = {
    "filter_path": "index_templates.name,index_templates.index_template.index_patterns,"
    "index_templates.index_template.priority"
}
_TAKES_NOTHING: Final = frozenset(("cluster_block_exception", "index_closed_exception"))
"""Errors of an index that is blocked or closed: its documents are kept, and found as before."""
_POLICY: Final = ("settings", "index", "lifecycle", "name")
_POLICY_SETTING: Final = "index.lifecycle.name"
"""An index that was made before its group had a policy gets the group's."""
_REPAIRED: Final = (("lifecycle", "name"), ("refresh_interval",), ("auto_expand_replicas",))
"""Settings that today's index gets where it has none. An older index may lack them on purpose."""


def index_steps(
    settings: Settings, elastic: Elastic, *, clock: Callable[[], float] = time.time
) -> Iterator[Step]:
    """Yield a step for lifecycle policies, default settings, index templates and daily indices.

    Each step is computed when the one before it was carried out, or was not.

    Args:
        settings: alias, groups, period and greatest ages of events.
        elastic: the cluster.
        clock: epoch seconds; for today's index.

    Raises:
        ElasticsearchError: the alias's name is taken, another template is taken in the place of
            ours, or the cluster refuses.
        ElasticsearchUnreachable: no node answers.
    """
    alias = settings.index
    require_alias(elastic, alias)
    lifecycle = has_lifecycle(elastic)
    if lifecycle:
        days = _longest_period(settings, elastic)
        yield _policy_step(elastic, alias, settings.max_event_age, days)
        for group in settings.groups:
            name = templates.group_name(alias, group)
            yield _policy_step(elastic, name, settings.max_age_of(group), days)
    else:
        yield Step(f"lifecycle policy {alias}", UNCHANGED, "this cluster has no ILM: left out")
    template = _find_template(elastic, alias)
    shared = _merged_settings(settings, elastic, template, lifecycle=lifecycle)
    yield _component_step(elastic, templates.settings_name(alias), shared)
    profile = PROFILES[settings.index_profile]
    wanted = templates.merge_template(template, templates.index_template(alias, profile))
    yield _write_step(
        elastic, f"index template {alias}", f"/_index_template/{alias}", template, wanted
    )
    now_ms = int(clock() * 1000)
    today = daily_index(alias, now_ms, make_place(settings.index_period, ""))
    _require_strongest(elastic, alias, today, int(wanted.get("priority", 0)))
    for group in settings.groups:
        name = templates.group_name(alias, group)
        there = _find_template(elastic, name)
        own = templates.merge_group_template(
            there, templates.group_template(wanted, alias, group, lifecycle=lifecycle)
        )
        yield _write_step(elastic, f"index template {name}", f"/_index_template/{name}", there, own)
        index = daily_index(alias, now_ms, make_place(settings.index_period, group))
        _require_strongest(elastic, name, index, own["priority"])
    options = wanted["template"]["aliases"][alias]
    indices = elastic.demand("GET", f"/{daily_indices(alias)}", params=_OF_INDICES)
    if today not in indices:
        indices[today] = None
    for index, found in sorted(indices.items()):
        read = read_name(alias, index)
        if read and is_daily_index(alias, index, settings.groups, settings.index_period):
            defaults = shared["template"]["settings"]["index"] if index == today else {}
            is_older = read.group in settings.groups and get(found, *_POLICY) == alias
            changed = {_POLICY_SETTING: templates.group_name(alias, read.group)} if is_older else {}
            step = _daily_step(
                elastic, index, found, {alias: options}, defaults=defaults, changed=changed
            )
            if index == today or step.change != UNCHANGED:
                yield step
            if index == today and step.change == DIFFERS:
                raise ElasticsearchError(f"index {today}: {step.detail}")


def has_lifecycle(elastic: Elastic) -> bool:
    """Tell whether the cluster manages lifecycles (some distributions do not).

    Raises:
        ElasticsearchError: the cluster refuses the request.
        ElasticsearchUnreachable: no node answers, or the answer is "not now".
    """
    return elastic.find("/_ilm/status", absent=_NO_SUCH_API) is not None


def _longest_period(settings: Settings, elastic: Elastic) -> int:
    """Return the days of the longest period that an index has, or will have.

    An index is deleted when its last event has expired; its age is that of its first one.
    """
    alias = settings.index
    there = elastic.demand("GET", f"/{daily_indices(alias)}", params=_OF_INDICES)
    policies = {alias, *(templates.group_name(alias, group) for group in settings.groups)}
    ours = (index for index, found in there.items() if get(found, *_POLICY) in policies)
    names = (read_name(alias, index) for index in ours)
    periods = {settings.index_period, *(name.period for name in names if name)}
    return max(PERIOD_DAYS[period] for period in periods)


def _policy_step(elastic: Elastic, name: str, max_event_age: timedelta, days: int) -> Step:
    answer = elastic.find(f"/_ilm/policy/{name}")
    existing = get(answer, name, "policy")
    ours = templates.lifecycle_policy(max_event_age, days)
    wanted = templates.merge_policy(existing, ours)
    what, path = f"lifecycle policy {name}", f"/_ilm/policy/{name}"
    if existing is not None and wanted == existing and differences(existing, ours):
        return Step(what, UNCHANGED, "not the one that setup ships: kept")
    return _write_step(elastic, what, path, existing, wanted, body={"policy": wanted})


def _merged_settings(
    settings: Settings, elastic: Elastic, template: Any, *, lifecycle: bool
) -> dict[str, Any]:
    """Return our default settings, beside all layers of the user's that there are."""
    alias, profile = settings.index, PROFILES[settings.index_profile]
    ours = templates.settings_name(alias)
    names = join(get(template, "composed_of") or [], [templates.custom_name(alias)])
    others = [_find_component(elastic, name) for name in names if name != ours]
    return templates.merge_settings(
        _find_component(elastic, ours),
        templates.default_settings(
            alias, lifecycle=lifecycle, profile=profile, shards=settings.index_shards
        ),
        [*others, template],
    )


def _component_step(elastic: Elastic, name: str, wanted: dict[str, Any]) -> Step:
    existing, path = _find_component(elastic, name), f"/_component_template/{name}"
    return _write_step(elastic, f"component template {name}", path, existing, wanted)


def _find_template(elastic: Elastic, alias: str) -> Any:
    answer = elastic.find(f"/_index_template/{alias}")
    return answer and answer["index_templates"][0]["index_template"]


def _find_component(elastic: Elastic, name: str) -> Any:
    answer = elastic.find(f"/_component_template/{name}")
    return answer and answer["component_templates"][0]["component_template"]


def _write_step(
    elastic: Elastic, what: str, path: str, existing: Any, wanted: Any, *, body: Any = None
) -> Step:
    """Return the step that stores a thing where the existing one differs; None: there is none."""
    changes = () if existing is None else differences(existing, wanted)
    if existing is not None and not changes:
        return Step(what, UNCHANGED)

    def write() -> str:
        elastic.demand("PUT", path, body=body or wanted)
        return ""

    change = CREATED if existing is None else UPDATED
    return Step(what, change, differences=changes, write=write)


def _require_strongest(elastic: Elastic, alias: str, index: str, priority: int) -> None:
    """Check that Elasticsearch takes our template for a daily index.

    Raises:
        ElasticsearchError: it takes another one; the text names it.
    """
    answer = elastic.demand("GET", "/_index_template", params=_OF_TEMPLATES)
    stronger = templates.stronger_templates(
        answer.get("index_templates") or [], alias, index, priority
    )
    if stronger:
        raise ElasticsearchError(
            f"another index template comes before {alias} for {index}, which would get its "
            f"mapping: {'; '.join(stronger)}. Give index template {alias} a higher `priority` "
            "(setup keeps it), narrow the other one's patterns, or set LLMLOG_INDEX to another name"
        )


def _daily_step(
    elastic: Elastic,
    index: str,
    found: Any,
    aliases: dict[str, Any],
    *,
    defaults: dict[str, Any],
    changed: dict[str, Any],
) -> Step:
    """Return the step that a daily index needs: created, repaired, or left as it is.

    Args:
        elastic: the cluster.
        index: its name.
        found: aliases, `_meta` and settings that it has; None where there is no such index.
        aliases: those that it has to have, with their options.
        defaults: settings that it is given where it has none.
        changed: settings that it is given in the place of what it has.
    """
    what = f"index {index}"
    if found is None:
        return Step(what, CREATED, write=partial(_create, elastic, index))
    if get(found, "mappings", "_meta", "llmlog_version") is None:
        return Step(
            what,
            DIFFERS,
            "it was not created from our template (no _meta.llmlog_version), so searches miss its "
            "fields: reindex it into a new one, or delete it",
        )
    upgrade = _upgrade(elastic, index, found)
    there = found.get("aliases") or {}
    missing = {alias: options for alias, options in aliases.items() if alias not in there}
    settings = changed | {
        f"index.{'.'.join(path)}": get(defaults, *path)
        for path in _REPAIRED
        if get(defaults, *path) is not None and get(found, "settings", "index", *path) is None
    }
    if not missing and not settings and not upgrade:
        return Step(what, UNCHANGED)

    def write() -> str:
        if upgrade and (refused := _put_mapping(elastic, index, upgrade)):
            return refused
        if settings:
            elastic.demand("PUT", f"/{index}/_settings", body=settings)
        actions = [
            {"add": {"index": index, "alias": alias, **options}}
            for alias, options in missing.items()
        ]
        if actions:
            elastic.demand("POST", "/_aliases", body={"actions": actions})
        return ""

    changes = differences({}, settings | ({"aliases": missing} if missing else {}))
    detail = f"{len(upgrade['properties'])} fields added" if upgrade else ""
    return Step(what, UPDATED, detail, differences=changes, write=write)


def _upgrade(elastic: Elastic, index: str, found: Any) -> dict[str, Any] | None:
    """Return what is added to the mapping of an index of an earlier version; None for nothing.

    Its documents have no values in the fields that are added; those that are still to come have.
    """
    ours = templates.index_template("")["template"]["mappings"]
    meta = get(found, "mappings", "_meta")
    if meta["llmlog_version"] >= ours["_meta"]["llmlog_version"]:
        return None
    mapping = elastic.demand("GET", f"/{index}/_mapping")
    properties = get(mapping, index, "mappings", "properties") or {}
    return {
        "_meta": {**meta, **ours["_meta"]},
        "properties": missing_fields(properties, ours["properties"]),
    }


def _put_mapping(elastic: Elastic, index: str, mapping: dict[str, Any]) -> str:
    """Add to a mapping; return why the index takes nothing, empty where it has taken it."""
    answer = elastic.request("PUT", f"/{index}/_mapping", body=mapping)
    if answer.error.get("type") in _TAKES_NOTHING:
        return f"fields not added: {answer.describe()}"
    elastic.body_of(answer, "PUT", f"/{index}/_mapping")
    return ""


def _create(elastic: Elastic, index: str) -> str:
    answer = elastic.request("PUT", f"/{index}")
    if answer.error.get("type") == ALREADY_EXISTS:
        return "created meanwhile by another setup, or a worker"
    elastic.body_of(answer, "PUT", f"/{index}")
    return ""

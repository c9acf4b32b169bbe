"""Owns what setup installs in Elasticsearch: templates and the lifecycle policy. Pure.

The layers of a daily index, each over the one before:

    ALIAS@settings    our defaults (shards, replicas, refresh, lifecycle); setup fills gaps alone
    ALIAS@custom      the user's own; setup never writes it
    ALIAS             the index template: mapping and alias, and whatever the user adds to it
    ALIAS@GROUP       the same for the indices of one group, with a lifecycle policy of its own
    ALIAS@GROUP@custom    the user's own layer for one group
"""

from __future__ import annotations

import copy
import json
import math
from datetime import timedelta
from fnmatch import fnmatchcase
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.elasticsearch.index_names import daily_indices
from llmlog_consumer.provision.merge import get, join, overlay
from llmlog_consumer.provision.profiles import PROFILES, Profile

if TYPE_CHECKING:
    from collections.abc import Iterable

OURS: Final = {"managed_by": "llmlog-pipeline"}
_DAY: Final = timedelta(days=1)
_BALANCED: Final = PROFILES["balanced"]
_WRITTEN: Final = "written"
_REPLICAS: Final = "auto_expand_replicas"
_ABOVE_SHARED: Final = 100
"""Elasticsearch refuses two templates of one priority for one index; a user may raise the other."""
_DELETE_AGE: Final = ("phases", "delete", "min_age")


def settings_name(alias: str) -> str:
    """Return the name of the component template with our default settings."""
    return f"{alias}@settings"


def custom_name(alias: str) -> str:
    """Return the name of the component template that is the user's."""
    return f"{alias}@custom"


def group_name(alias: str, group: str) -> str:
    """Return the name of a group's index template and lifecycle policy."""
    return f"{alias}@{group}"


def default_settings(
    alias: str, *, lifecycle: bool, profile: Profile = _BALANCED, shards: int = 1
) -> dict[str, Any]:
    """Return the component template with our default settings.

    Args:
        alias: whose daily indices they are for; also the lifecycle policy's name.
        lifecycle: the cluster manages lifecycles.
        profile: of the indices.
        shards: of an index.
    """
    index: dict[str, Any] = copy.deepcopy(_load("index_settings.json"))
    chosen = {
        "number_of_shards": shards,
        "refresh_interval": profile.refresh_interval,
        "codec": profile.codec,
    }
    index |= chosen
    if lifecycle:
        index["lifecycle"] = {"name": alias}
    return {"template": {"settings": {"index": index}}, "_meta": {**OURS, _WRITTEN: chosen}}


def index_template(alias: str, profile: Profile = _BALANCED) -> dict[str, Any]:
    """Return the shipped index template for this alias and profile."""
    template: dict[str, Any] = copy.deepcopy(_load("index_template.json"))
    for field in template["template"]["mappings"]["properties"].values():
        if field.get("type") == "text":
            field.update(profile.text)
    template["index_patterns"] = [daily_indices(alias)]
    template["composed_of"] = [settings_name(alias), custom_name(alias)]
    template["ignore_missing_component_templates"] = [custom_name(alias)]
    template["template"]["aliases"] = {alias: {}}
    return template


def group_template(
    shared: dict[str, Any], alias: str, group: str, *, lifecycle: bool
) -> dict[str, Any]:
    """Return the index template of one group.

    Args:
        shared: the one of the default group, with all that its user has added.
        alias: whose daily indices they are for.
        group: its name.
        lifecycle: the cluster manages lifecycles.
    """
    template = copy.deepcopy(shared)
    layer = custom_name(group_name(alias, group))
    template["index_patterns"] = [daily_indices(alias, group)]
    template["priority"] = int(shared.get("priority") or 0) + _ABOVE_SHARED
    template["composed_of"] = [*shared["composed_of"], layer]
    template["ignore_missing_component_templates"] = join(
        shared["ignore_missing_component_templates"], [layer]
    )
    if lifecycle:
        own = {"settings": {"index": {"lifecycle": {"name": group_name(alias, group)}}}}
        template["template"] = overlay(template["template"], own)
    return template


def merge_group_template(existing: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Return a group's index template with all that a user has added to the existing one."""
    if existing is None:
        return ours
    merged: dict[str, Any] = overlay(existing, ours)
    merged["priority"] = max(int(existing.get("priority") or 0), ours["priority"])
    for key in ("index_patterns", "composed_of", "ignore_missing_component_templates"):
        merged[key] = join(existing.get(key) or [], ours[key])
    return merged


def lifecycle_policy(max_event_age: timedelta, period_days: int = 1) -> dict[str, Any]:
    """Return the shipped lifecycle policy: it deletes an index when its last event has expired.

    Args:
        max_event_age: age above which an event is expired.
        period_days: of the indices.
    """
    policy: dict[str, Any] = copy.deepcopy(_load("lifecycle_policy.json"))
    delete_age = f"{math.ceil(max_event_age / _DAY) + period_days}d"
    policy["phases"]["delete"]["min_age"] = delete_age
    policy["_meta"]["delete_age"] = delete_age
    return policy


def merge_template(existing: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Return our index template with all that a user has added to the existing one.

    Ours are the mapping of our fields, the patterns, the alias and the layers. All else that is
    there stays: further layers, priority, settings, aliases and their options, fields, `_meta`.
    """
    if existing is None:
        return ours
    ours = _without_taken_names(ours, existing)
    merged: dict[str, Any] = overlay(existing, ours)
    if "priority" in existing:
        merged["priority"] = existing["priority"]
    ours_first, ours_last = ours["composed_of"]
    layers = existing.get("composed_of") or []
    between = [layer for layer in layers if layer not in ours["composed_of"]]
    merged["composed_of"] = (
        layers
        if all(layer in layers for layer in ours["composed_of"])
        else [ours_first, *between, ours_last]
    )
    for key in ("index_patterns", "ignore_missing_component_templates"):
        merged[key] = join(existing.get(key) or [], ours[key])
    return merged


def _without_taken_names(ours: dict[str, Any], existing: Any) -> dict[str, Any]:
    """Return our template without the groups of aliases whose name is a field of the user's."""
    theirs = get(existing, "template", "mappings", "properties") or {}
    ours = copy.deepcopy(ours)
    properties = ours["template"]["mappings"]["properties"]
    for name in [name for name, field in properties.items() if "properties" in field]:
        if get(theirs, name, "type") not in (None, "object"):
            del properties[name]
    return ours


def merge_settings(
    existing: Any, ours: dict[str, Any], others: Iterable[Any] = ()
) -> dict[str, Any]:
    """Return our default settings with all that a user has set: a default fills a gap alone.

    A setting that still has the value that setup wrote last (`_meta`) is not the user's: it
    follows the profile.

    Args:
        existing: component template as the cluster has it; None where there is none.
        ours: `default_settings`.
        others: further layers, each a template; None for one that does not exist. A number of
            replicas in one of them would mean nothing beside our range of them, which is left out.
    """
    merged: dict[str, Any] = overlay(ours, existing or {})
    there = get(existing, "template", "settings", "index") or {}
    for name, value in (get(existing, "_meta", _WRITTEN) or {}).items():
        own = get(ours, "template", "settings", "index", name)
        if own is not None and str(there.get(name)) == str(value):
            merged["template"]["settings"]["index"][name] = own
    merged["_meta"] = overlay(get(existing, "_meta") or {}, ours["_meta"])
    layers = [existing, *others]
    has_number = any(
        get(layer, "template", "settings", "index", "number_of_replicas") is not None
        for layer in layers
    )
    index = merged["template"]["settings"]["index"]
    our_range = ours["template"]["settings"]["index"][_REPLICAS]
    if has_number and index.get(_REPLICAS) == our_range:
        del index[_REPLICAS]
    return merged


def merge_policy(existing: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Return the policy to have: the existing one, as only its delete age is ours after the start.

    A delete age that a user has changed is the user's. It is told by `_meta.delete_age`, which
    holds the one that setup wrote last.
    """
    if existing is None:
        return ours
    written = get(existing, "_meta", "delete_age")
    if written is None or get(existing, *_DELETE_AGE) != written:
        return dict(existing)
    age = get(ours, *_DELETE_AGE)
    change = {"phases": {"delete": {"min_age": age}}, "_meta": {"delete_age": age}}
    merged: dict[str, Any] = overlay(existing, change)
    return merged


def stronger_templates(
    templates: Iterable[Any], alias: str, index: str, priority: int
) -> list[str]:
    """Return the index templates that Elasticsearch takes for an index in the place of ours.

    Of one priority it accepts one template alone, whichever was there first.

    Args:
        templates: of an answer to `GET /_index_template`.
        alias: name of our own.
        index: name of a daily index.
        priority: of our own.

    Returns:
        One text for each, the strongest first: name, patterns, priority.
    """
    stronger = [
        one
        for one in templates
        if one["name"] != alias
        and _priority(one) >= priority
        and any(fnmatchcase(index, pattern) for pattern in _patterns(one))
    ]
    return [
        f"{one['name']} ({', '.join(_patterns(one))}; priority {_priority(one)})"
        for one in sorted(stronger, key=_priority, reverse=True)
    ]


def _priority(template: Any) -> int:
    return int(get(template, "index_template", "priority") or 0)


def _patterns(template: Any) -> list[str]:
    patterns = get(template, "index_template", "index_patterns") or []
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _load(name: str) -> Any:
    return json.loads(resources.files("llmlog_schemas").joinpath("elasticsearch", name).read_text())

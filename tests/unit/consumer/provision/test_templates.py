"""What setup ships and what users have changed become one: neither loses its own."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.provision.merge import differences, overlay
from llmlog_consumer.provision.profiles import PROFILES
from llmlog_consumer.provision.templates import (
    default_settings,
    index_template,
    merge_policy,
    merge_settings,
    merge_template,
)

OURS = index_template("logs")
DEFAULTS = default_settings("logs", lifecycle=True)


def as_elasticsearch_returns(value):
    """Numbers and booleans of settings come back as text."""
    if isinstance(value, dict):
        return {key: as_elasticsearch_returns(inner) for key, inner in value.items()}
    return str(value).lower() if isinstance(value, (bool, int)) else value


def test_what_is_stored_is_what_is_shipped():
    assert merge_template(None, OURS) is OURS
    there = as_elasticsearch_returns(OURS)
    assert differences(there, merge_template(there, OURS)) == ()
    there = as_elasticsearch_returns(DEFAULTS)
    assert differences(there, merge_settings(there, DEFAULTS)) == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("priority",), 7),
        (("version",), 3),
        (("_meta", "owner"), "a team"),
        (("template", "settings", "index", "number_of_shards"), "3"),
        (("template", "settings", "index", "number_of_replicas"), "2"),
        (("template", "settings", "index", "refresh_interval"), "60s"),
        (("template", "settings", "index", "lifecycle", "name"), "mine"),
        (("template", "settings", "index", "routing", "allocation", "include", "x"), "hot"),
        (("template", "aliases", "another"), {"filter": {"term": {"a": 1}}}),
        (("template", "aliases", "logs"), {"is_hidden": True}),
        (("template", "mappings", "properties", "team"), {"type": "keyword"}),
        (("template", "mappings", "properties", "model", "fields"), {"text": {"type": "text"}}),
        (("template", "mappings", "runtime", "day"), {"type": "keyword"}),
        (("template", "mappings", "dynamic_templates"), [{"a": {}}]),
        (("template", "mappings", "_meta", "more"), 1),
    ],
)
def test_what_a_user_adds_to_our_template_stays(path, value):
    there = copy.deepcopy(OURS)
    place = there
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    assert merge_template(there, OURS) == there


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ([], ["logs@settings", "logs@custom"]),
        (["mine"], ["logs@settings", "mine", "logs@custom"]),
        (["a", "logs@custom", "b"], ["logs@settings", "a", "b", "logs@custom"]),
        (["logs@custom", "logs@settings", "mine"], ["logs@custom", "logs@settings", "mine"]),
    ],
)
def test_layers_of_a_user_keep_their_place_between_ours(layers, merged):
    there = {**OURS, "composed_of": layers}
    assert merge_template(there, OURS)["composed_of"] == merged


def test_lists_of_names_hold_both():
    there = {**OURS, "index_patterns": ["old-*"], "ignore_missing_component_templates": ["x"]}
    merged = merge_template(there, OURS)
    assert merged["index_patterns"] == ["old-*", "logs-2*"]
    assert merged["ignore_missing_component_templates"] == ["x", "logs@custom"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("allow_auto_create",), True),
        (("template", "mappings", "dynamic"), True),
        (("template", "mappings", "_meta", "llmlog_version"), 0),
        (("template", "mappings", "properties", "model"), {"type": "text", "analyzer": "x"}),
        (("template", "mappings", "properties", "total_tokens"), {"type": "integer"}),
    ],
)
def test_what_is_ours_is_put_right_and_named(path, value):
    there = copy.deepcopy(OURS)
    place = there
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    merged = merge_template(there, OURS)
    assert merged == OURS
    assert differences(there, merged)
    assert all(line.startswith(".".join(path)) for line in differences(there, merged))


@pytest.mark.parametrize("missing", ["template", "composed_of", "index_patterns"])
def test_a_template_without_a_part_of_it_is_completed(missing):
    there = {key: value for key, value in OURS.items() if key != missing}
    merged = merge_template(there, OURS)
    assert merged[missing] == OURS[missing]


def settings_of(**index):
    return {"template": {"settings": {"index": index}}}


def test_our_settings_fill_gaps_alone():
    there = settings_of(number_of_shards="3", refresh_interval="60s")
    index = merge_settings(there, DEFAULTS)["template"]["settings"]["index"]
    assert index == {**DEFAULTS["template"]["settings"]["index"], **settings_of(
        number_of_shards="3", refresh_interval="60s")["template"]["settings"]["index"]}  # fmt: skip


def test_a_range_of_replicas_of_the_users_own_stays_beside_a_number():
    there = settings_of(number_of_replicas="2", auto_expand_replicas="0-5")
    index = merge_settings(there, DEFAULTS)["template"]["settings"]["index"]
    assert index["auto_expand_replicas"] == "0-5"


@pytest.mark.parametrize("other", [None, {}, {"template": {}}, settings_of(refresh_interval="1s")])
def test_layers_without_a_number_of_replicas_leave_our_range(other):
    index = merge_settings(None, DEFAULTS, [other])["template"]["settings"]["index"]
    assert index["auto_expand_replicas"] == "0-1"


POLICY = {"phases": {"delete": {"min_age": "401d"}}, "_meta": {"delete_age": "401d"}}


def policy(age, written=None):
    meta = {} if written is None else {"_meta": {"delete_age": written}}
    return {"phases": {"delete": {"min_age": age}}, **meta}


@pytest.mark.parametrize(
    ("existing", "merged"),
    [
        (None, POLICY),
        (POLICY, POLICY),
        (policy("31d", "31d"), POLICY),
        (policy("30d", "31d"), policy("30d", "31d")),
        (policy("401d"), policy("401d")),
        ({"phases": {}}, {"phases": {}}),
        (
            {"phases": {}, "_meta": {"delete_age": "31d"}},
            {"phases": {}, "_meta": {"delete_age": "31d"}},
        ),
    ],
)
def test_a_policy_is_the_users_but_for_the_age_that_setup_wrote(existing, merged):
    assert merge_policy(existing, POLICY) == merged


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
FLAT = st.dictionaries(st.sampled_from("abcd"), LEAVES, max_size=4)
NESTED = st.dictionaries(st.sampled_from("abcd"), st.one_of(LEAVES, FLAT), max_size=4)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), st.one_of(LEAVES, NESTED), max_size=4)


@given(OBJECTS, OBJECTS)
def test_an_overlay_is_stable_and_its_differences_are_complete(below, above):
    before = copy.deepcopy((below, above))
    merged = overlay(below, above)
    assert (below, above) == before
    assert overlay(merged, above) == merged
    assert overlay(below, merged) == merged
    assert differences(merged, merged) == ()
    if differences(below, merged) == ():
        assert as_text(below) == as_text(merged)


def as_text(value):
    if isinstance(value, dict):
        return {key: as_text(inner) for key, inner in value.items()}
    return {None: "null", True: "true", False: "false"}.get(value, str(value)).lower()


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": "1"}, ()),
        ({"a": True}, {"a": "true"}, ()),
        ({"a": [1, 2]}, {"a": ["1", "2"]}, ()),
        ({}, {}, ()),
        ({}, {"a": {"b": 1}}, ("a.b: (none) -> 1",)),
        ({"a": {"b": 1}}, {}, ("a.b: 1 -> (none)",)),
        ({"a": ["x"]}, {"a": ["y", "x"]}, ("a: [x] -> [y, x]",)),
    ],
)
def test_a_difference_names_the_path_the_old_and_the_new(old, new, lines):
    assert differences(old, new) == lines


# Profiles


def settings_for(profile, existing=None, shards=1):
    ours = default_settings("logs", lifecycle=True, profile=PROFILES[profile], shards=shards)
    return as_elasticsearch_returns(merge_settings(existing, ours))


def index_of(component):
    return component["template"]["settings"]["index"]


@pytest.mark.parametrize("first", PROFILES)
@pytest.mark.parametrize("then", PROFILES)
def test_another_profile_changes_what_setup_wrote(first, then):
    component = settings_for(then, settings_for(first), shards=3)
    assert component == settings_for(then, shards=3)
    assert index_of(component)["refresh_interval"] == PROFILES[then].refresh_interval
    assert index_of(component)["number_of_shards"] == "3"


@pytest.mark.parametrize(
    ("name", "value"),
    [("refresh_interval", "7s"), ("codec", "lucene_default"), ("number_of_shards", "5")],
)
def test_another_profile_keeps_what_a_user_has_set(name, value):
    component = settings_for("balanced")
    index_of(component)[name] = value
    for profile in ("storage", "search", "balanced"):
        component = settings_for(profile, component)
        assert index_of(component)[name] == value


def test_settings_that_were_there_before_setup_wrote_any_stay():
    existing = {"template": {"settings": {"index": {"refresh_interval": "5s", "codec": "x"}}}}
    index = index_of(settings_for("storage", existing))
    assert (index["refresh_interval"], index["codec"]) == ("5s", "x")


@pytest.mark.parametrize("first", PROFILES)
@pytest.mark.parametrize("then", PROFILES)
def test_another_profile_leaves_nothing_of_the_one_before_in_the_mapping(first, then):
    there, wanted = (index_template("logs", PROFILES[name]) for name in (first, then))
    assert merge_template(there, wanted) == wanted
    assert wanted["template"]["mappings"]["properties"]["messages_text"] == PROFILES[then].text


def test_a_shipped_profile_is_not_changed_by_use():
    template = index_template("logs", PROFILES["search"])
    template["template"]["mappings"]["properties"]["messages_text"]["norms"] = "changed"
    assert PROFILES["search"].text["norms"] is True

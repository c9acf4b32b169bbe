"""The index template maps the names of `fields.py`, each to its kind, and nothing else."""

import copy
from datetime import timedelta

import pytest

from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_consumer.provision import templates
from llmlog_schemas.derived.aliases import ALIASES
from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.fields import (
    CURRENT_DOCUMENT_VERSION,
    DOCUMENT,
    EXTRA,
    SEARCH_TEXTS,
    TYPED,
    UNTYPED,
)
from llmlog_schemas.kinds import Kind

KEYWORD = {"type": "keyword", "ignore_above": 1024}
MAPPING_OF = {
    Kind.KEYWORD: KEYWORD,
    Kind.KEYWORDS: KEYWORD,
    Kind.TEXT: {"type": "text", "norms": False, "index_options": "positions"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.LONG: {"type": "long", "index": False},
    Kind.DOUBLE: {"type": "double", "index": False},
    Kind.COUNT: {"type": "long", "index": False},
    Kind.MEASURE: {"type": "double", "index": False},
    Kind.SECONDS: {"type": "date", "format": "epoch_millis"},
    Kind.FLATTENED: {"type": "flattened", "ignore_above": 1024},
    Kind.STORED: {"type": "object", "enabled": False},
}
EXPECTED = {name: MAPPING_OF[kind] for name, kind in DOCUMENT.items()}
EXPECTED |= {name: {"type": "alias", "path": field} for name, field in ALIASES.items()}
TEMPLATE = templates.index_template("litellm-logs")
MAPPINGS = TEMPLATE["template"]["mappings"]


def mapped(properties, above=""):
    """Return the mapping of each field by its whole name."""
    fields = {}
    for name, mapping in properties.items():
        if "properties" in mapping:
            fields |= mapped(mapping["properties"], f"{above}{name}.")
        else:
            fields[above + name] = mapping
    return fields


MAPPED = mapped(MAPPINGS["properties"])


def test_every_kind_has_a_mapping():
    assert MAPPING_OF.keys() == set(Kind)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_field_is_mapped_to_its_kind(name):
    assert MAPPED.get(name) == EXPECTED[name]


def test_nothing_else_is_mapped():
    assert MAPPED.keys() - EXPECTED.keys() == set()


def test_an_alias_stands_for_a_field_and_hides_none():
    assert set(ALIASES.values()) <= DOCUMENT.keys()
    assert not ALIASES.keys() & DOCUMENT.keys()
    roots = {name.partition(".")[0] for name in (*ALIASES, *DOCUMENT) if "." in name}
    assert not roots & DOCUMENT.keys(), "a field cannot be a value and an object"


def test_the_tables_do_not_overlap():
    assert len(DOCUMENT) == len(TYPED) + len(UNTYPED) + len(DERIVED) + len(SEARCH_TEXTS) + 4
    assert DOCUMENT[EXTRA] is Kind.STORED


def test_elasticsearch_guesses_nothing():
    assert MAPPINGS["dynamic"] is False
    assert MAPPINGS.keys() == {"_meta", "dynamic", "properties"}


def test_a_worker_can_tell_our_mapping_from_a_guessed_one():
    assert MAPPINGS["_meta"]["llmlog_version"] == CURRENT_DOCUMENT_VERSION == 2


def test_whatever_is_grouped_by_has_a_bound_below_lucenes():
    for name, mapping in MAPPED.items():
        if mapping["type"] in ("keyword", "flattened"):
            assert mapping["ignore_above"] * 4 < 32_766, name


@pytest.mark.parametrize("alias", ["litellm-logs", "other"])
def test_the_template_is_for_the_daily_indices_of_its_alias(alias):
    template = templates.index_template(alias)
    (pattern,) = template["index_patterns"]
    assert pattern.endswith("*")
    for time_ms in (1_577_836_800_000, 1_767_225_600_000, 4_102_444_799_999):
        assert daily_index(alias, time_ms).startswith(pattern[:-1])
    assert not f"{alias}-legacy".startswith(pattern[:-1])
    assert template["template"]["aliases"] == {alias: {}}


def index_settings(*, lifecycle):
    return templates.default_settings("a", lifecycle=lifecycle)["template"]["settings"]["index"]


def test_the_lifecycle_is_named_only_where_the_cluster_has_one():
    assert "lifecycle" not in index_settings(lifecycle=False)
    assert index_settings(lifecycle=True)["lifecycle"] == {"name": "a"}


def test_no_document_makes_an_index_by_itself():
    assert TEMPLATE["allow_auto_create"] is False


def test_one_shard_and_a_replica_where_there_is_a_second_node():
    index = index_settings(lifecycle=False)
    assert index["number_of_shards"] == 1
    assert index["auto_expand_replicas"] == "0-1"


def test_a_user_has_a_layer_over_our_settings_that_may_be_missing():
    assert TEMPLATE["composed_of"] == ["litellm-logs@settings", "litellm-logs@custom"]
    assert TEMPLATE["ignore_missing_component_templates"] == ["litellm-logs@custom"]
    assert "settings" not in TEMPLATE["template"], "they would stand over the user's layer"


def test_what_is_shipped_is_not_changed_by_use():
    before = copy.deepcopy(templates.index_template("a"))
    templates.index_template("a")["template"]["mappings"]["properties"].clear()
    assert templates.index_template("a") == before
    index_settings(lifecycle=True).clear()
    assert index_settings(lifecycle=False)


@pytest.mark.parametrize("age", ["400 days", "36 hours", "1 h"])
def test_an_index_is_deleted_when_all_of_its_events_have_expired(age):
    """An index may be made in the first second of its day; its last event comes a day later."""
    settings = load(environ={"LLMLOG_MAX_EVENT_AGE": age})
    delete = templates.lifecycle_policy(settings.max_event_age)["phases"]["delete"]["min_age"]
    assert delete.endswith("d")
    assert timedelta(days=int(delete[:-1])) >= settings.max_event_age + timedelta(days=1)

"""A new version reads what the old one wrote, and the old one what the new one writes."""

import copy
import io
import itertools
import json

import fastavro
import pytest
from fastavro.utils import generate_many

from llmlog_schemas.codec import CURRENT_VERSION, schema_text
from llmlog_schemas.event import LLMEvent

SAMPLES = 20


def reads(reader, writer):
    """Return why records of one schema cannot be read with the other; None where they can."""
    reader, writer = (fastavro.parse_schema(copy.deepcopy(schema)) for schema in (reader, writer))
    for record in generate_many(writer, SAMPLES):
        value = io.BytesIO()
        fastavro.schemaless_writer(value, writer, record)
        value.seek(0)
        try:
            fastavro.schemaless_reader(value, writer, reader)
        except Exception as error:  # noqa: BLE001 - fastavro raises several kinds
            return f"{type(error).__name__}: {error}"
    return None


def incompatibilities(older, newer):
    """Return what keeps two versions apart, one line for each direction."""
    ways = {
        "backward (new consumer, old events)": reads(newer, older),
        "forward (old consumer, new events)": reads(older, newer),
    }
    return [f"{way}: {why}" for way, why in ways.items() if why]


def v1():
    return json.loads(schema_text(1))


def test_all_shipped_versions_are_compatible_both_ways():
    schemas = [json.loads(schema_text(number)) for number in range(1, CURRENT_VERSION + 1)]
    for older, newer in itertools.combinations_with_replacement(schemas, 2):
        assert incompatibilities(older, newer) == []


def test_the_event_of_the_code_is_the_record_of_the_current_schema():
    fields = [field["name"] for field in json.loads(schema_text())["fields"]]
    assert fields == list(LLMEvent.__annotations__)


# The check itself: what it lets pass, and what it catches.


@pytest.mark.parametrize("at", [0, 7, 14])
@pytest.mark.parametrize(
    "field",
    [
        {"name": "region", "type": "string", "default": ""},
        {"name": "retries", "type": "long", "default": -1},
        {"name": "extra_part", "type": "bytes", "default": ""},
    ],
)
def test_a_field_with_a_default_may_be_added(at, field):
    newer = v1()
    newer["fields"].insert(at, field)
    assert incompatibilities(v1(), newer) == []


def test_documentation_may_change():
    newer = v1()
    newer["doc"] = "other words"
    newer["fields"][0].pop("doc")
    assert incompatibilities(v1(), newer) == []


def test_a_field_without_a_default_cannot_be_added():
    newer = v1()
    newer["fields"].append({"name": "region", "type": "string"})
    (why,) = incompatibilities(v1(), newer)
    assert why.startswith("backward")
    assert "region" in why


@pytest.mark.parametrize("name", [field["name"] for field in v1()["fields"]])
def test_a_field_without_a_default_cannot_be_removed(name):
    newer = v1()
    newer["fields"] = [field for field in newer["fields"] if field["name"] != name]
    (why,) = incompatibilities(v1(), newer)
    assert why.startswith("forward")
    assert name in why


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model", "long"),
        ("start_time_ms", "string"),
        ("response_cost", "long"),
        ("total_tokens", "double"),
        ("document", "string"),
    ],
)
def test_a_type_cannot_change(name, other):
    newer = v1()
    next(field for field in newer["fields"] if field["name"] == name)["type"] = other
    assert incompatibilities(v1(), newer)


def test_a_field_cannot_be_renamed():
    newer = v1()
    newer["fields"][5]["name"] = "model_name"
    assert len(incompatibilities(v1(), newer)) == 2

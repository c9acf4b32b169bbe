"""Kibana's objects are what their builder builds, and name fields of a fitting type."""

import json
from pathlib import Path

import pytest

from support.builders import load_builder

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "schemas/llmlog_schemas/elasticsearch/index_template.json"
NUMBERS = {"double", "long"}
FITTING = {
    "sum": NUMBERS, "average": NUMBERS, "percentile": NUMBERS, "terms": {"keyword"},
    "date_histogram": {"date"}, "filter": {"keyword", "boolean"}, "column": {"keyword", "text"},
}  # fmt: skip
"""The types of fields that each use takes."""


BUILDER = load_builder("kibana")
OBJECTS = [json.loads(line) for line in BUILDER.FILE.read_text().splitlines()]
IDS = {(one["type"], one["id"]) for one in OBJECTS}


def types(properties, prefix=""):
    for name, field in properties.items():
        if "properties" in field:
            yield from types(field["properties"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field["type"]


TYPES = dict(types(json.loads(TEMPLATE.read_text())["template"]["mappings"]["properties"]))


def named_in(value):
    """Yield each field that an object names, whatever the builder says of it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"sourceField", "timeFieldName"}:
                yield inner
            elif key in {"term", "terms", "exists", "range"} and isinstance(inner, dict):
                yield from inner
            elif key in {"panelsJSON", "searchSourceJSON", "optionsJSON"}:
                yield from named_in(json.loads(inner))
            elif key == "columns" and isinstance(inner, list):
                yield from (name for name in inner if isinstance(name, str))
            else:
                yield from named_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from named_in(inner)


def test_the_objects_are_the_built_ones():
    assert BUILDER.FILE.read_text() == BUILDER.build(), "run `make docs`"


@pytest.mark.parametrize("name", BUILDER.fields())
def test_every_field_exists_with_a_fitting_type(name):
    for use in BUILDER.fields()[name]:
        assert TYPES[name] in FITTING[use], f"{name} is {TYPES[name]}: {use}"


def test_no_object_names_a_field_that_is_not_looked_at():
    assert set(named_in(OBJECTS)) == set(BUILDER.fields()) | {"___records___"}


def test_what_objects_refer_to_is_there_and_each_id_is_once():
    assert len(IDS) == len(OBJECTS)
    for one in OBJECTS:
        references = one["references"]
        names = [reference["name"] for reference in references]
        assert len(set(names)) == len(names)
        assert {(reference["type"], reference["id"]) for reference in references} <= IDS
        if one["type"] == "dashboard":
            panels = json.loads(one["attributes"]["panelsJSON"])
            assert {f"{p['panelIndex']}:{p['panelRefName']}" for p in panels} == set(names)
            assert len({(p["gridData"]["x"], p["gridData"]["y"]) for p in panels}) == len(panels)


def test_every_panel_is_on_a_dashboard():
    shown = {r["id"] for one in OBJECTS if one["type"] == "dashboard" for r in one["references"]}
    assert shown == {panel.id for panel in BUILDER.PANELS} | {"llmlog-failures"}

"""What each change does to a document, and what none may touch."""

from __future__ import annotations

import copy
import json
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.dead_letters.mending.changes import (
    MAX_CHANGES,
    MAX_VALUE_CHARACTERS,
    PROTECTED,
    TYPES,
    CannotChangeError,
    parse_changes,
    read_first,
)
from llmlog_consumer.dead_letters.mending.history import (
    MAX_BYTES,
    read_history_of_mending,
    write_history,
)

GONE = object()
DOCUMENT = {
    "model": "gpt-4o",
    "response_cost": "0.25",
    "metadata": {"key": "a", "deep": {"x": 1}},
    "metadata.key": "b",
    "tools": [{"name": "f"}, {"name": "g", "more": {"name": 1}}],
}


def changed(document=DOCUMENT, **options):
    """Return a document after its changes, and in how many places each was made."""
    mended = copy.deepcopy(document)
    return mended, [change.make(mended) for change in parse_changes(**options)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"drop": ["metadata.key"]}, {"metadata": {"deep": {"x": 1}}, "metadata.key": GONE}),
        ({"drop": ["tools.name"]}, {"tools": [{}, {"more": {"name": 1}}]}),
        ({"drop": ["tools.more.name"]}, {"tools": [{"name": "f"}, {"name": "g", "more": {}}]}),
        ({"coerce": ["response_cost=double"]}, {"response_cost": 0.25}),
        ({"coerce": ["metadata.deep=keyword"]}, {"metadata": {"key": "a", "deep": '{"x": 1}'}}),
        ({"coerce": ["model=object"]}, {"model": {"value": "gpt-4o"}}),
        ({"to_set": ["model=gpt-5"]}, {"model": "gpt-5"}),
        ({"to_set": ["model=5"]}, {"model": 5}),
        ({"to_set": ['model="5"']}, {"model": "5"}),
        ({"to_set": ["model=null"]}, {"model": None}),
        ({"to_set": ["model=NaN"]}, {"model": "NaN"}),
        ({"to_set": ["model=0.12345678901234567890123"]}, {"model": "0.12345678901234567890123"}),
        ({"to_set": ['model={"a":1,"a":2}']}, {"model": '{"a":1,"a":2}'}),
        ({"to_set": ["model=a=b"]}, {"model": "a=b"}),
        ({"to_set": ["new.inner=[1]"]}, {"new": {"inner": [1]}}),
        ({"drop": ["model"], "to_set": ["model.name=x"]}, {"model": {"name": "x"}}),
    ],
)
def test_a_change_is_made_wherever_the_field_is_and_nowhere_else(options, expected):
    mended, places = changed(**options)
    whole = {**DOCUMENT, **expected}
    assert mended == {name: value for name, value in whole.items() if value is not GONE}
    assert all(places)


def test_a_field_that_is_absent_is_neither_dropped_nor_coerced():
    mended, places = changed(drop=["none", "model.x"], coerce=["metadata.none=long"])
    assert (mended, places) == (DOCUMENT, [0, 0, 0])


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        ("12", "long", 12),
        (" -3 ", "integer", -3),
        ("12.0", "long", 12),
        (2.0, "long", 2),
        ("1e3", "long", 1000),
        ("0.5", "float", 0.5),
        (3, "double", 3.0),
        ("TRUE", "boolean", True),
        (False, "boolean", False),
        (12, "keyword", "12"),
        (True, "text", "true"),
        ('{"a": 1}', "object", {"a": 1}),
        ("[1]", "object", {"value": "[1]"}),
        ([1], "object", {"value": [1]}),
        ([1, "2"], "long", [1, 2]),
        (None, "long", None),
        ('{"a": 1, "a": 2}', "object", {"value": '{"a": 1, "a": 2}'}),
        ('{"a": 0.12345678901234567890123}', "object",
         {"value": '{"a": 0.12345678901234567890123}'}),
    ],
)  # fmt: skip
def test_a_value_becomes_one_of_its_type(value, kind, result):
    mended, _ = changed({"field": value}, coerce=[f"field={kind}"])
    assert mended == {"field": result}
    assert type(mended["field"]) is type(result)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("secret", "long"), ("1_000", "long"), ("12.5", "long"), (True, "long"), ({}, "long"),
        ("9223372036854775808", "long"), (2**63, "long"), ("١", "long"), ("", "long"),  # noqa: RUF001
        ("nan", "double"), ("Infinity", "double"), ("1e999", "double"), (10**400, "double"),
        (True, "double"), ("9" * 400, "double"),
        (inf, "keyword"), (inf, "text"), ({"a": [inf]}, "keyword"), ([1, -inf], "text"),
        ("yes", "boolean"), (1, "boolean"), ([True, "no"], "boolean"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_of_a_type_is_refused_and_not_quoted(value, kind):
    with pytest.raises(CannotChangeError, match=rf"^field has .* type {kind}$") as caught:
        changed({"field": value}, coerce=[f"field={kind}"])
    assert "secret" not in str(caught.value)


def test_a_field_within_what_is_no_object_cannot_be_set():
    with pytest.raises(CannotChangeError, match=r"^model is no object$"):
        changed(to_set=["model.name=x"])


@pytest.mark.parametrize("field", sorted(PROTECTED))
@pytest.mark.parametrize("below", ["", ".x"])
def test_neither_the_event_id_nor_its_times_are_ever_changed(field, below):
    name = field + below
    for options in (
        {"drop": [name]},
        {"coerce": [f"{name}=long"]},
        {"to_set": [f"{name}=1"]},
    ):
        with pytest.raises(ConfigurationError, match="never changed"):
            parse_changes(**options)
    assert {"event_id", "@timestamp", "startTime"} <= PROTECTED


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"to_set": ["model"]}, "write FIELD=VALUE"),
        ({"to_set": ["=x"]}, "names no field"),
        ({"to_set": ["a..b=x"]}, "names no field"),
        ({"drop": [""]}, "names no field"),
        ({"drop": ["a" * 201]}, "names no field"),
        ({"coerce": ["model"]}, "types are keyword, text, long"),
        ({"coerce": ["model=date"]}, "types are keyword"),
        ({"to_set": ["a=" + "x" * (MAX_VALUE_CHARACTERS + 1)]}, "at most 4000 characters"),
        ({"drop": ["a"] * (MAX_CHANGES + 1)}, "at most 16 at once"),
    ],
)
def test_what_is_no_change_is_refused_with_how_to_write_it(options, why):
    with pytest.raises(ConfigurationError, match=why):
        parse_changes(**options)


def test_changes_are_made_in_their_order_and_written_as_a_person_writes_them():
    changes = parse_changes(to_set=["a=x", "b=1"], coerce=["c=long"], drop=["d.e"])
    assert [change.describe() for change in changes] == [
        "drop d.e",
        "coerce c=long",
        'set a="x"',
        "set b=1",
    ]


def test_a_value_that_is_set_twice_is_not_shared():
    changes = parse_changes(to_set=["a={}", "a.b=1"])
    first, second = {}, {}
    for document in (first, second):
        for change in changes:
            change.make(document)
    first["a"]["b"] = 2
    assert (changes[0].value, second) == ({}, {"a": {"b": 1}})


NAMES = st.sampled_from(["a", "b", "a.b", "@timestamp", "event_id", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(NAMES, JSON, max_size=4),
    st.sampled_from(["a", "b", "a.b", "b.a.b"]),
    st.sampled_from([None, *TYPES]),
)
def test_whatever_a_document_holds_a_change_leaves_its_id_and_time_alone(document, field, kind):
    options = {"drop": [field]} if kind is None else {"coerce": [f"{field}={kind}"]}
    kept = {name: copy.deepcopy(document.get(name)) for name in ("@timestamp", "event_id", "")}
    try:
        changed(document, **options)
    except CannotChangeError:
        return
    mended, _ = changed(document, **options)
    # As text: one NaN is not equal to another.
    assert repr({name: mended.get(name) for name in kept}) == repr(kept)
    if kind is None:
        assert read_first(mended, field) is None


# The header


def history(earlier="", by="ada@host", **options):
    return write_history(earlier, parse_changes(**options), by=by, at="2026-01-31T00:00:00+00:00")


def test_the_header_says_what_was_changed_by_whom_and_when():
    first = history(to_set=["model=gpt-5"]).decode()
    both = history(first, by="bob", drop=["metadata.key"]).decode()
    assert read_history_of_mending(both, show_content=True) == [
        {"change": "set", "field": "model", "to": "gpt-5", "by": "ada@host",
         "at": "2026-01-31T00:00:00+00:00"},
        {"change": "drop", "field": "metadata.key", "by": "bob",
         "at": "2026-01-31T00:00:00+00:00"},
    ]  # fmt: skip
    assert "gpt-5" not in json.dumps(read_history_of_mending(both, show_content=False))


def test_of_a_header_that_would_be_too_long_the_newest_entries_stay():
    text = ""
    for number in range(40):
        text = history(text, to_set=[f"field{number}={'é' * 200}"]).decode()
    entries = read_history_of_mending(text, show_content=True)
    assert len(text.encode()) <= MAX_BYTES
    assert entries[-1]["field"] == "field39"


@pytest.mark.parametrize("text", ["", "x", "[1]", "{}", '[{"field": 1}]', "[" * 2000, "null"])
def test_a_header_of_another_program_has_no_entries(text):
    assert read_history_of_mending(text, show_content=True) == []

"""Any payload at all becomes an event, travels, and becomes one line of valid JSON."""

import json
import math
from decimal import Decimal
from enum import Enum
from itertools import starmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.elasticsearch.document import one_line
from llmlog_schemas.codec import Decoder, Encoder
from llmlog_schemas.convert import to_event
from llmlog_schemas.event import EVENT_ID, event_time_ms
from llmlog_schemas.fields import DOCUMENT, SEARCH_TEXTS, TIMESTAMP, TYPED, UNTYPED
from llmlog_schemas.json_form import dumps
from llmlog_schemas.kinds import Kind
from llmlog_schemas.truncate import truncate_event


class Colour(Enum):
    RED = "red"


class Dumped:
    """Like a pydantic model around something else."""

    def __init__(self, inner):
        self.inner = inner

    def model_dump(self):
        return {"inner": self.inner}


class Broken:
    def __str__(self):
        raise RuntimeError("no")

    def model_dump(self):
        raise RuntimeError("no")


# `st.text()` alone leaves out the surrogates.
texts = st.text(st.characters(categories=None), max_size=20) | st.sampled_from(
    ["", "\n", "\r\n", "\0", "\ud800", "\udc00\ud800", "\u2028", '"', "\\", '"}\n{"delete":{}}\n',
     "true", "1", "1e999", "nan", "x" * 1500]
)  # fmt: skip
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, -0.0, 5e-324])
)
leaves = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | st.binary(max_size=20)
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.just(Colour.RED)
    | st.just(Decimal("1.10"))
    | st.builds(Broken)
    | st.builds(object)
    | st.just(Dumped)
)
hashables = texts | st.integers() | st.booleans() | st.none() | st.binary(max_size=5) | st.floats()


def containers(children):
    return (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=4).map(tuple)
        | st.dictionaries(hashables, children, max_size=4)
        | st.sets(hashables, max_size=4)
        | children.map(Dumped)
    )


values = st.recursive(leaves, containers, max_leaves=12)
moments = st.floats(1_577_836_800, 4_102_444_799) | values
known = st.sampled_from([*DOCUMENT, "mistyped"])
payloads = st.builds(
    lambda fields, others, start: {**others, **fields, "startTime": start},
    st.dictionaries(known, values, max_size=8),
    st.dictionaries(hashables, values, max_size=3),
    moments,
)
NOW = 1_800_000_000.0
BOTH = {name: name for name in TYPED} | {"startTime": "start_time_ms", "endTime": "end_time_ms"}
"""Names in a document, and of the same fields in an event."""


def strict(raw):
    """Read JSON as Elasticsearch does: UTF-8, no NaN, no name twice in an object."""

    def unique(pairs):
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), "a name stands twice in one object"
        return dict(pairs)

    return json.loads(
        raw.decode("utf-8", "strict"), parse_constant=pytest.fail, object_pairs_hook=unique
    )


def same(left, right):
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return type(left) is type(right) and left == right


def is_long(value):
    return type(value) is int and -(2**63) <= value < 2**63


HOLDS = {
    Kind.KEYWORD: lambda value: type(value) is str,
    Kind.TEXT: lambda value: type(value) is str,
    Kind.BOOLEAN: lambda value: type(value) is bool,
    Kind.LONG: is_long,
    Kind.COUNT: is_long,
    Kind.MEASURE: lambda value: type(value) in (int, float) and math.isfinite(value),
    Kind.DOUBLE: lambda value: type(value) in (int, float) and math.isfinite(value),
    Kind.SECONDS: is_long,
    Kind.KEYWORDS: lambda value: type(value) is list and all(type(v) is str for v in value),
    Kind.FLATTENED: lambda value: type(value) is dict and within_flattened(value),
    Kind.STORED: lambda value: True,
}


def within_flattened(value, depth=1):
    if isinstance(value, dict):
        return depth <= 18 and all(
            key and "\0" not in key and len(key.encode()) <= 600 and within_flattened(v, depth + 1)
            for key, v in value.items()
        )
    if isinstance(value, list):
        return depth <= 18 and all(within_flattened(item, depth + 1) for item in value)
    return True


@given(payloads)
def test_any_payload_travels_and_becomes_one_line_of_valid_json(payload):
    event = to_event(payload, call_id="c", captured_at=NOW)

    value = Encoder().encode(event)
    decoded = Decoder().decode(value)
    assert all(starmap(same, ((decoded[name], event[name]) for name in event)))
    assert decoded.keys() == event.keys()

    assert EVENT_ID.fullmatch(event["event_id"])
    assert event_time_ms(event["event_id"]) == event["start_time_ms"]

    line = one_line(decoded["document"])
    assert b"\n" not in line
    assert b"\r" not in line
    found = strict(line)
    for name, held in found.items():
        assert HOLDS[DOCUMENT[name]](held), (name, held)
    assert isinstance(found.get("extra", {}), dict)
    assert all(found[name] == event[field] for name, field in BOTH.items() if name in found)


@given(payloads)
def test_every_value_of_the_payload_leaves_a_trace(payload):
    payload = {key: value for key, value in payload.items() if key != "model_map_information"}
    event = to_event(payload, call_id="c", captured_at=NOW, search_text=False)
    found = strict(event["document"])
    extra = found.get("extra", {})
    mistyped = extra.get("mistyped", {})
    for name, value in payload.items():
        if value is None or name in (*SEARCH_TEXTS, TIMESTAMP, "mistyped", "extra"):
            continue
        if name in TYPED or name in UNTYPED:
            # Empty words are absence; everything else is in its place or beside it.
            assert name in found or name in mistyped or value == "", name
    unknown = {key for key in payload if key not in TYPED and key not in UNTYPED and key != "extra"}
    assert len([name for name in extra if name not in ("mistyped", "extra")]) >= len(
        unknown - {"mistyped"}
    )


@given(payloads, st.integers(600, 2000))
def test_a_truncated_event_is_an_event(payload, bound):
    whole = to_event(payload, call_id="c", captured_at=NOW)
    event = truncate_event(whole, bound)
    found = strict(one_line(event["document"]))
    typed = {
        name: value
        for name, value in strict(whole["document"]).items()
        if name in (*TYPED, TIMESTAMP)
    }
    assert len(event["document"]) <= max(bound, len(dumps(typed)) + 150)
    assert all(HOLDS[DOCUMENT[name]](held) for name, held in found.items())
    assert {**event, "document": whole["document"]} == whole


@given(values)
def test_any_object_has_a_json_form(value):
    written = dumps(value)
    assert b"\n" not in written
    strict(written)


@given(payloads)
def test_a_doubly_fired_pair_has_one_id(payload):
    first, second = (
        to_event({**payload, "litellm_call_id": "c"}, captured_at=NOW) for _ in range(2)
    )
    assert first["event_id"] == second["event_id"]

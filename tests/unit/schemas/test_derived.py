"""Derived fields: the right value of each, absence, other types, bounds, and costs that add up."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_schemas.convert import to_event
from llmlog_schemas.derived.aliases import ALIASES
from llmlog_schemas.derived.table import DERIVED, MAX_ITEMS
from llmlog_schemas.fields import DOCUMENT, TYPED, UNTYPED
from llmlog_schemas.kinds import Kind
from support.rich_payload import RIGHT_VALUES, START, TRACE, rich_payload

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=8), of, max_size=3),
)


def document_of(payload):
    return json.loads(to_event(payload, captured_at=START)["document"])


def derived_of(payload):
    return {name: value for name, value in document_of(payload).items() if name in DERIVED}


def mistyped_of(payload):
    return document_of(payload).get("extra", {}).get("mistyped", {})


def put(payload, path, value):
    """Replace what stands at a path; `[]` and `{}` at its end stand for the whole container."""
    *above, last = path.rstrip("[]{}").split(".")
    node = payload
    for key in above:
        node = node.setdefault(key.removesuffix("[]"), {})
        node = node[0] if isinstance(node, list) else node
    node[last] = value
    return payload


def test_every_field_has_its_right_value():
    assert RIGHT_VALUES.keys() == DERIVED.keys()
    found = derived_of(rich_payload())
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value
        for name, value in RIGHT_VALUES.items()
    }


def test_of_nothing_nothing_is_derived():
    assert derived_of({}) == {}
    absent = dict.fromkeys(rich_payload()) | {"metadata": dict.fromkeys(rich_payload()["metadata"])}
    assert derived_of(absent) == {}


def test_the_empty_words_of_a_success_are_no_error():
    error = dict.fromkeys(rich_payload()["error_information"], "")
    assert "error_class" not in derived_of(rich_payload() | {"error_information": error})


def test_no_derived_name_is_one_of_litellms_own():
    assert not DERIVED.keys() & (TYPED.keys() | UNTYPED.keys())
    assert not DERIVED.keys() & ALIASES.keys()


NUMBERS = [
    (name, path)
    for name, field in DERIVED.items()
    for path in field.paths[:1]
    if field.kind in (Kind.MEASURE, Kind.COUNT)
    and path.startswith(("metadata.", "cost_", "hidden", "llmlog"))
    and not path.endswith("{}")
]


@pytest.mark.parametrize("value", ["0.5", "many", True, [1], {"a": 1}, math.nan, math.inf, 2**70])
@pytest.mark.parametrize(("name", "path"), NUMBERS)
def test_a_number_of_another_type_is_absent_and_kept(name, path, value):
    payload = put(rich_payload(), path, value)
    assert name not in derived_of(payload)
    kept = mistyped_of(payload)[path]
    assert kept == (value if value not in (math.inf, 2**70) and value == value else str(value))


TEXTS = [
    (name, field.paths[0])
    for name, field in DERIVED.items()
    if field.kind is Kind.KEYWORD and name not in ("trace.id", "fallback_from")
]


@pytest.mark.parametrize("value", [5, 0.5, True, ["a"], {"a": "b"}])
@pytest.mark.parametrize(("name", "path"), TEXTS)
def test_a_text_of_another_type_is_absent_and_kept(name, path, value):
    payload = put(rich_payload(), path, value)
    assert name not in derived_of(payload)
    assert mistyped_of(payload)[path] == value


@pytest.mark.parametrize("path", [
    "metadata.usage_object", "metadata.usage_object.prompt_tokens_details",
    "cost_breakdown.additional_costs",
])  # fmt: skip
@pytest.mark.parametrize("value", [["a"], "text", 5])
def test_a_container_of_another_type_is_kept(path, value):
    assert mistyped_of(put(rich_payload(), path, value))[path] == value


def test_a_list_where_an_object_was_leaves_nothing_of_it():
    found = document_of(rich_payload() | {"metadata": [1], "cost_breakdown": [2]})
    assert found["extra"]["mistyped"] == {"metadata": [1], "cost_breakdown": [2]}
    from_these = {n for n, f in DERIVED.items() if f.paths[0].startswith(("metadata", "cost_"))}
    assert not from_these - {"tool_names_called", "trace.id"} & found.keys()


@pytest.mark.parametrize("value", [{"guardrail_name": "pii"}, "pii", 5])
def test_guardrails_that_are_no_list_are_kept(value):
    payload = rich_payload() | {"guardrail_information": value}
    assert mistyped_of(payload) == {"guardrail_information": value}
    assert "guardrail_action" not in derived_of(payload)


def test_whole_numbers_may_be_written_as_fractions():
    path = "metadata.usage_object.prompt_tokens_details.cached_tokens"
    assert derived_of(put(rich_payload(), path, 64.0))["cached_tokens"] == 64
    assert "cached_tokens" not in derived_of(put(rich_payload(), path, 64.5))
    assert "cached_tokens" not in derived_of(put(rich_payload(), path, -1))


@pytest.mark.parametrize("name", [n for n, field in DERIVED.items() if field.kind is Kind.KEYWORDS])
def test_lists_hold_64_entries_each_once(name):
    names = [f"n{number}" for number in range(100)]
    payload = rich_payload()
    payload["model_parameters"] = {"tools": [{"function": {"name": one}} for one in names * 2]}
    payload["guardrail_information"] = [
        {
            "guardrail_name": one,
            "guardrail_action": one,
            "guardrail_mode": [one, one],
            "guardrail_provider": one,
            "masked_entity_count": {one: 1},
            "violation_categories": [one],
        }
        for one in names * 2
    ]
    choice = {"message": {"tool_calls": [{"function": {"name": one}} for one in names]}}
    payload["response"] = {"choices": [choice | {"finish_reason": one} for one in names]}
    assert derived_of(payload)[name] == names[:MAX_ITEMS]


# Money


# What LiteLLM wrote for one answer with 64 cached and 8 reasoning tokens of 100 and 20; for one
# that also wrote to the cache; and with a discount of 10% and a margin of 25%.
BREAKDOWNS = [
    (2.22e-05, {
        "input_cost": 1.02e-05, "output_cost": 1.2e-05, "total_cost": 2.22e-05,
        "tool_usage_cost": 0.0, "cache_read_cost": 4.8e-06, "reasoning_cost": 4.8e-06,
        "original_cost": 2.22e-05, "discount_amount": 0.0, "margin_total_amount": 0.0,
    }),
    (0.0011459999999999999, {
        "input_cost": 0.001011, "output_cost": 0.000135, "total_cost": 0.0011459999999999999,
        "tool_usage_cost": 0.0, "cache_read_cost": 0.0006, "cache_creation_cost": 0.000375,
        "reasoning_cost": 1.5e-05, "original_cost": 0.0011459999999999999,
    }),
    (2.4975000000000004e-05, {
        "input_cost": 1.02e-05, "output_cost": 1.2e-05, "total_cost": 2.4975000000000004e-05,
        "tool_usage_cost": 0.0, "cache_read_cost": 4.8e-06, "reasoning_cost": 4.8e-06,
        "original_cost": 2.22e-05, "discount_percent": 0.1,
        "discount_amount": 2.2200000000000003e-06, "margin_percent": 0.25,
        "margin_total_amount": 4.9950000000000005e-06,
    }),
    (rich_payload()["response_cost"], rich_payload()["cost_breakdown"]),
]  # fmt: skip


@pytest.mark.parametrize(("response_cost", "breakdown"), BREAKDOWNS)
def test_the_parts_of_a_cost_add_up_to_it(response_cost, breakdown):
    found = derived_of({"cost_breakdown": breakdown}).get
    parts = ("input_cost", "cache_read_cost", "cache_write_cost", "output_cost", "tool_cost",
             "additional_cost")  # fmt: skip
    original = sum(found(part, 0) for part in parts)
    assert original == pytest.approx(found("original_cost"))
    changes = found("margin_amount", 0) - found("discount_amount", 0)
    assert original + changes + found("guardrail_cost", 0) == pytest.approx(response_cost)
    assert found("reasoning_cost") <= found("output_cost")


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"input_cost": 0.004, "output_cost": 0.006}, 0.004),
        ({"input_cost": 0.004, "cache_read_cost": 0.001}, 0.003),
        ({"input_cost": 0.004, "cache_read_cost": 0.001, "total_cost": 0.004}, 0.003),
        ({"input_cost": 0.004, "cache_read_cost": 0.001, "total_cost": 0.005}, 0.004),
        ({"input_cost": 0.004, "cache_read_cost": 0.001, "total_cost": 0.009}, None),
        ({"cache_read_cost": 0.001, "total_cost": 0.004}, None),
    ],
    ids=["no cache", "as LiteLLM does", "the cache within", "the cache beside", "neither", "none"],
)
def test_input_is_what_no_cache_had(costs, expected):
    assert derived_of({"cost_breakdown": costs}).get("input_cost") == expected


# Time


def stream(**changed):
    names = ("stream", "startTime", "completionStartTime", "endTime", "completion_tokens")
    payload = {name: rich_payload()[name] for name in names}
    found = derived_of(payload | changed)
    return found.get("duration"), found.get("time_to_first_token"), found.get("tokens_per_second")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (2.5, 0.5, 10.0)),
        ({"stream": False}, (2.5, None, None)),
        ({"stream": None}, (2.5, None, None)),
        ({"completionStartTime": START + 2.5}, (2.5, None, None)),  # no token came
        ({"completionStartTime": START - 1}, (2.5, None, None)),
        ({"completionStartTime": None}, (2.5, None, None)),
        ({"completion_tokens": 0}, (2.5, 0.5, None)),
        ({"cache_hit": True}, (2.5, 0.5, None)),
        ({"endTime": START - 1}, (None, None, None)),
        ({"endTime": None}, (None, None, None)),
        ({"startTime": None}, (None, None, None)),
        ({"startTime": "soon"}, (None, None, None)),
    ],
)
def test_times_are_of_what_happened(changed, expected):
    assert stream(**changed) == expected


@pytest.mark.parametrize("text", [
    "", "x", f"00-{TRACE}-b7ad6b7169203331", f"ff-{TRACE}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-b7ad6b7169203331-01", 5, None, [TRACE],
])  # fmt: skip
def test_a_trace_that_is_not_valid_is_none(text):
    path = "metadata.requester_metadata.headers.traceparent"
    assert "trace.id" not in derived_of(put(rich_payload(), path, text))


def test_a_call_that_fell_back_from_nothing_names_nothing():
    found = derived_of(put(rich_payload(), "llmlog_call.attempted_fallbacks", 0))
    assert found["fallbacks"] == 0
    assert "fallback_from" not in found


@pytest.mark.parametrize(
    ("costs", "input_cost"),
    [
        ({"input_cost": 3.0, "cache_read_cost": 2.0}, 1.0),
        ({"input_cost": 2.0, "cache_read_cost": 2.0}, 0.0),
        ({"input_cost": 1.0, "cache_read_cost": 2.0}, None),
        ({"input_cost": 1.0, "cache_creation_cost": 2.0, "original_cost": 1.0}, None),
        ({"input_cost": 1.0, "cache_read_cost": 2.0, "original_cost": 3.0}, 1.0),
    ],
)
def test_no_input_costs_less_than_nothing(costs, input_cost):
    assert derived_of({"cost_breakdown": costs}).get("input_cost") == input_cost


# Answers of all forms


@pytest.mark.parametrize(
    ("response", "tools", "reasons"),
    [
        ({"choices": [{"finish_reason": "stop", "message": {"function_call": {"name": "f"}}}]},
         ["f"], ["stop"]),
        ({"choices": [{"message": {"tool_calls": [
            {"type": "custom", "custom": {"name": "f", "input": "a text"}},
            {"type": "function", "function": {"name": "g"}}]}}]}, ["f", "g"], None),
        ({"content": [{"type": "text"}, {"type": "tool_use", "name": "f"}], "stop_reason": "end"},
         ["f"], ["end"]),
        ({"output": [{"type": "function_call", "name": "f"}, {"type": "web_search_call"},
                     {"type": "message"}]}, ["f", "web_search"], None),
        ({"candidates": [{"finishReason": "STOP",
                          "content": {"parts": [{"functionCall": {"name": "f"}}]}}]},
         ["f"], ["STOP"]),
        ({"response": '{"stop_reason": "end", "content": [{"type": "tool_use", "name": "f"}]}'},
         ["f"], ["end"]),
        ({"choices": [{"finish_reason": "<redacted>", "message": "<redacted>"}]}, None, None),
        ({"choices": 5, "output": 6, "content": 7}, None, None),
        ("text", None, None),
    ],
)  # fmt: skip
def test_tools_and_reasons_are_found_in_every_providers_form(response, tools, reasons):
    found = derived_of({"response": response})
    assert found.get("tool_names_called") == tools
    assert found.get("finish_reasons") == reasons


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ({"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}}, "f"),
        ({"type": "custom", "name": "f"}, "f"),
        ({"type": "custom", "custom": {}}, "custom"),
        ({"type": "function", "function": {"name": "f"}}, "f"),
    ],
)
def test_a_tool_is_offered_by_its_name(tool, name):
    found = derived_of({"model_parameters": {"tools": [tool]}})
    assert found["tool_names_offered"] == [name]


@given(st.sampled_from([(n, p) for n, f in DERIVED.items() for p in f.paths]), VALUES)
def test_whatever_stands_at_a_source_every_field_holds_its_kind(field, value):
    name, path = field
    found = document_of(put(rich_payload(), path, value))
    held = found.get(name)
    kinds = {Kind.KEYWORD: str, Kind.KEYWORDS: list, Kind.COUNT: int, Kind.MEASURE: (int, float)}
    if held is not None:
        assert isinstance(held, kinds[DOCUMENT[name]])
        assert not isinstance(held, bool)
    if DOCUMENT[name] is Kind.KEYWORDS:
        assert all(isinstance(one, str) for one in held or ())

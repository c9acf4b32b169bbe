"""LiteLLM's payload to an event: coercion, identity, what is kept where, and the size bound."""

import datetime as dt
import hashlib
import json
import math
import re
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_schemas.codec import Decoder, Encoder
from llmlog_schemas.convert import PayloadError, to_event
from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.event import EVENT_ID, event_time_ms, make_event_id
from llmlog_schemas.fields import (
    DOCUMENT,
    DOCUMENT_VERSION,
    EXTRA,
    INDEXED_AT,
    SEARCH_TEXTS,
    TIMESTAMP,
    TYPED,
    UNTYPED,
)
from llmlog_schemas.json_form import dumps
from llmlog_schemas.limits import MAX_KEYWORD_CHARACTERS, MAX_SEARCH_TEXT_CHARACTERS
from llmlog_schemas.search_text import search_texts
from llmlog_schemas.truncate import truncate_event, write_within

START = 1_767_225_600.5  # 2026-01-01T00:00:00.5Z
START_MS = 1_767_225_600_500

BASE = {
    "litellm_call_id": "call-1",
    "trace_id": "trace-1",
    "call_type": "acompletion",
    "status": "success",
    "model": "gpt-4o-mini",
    "startTime": START,
    "endTime": START + 2,
    "response_time": 2.0,
    "response_cost": 0.0125,
    "prompt_tokens": 10,
    "completion_tokens": 0,
    "total_tokens": 10,
}


class CallType(str, Enum):  # noqa: UP042 - as LiteLLM's own are made
    COMPLETION = "acompletion"


class Message:
    """Like `litellm.Message`."""

    def __init__(self, **fields):
        self.fields = fields

    def model_dump(self):
        return self.fields


class Broken:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__

    def model_dump(self):
        raise RuntimeError("no")


def event_of(**overrides):
    return to_event({**BASE, **overrides})


def document(event):
    """Return the document without derived fields, which have tests of their own."""
    ours = {*DERIVED, DOCUMENT_VERSION}
    return {name: v for name, v in json.loads(event["document"]).items() if name not in ours}


def untyped(event):
    """Return the fields of the document that have no place of their own in the event."""
    known = (*TYPED, TIMESTAMP)
    return {name: value for name, value in document(event).items() if name not in known}


def extra(event):
    return document(event).get("extra")


def test_the_usual_payload_lands_in_the_typed_fields():
    event = event_of()
    assert {name: event[name] for name in BASE if name in event} == {
        name: value for name, value in BASE.items() if name not in ("startTime", "endTime")
    }
    assert event["start_time_ms"] == START_MS
    assert event["end_time_ms"] == START_MS + 2000
    times = {"@timestamp": START_MS, "startTime": START_MS, "endTime": START_MS + 2000}
    assert document(event) == {**BASE, **times}


def test_absence_has_a_form_of_its_own_in_every_field():
    event = to_event({}, captured_at=START)
    assert [event[name] for name in ("litellm_call_id", "trace_id", "call_type", "status")] == (
        [""] * 4
    )
    assert event["model"] == ""
    assert math.isnan(event["response_time"])
    assert math.isnan(event["response_cost"])
    assert [event[n] for n in ("prompt_tokens", "completion_tokens", "total_tokens")] == [-1] * 3
    assert event["end_time_ms"] == -1
    assert event["start_time_ms"] == START_MS
    assert document(event) == {"@timestamp": START_MS, "startTime": START_MS}


def test_zero_is_not_absence():
    event = event_of(response_cost=0, response_time=0.0, total_tokens=0)
    for found in (event, document(event)):
        assert [found[n] for n in ("response_cost", "response_time", "total_tokens")] == [0, 0, 0]


def test_null_is_absence_and_leaves_no_trace():
    event = event_of(
        response_cost=None, total_tokens=None, model=None, end_user=None, metadata=None
    )
    assert math.isnan(event["response_cost"])
    assert (event["total_tokens"], event["model"]) == (-1, "")
    assert untyped(event) == {}
    left = {"@timestamp", *BASE} - {"response_cost", "total_tokens", "model"}
    assert document(event).keys() == left


@pytest.mark.parametrize("payload", [None, "text", 1, [], b"{}", object()])
def test_a_payload_that_is_no_dict_is_refused_with_its_type(payload):
    with pytest.raises(PayloadError, match=f"the payload is {type(payload).__name__}"):
        to_event(payload)


def test_the_payload_is_not_changed():
    payload = {**BASE, "metadata": {1: {"a\0": (1, 2)}}, "new": {3: 4}, "total_tokens": "x"}
    before = repr(payload)
    to_event(payload)
    assert repr(payload) == before


# Coercion: what is lossless is done, the rest is absent and kept as it was.

NAMES = {"start_time_ms": "startTime", "end_time_ms": "endTime"}
KEPT = [
    ("model", 5, "model", "5"),
    ("model", 1.5, "model", "1.5"),
    ("model", True, "model", "true"),
    ("model", CallType.COMPLETION, "model", "acompletion"),
    ("call_type", CallType.COMPLETION, "call_type", "acompletion"),
    ("model", "a\ud800", "model", "a\\ud800"),
    ("model", "nul\0", "model", "nul\0"),
    pytest.param("model", 10**400, "model", str(10**400), id="model-400 digits"),
    ("response_cost", "0.5", "response_cost", 0.5),
    ("response_cost", 1, "response_cost", 1.0),
    ("response_time", "2", "response_time", 2.0),
    ("total_tokens", "12", "total_tokens", 12),
    ("total_tokens", 12.0, "total_tokens", 12),
    ("total_tokens", 2**63 - 1, "total_tokens", 2**63 - 1),
    ("startTime", str(START), "start_time_ms", START_MS),
    ("startTime", dt.datetime.fromtimestamp(START, dt.UTC), "start_time_ms", START_MS),
    ("startTime", dt.datetime.fromtimestamp(START), "start_time_ms", START_MS),  # noqa: DTZ006
    ("endTime", int(START), "end_time_ms", int(START) * 1000),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), KEPT)
def test_a_value_is_converted_where_nothing_is_lost(name, value, field, expected):
    event = event_of(**{name: value})
    assert event[field] == expected
    assert type(event[field]) is type(expected)
    assert document(event)[NAMES.get(field, field)] == expected
    assert extra(event) is None


MISTYPED = [
    ("model", ["a"], "", ["a"]),
    ("model", {"a": 1}, "", {"a": 1}),
    ("model", math.nan, "", "nan"),
    ("model", b"bytes", "", "bytes"),
    ("status", object, "", "<class 'object'>"),
    ("response_cost", "cheap", None, "cheap"),
    ("response_cost", "inf", None, "inf"),
    ("response_cost", math.inf, None, "inf"),
    ("response_cost", -math.inf, None, "-inf"),
    ("response_cost", math.nan, None, "nan"),
    ("response_cost", True, None, True),
    ("response_cost", [1], None, [1]),
    pytest.param("response_cost", 10**400, None, str(10**400), id="response_cost-400 digits"),
    ("total_tokens", 1.5, -1, 1.5),
    ("total_tokens", "many", -1, "many"),
    ("total_tokens", "1.0", -1, "1.0"),
    ("total_tokens", False, -1, False),
    ("total_tokens", -1, -1, -1),
    ("total_tokens", 2**63, -1, 2**63),
    ("total_tokens", math.inf, -1, "inf"),
    ("total_tokens", math.nan, -1, "nan"),
    ("total_tokens", {}, -1, {}),
    ("endTime", "now", -1, "now"),
    ("endTime", 1e300, -1, 1e300),
    ("endTime", dt.datetime(1, 1, 1), -1, "0001-01-01T00:00:00"),  # noqa: DTZ001
    ("endTime", True, -1, True),
]


@pytest.mark.parametrize(("name", "value", "absent", "original"), MISTYPED)
def test_a_value_that_conversion_would_change_is_absent_and_its_original_kept(
    name, value, absent, original
):
    event = event_of(**{name: value})
    found = event["end_time_ms" if name == "endTime" else name]
    assert math.isnan(found) if absent is None else found == absent
    assert name not in document(event)
    assert extra(event) == {"mistyped": {name: original}}


UNTYPED_KEPT = [
    ("id", 7, "7"),
    ("stream", True, True),
    ("stream", "true", True),
    ("cache_hit", "false", False),
    ("completionStartTime", START, START_MS),
    ("saved_cache_cost", "0.5", 0.5),
    ("request_tags", ["a", "b"], ["a", "b"]),
    ("request_tags", "a", ["a"]),
    ("request_tags", ("a", 1, None, CallType.COMPLETION), ["a", "1", "acompletion"]),
    ("request_tags", [], []),
    ("error_str", "line\nline", "line\nline"),
    ("hidden_params", {"a": {"b": 1}}, {"a": {"b": 1}}),
    ("hidden_params", Message(a=b"1"), {"a": "1"}),
    ("model_parameters", {"response_format": Message}, {"response_format": repr(Message)}),
    ("guardrail_information", [1, (2,)], [1, [2]]),
    ("model_parameters", "not an object", "not an object"),
]


@pytest.mark.parametrize(("name", "value", "expected"), UNTYPED_KEPT)
def test_untyped_fields_have_the_kind_of_their_field(name, value, expected):
    event = event_of(**{name: value})
    assert untyped(event) == {name: expected}


@pytest.mark.parametrize(
    ("name", "value", "original"),
    [
        ("stream", 1, 1),
        ("stream", "yes", "yes"),
        ("stream", Broken(), "<unreadable Broken: RuntimeError>"),
        ("end_user", ["a"], ["a"]),
        ("request_tags", {"a": 1}, {"a": 1}),
        ("request_tags", ["a", {"b": 1}], ["a", {"b": 1}]),
        ("hidden_params", [1], [1]),
        ("hidden_params", "scalar", "scalar"),
        ("saved_cache_cost", math.nan, "nan"),
        ("error_str", Broken(), "<unreadable Broken: RuntimeError>"),
    ],
)
def test_an_untyped_field_of_another_kind_is_kept_aside(name, value, original):
    event = event_of(**{name: value})
    assert untyped(event) == {"extra": {"mistyped": {name: original}}}


@pytest.mark.parametrize("metadata", ["text", 5, ["a"], Broken()])
def test_metadata_is_an_object_or_kept_aside(metadata):
    event = event_of(metadata=metadata)
    assert "metadata" not in document(event)
    assert list(extra(event)["mistyped"]) == ["metadata"]


def test_flattened_objects_stay_within_what_elasticsearch_takes():
    deep = leaf = {}
    for _ in range(40):
        leaf["d"] = {}
        leaf = leaf["d"]
    event = event_of(metadata={"deep": deep, "k" * 40_000: 1, "n\0ul": 2, "": 3, "lone\ud800": 4})
    metadata = document(event)["metadata"]
    depth, level = 1, metadata["deep"]
    while isinstance(level, dict):
        depth, level = depth + 1, level["d"]
    assert depth == 18
    assert all(0 < len(key.encode()) <= 512 and "\0" not in key for key in metadata)
    assert sorted(str(value) for value in metadata.values())[:4] == ["1", "2", "3", "4"]


def test_messages_of_any_shape_are_kept():
    for messages in ("text", [Message(role="user", content="hi")], {"a": 1}, [], 0, "", False):
        kept = document(event_of(messages=messages))["messages"]
        assert kept == (
            [{"role": "user", "content": "hi"}]
            if isinstance(messages, list) and messages
            else messages
        )


def test_one_broken_message_does_not_lose_the_others():
    event = event_of(messages=[Broken(), {"role": "user", "content": "kept"}])
    assert document(event)["messages"][1] == {"role": "user", "content": "kept"}
    assert document(event)["messages_text"] == "kept"


def test_unknown_keys_are_kept_under_extra():
    event = event_of(brand_new={"a": [1]}, **{"@timestamp": 5, "event_id": "mine"})
    assert extra(event) == {"brand_new": {"a": [1]}, "@timestamp": 5, "event_id": "mine"}
    assert event["event_id"] != "mine"


def test_keys_that_are_no_strings_are_kept_under_extra():
    assert extra(to_event({**BASE, 1: "a", None: "b"})) == {"1": "a", "null": "b"}


def test_payload_keys_of_our_own_names_collide_with_nothing():
    event = event_of(
        extra={"theirs": 1}, mistyped="theirs", messages_text="theirs", total_tokens="many"
    )
    assert extra(event) == {
        "extra": {"theirs": 1},
        "messages_text": "theirs",
        "mistyped": {"total_tokens": "many", "mistyped": "theirs"},
    }
    assert untyped(event).keys() == {"extra"}


def test_the_price_table_entry_is_kept_on_request_alone():
    table = {"max_tokens": 1}
    assert untyped(event_of(model_map_information=table)) == {}
    kept = to_event({**BASE, "model_map_information": table}, model_map_information=True)
    assert untyped(kept) == {"model_map_information": table}


def test_no_two_tables_know_the_same_name():
    names = [TIMESTAMP, *TYPED, *UNTYPED, *DERIVED, *SEARCH_TEXTS, EXTRA]
    names += [DOCUMENT_VERSION, INDEXED_AT]
    assert len(names) == len(set(names)) == len(DOCUMENT)


# Search text


def test_the_text_of_prompt_and_answer_is_extracted():
    event = event_of(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"image_url": "http"}]},
        ],
        response={"choices": [{"message": {"content": "a cat", "role": "assistant"}}]},
    )
    found = document(event)
    assert found["messages_text"] == "look\nbe brief"
    assert found["response_text"] == "a cat"


def test_search_text_can_be_switched_off():
    event = to_event({**BASE, "messages": "hi"}, search_text=False)
    assert untyped(event) == {"messages": "hi"}


def test_search_text_leaves_out_data_and_is_bounded():
    assert search_texts([{"content": "data:image/png;base64,AAAA"}], None) == {}
    asked = search_texts(["a" * 30_000] * 5, None)["messages_text"]
    assert len(asked) <= MAX_SEARCH_TEXT_CHARACTERS + 1
    assert search_texts("lone \ud800", None) == {"messages_text": "lone \\ud800"}


def test_search_text_reads_objects_and_survives_broken_ones_and_cycles():
    loop = []
    loop.append(loop)
    said = [Message(content="hi"), Broken(), loop, ({"content": ("x",)},), None, 5]
    assert search_texts(said, None) == {"messages_text": "hi\nx"}


# Identity


def test_an_event_id_has_the_form_of_elasticsearchs_ids():
    event_id = event_of()["event_id"]
    assert len(event_id) == 20
    assert EVENT_ID.fullmatch(event_id)
    assert event_time_ms(event_id) == START_MS


def test_the_id_of_a_fixed_event_never_changes():
    digest = hashlib.sha256(b"call-1|acompletion|success|1767225600.5").digest()[:9]
    assert event_of()["event_id"] == _base64(START_MS.to_bytes(6, "big") + digest)
    assert event_of()["event_id"] == "AZt22qn0xPcHE-vtBB2W"


def _base64(raw):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bits = int.from_bytes(raw, "big")
    count = len(raw) * 8 // 6
    return "".join(alphabet[bits >> 6 * (count - 1 - place) & 63] for place in range(count))


def test_a_doubly_fired_pair_has_one_id():
    assert event_of()["event_id"] == event_of(response={"later": 1}, endTime=START + 9)["event_id"]


@pytest.mark.parametrize(
    "other",
    [
        {"status": "failure"},
        {"call_type": "aembedding"},
        {"litellm_call_id": "call-2"},
        {"startTime": START + 0.000_01},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_call_has_another_id(other):
    assert event_of()["event_id"] != event_of(**other)["event_id"]


@pytest.mark.parametrize("missing", [{}, {"litellm_call_id": None}, {"litellm_call_id": ""}])
def test_without_a_call_id_a_random_part_takes_its_place(missing):
    payload = {key: value for key, value in BASE.items() if key != "litellm_call_id"} | missing
    first, second = to_event(payload), to_event(payload)
    assert first["event_id"] != second["event_id"]
    assert first["event_id"][:8] == second["event_id"][:8]
    assert first["litellm_call_id"] == ""


def test_the_callers_call_id_fills_in():
    payload = {key: value for key, value in BASE.items() if key != "litellm_call_id"}
    event = to_event(payload, call_id="call-1")
    assert event["event_id"] == event_of()["event_id"]
    assert event["litellm_call_id"] == "call-1"


def test_ids_grow_with_time_as_bytes_do():
    moments = [START_MS, START_MS + 1, START_MS + 86_400_000, 4_102_444_799_999]
    ids = [
        make_event_id(ms, call_id="c", call_type="t", status="s", start_time=ms) for ms in moments
    ]
    assert [event_time_ms(event_id) for event_id in ids] == moments
    raw = [_bytes(event_id) for event_id in ids]
    assert raw == sorted(raw)


def _bytes(event_id):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return tuple(alphabet.index(letter) for letter in event_id)


@pytest.mark.parametrize("start_ms", [-1, 2**60])
def test_a_time_beyond_six_bytes_still_makes_an_id(start_ms):
    made = make_event_id(start_ms, call_id="c", call_type="t", status="s", start_time=None)
    assert EVENT_ID.fullmatch(made)


def test_an_id_of_lone_surrogates_is_made():
    one, other = (event_of(litellm_call_id=call) for call in ("\ud800", "\udc00"))
    assert EVENT_ID.fullmatch(one["event_id"])
    assert one["event_id"] != other["event_id"]


@pytest.mark.parametrize(
    "start",
    [0, -5, 1e12, 5e9, "soon", math.nan, math.inf, 1e300, [], Broken(), dt.datetime(1, 1, 1)],  # noqa: DTZ001
    ids=lambda start: type(start).__name__,
)
def test_an_absurd_start_time_falls_back_to_the_end_time(start):
    event = event_of(startTime=start, endTime=START + 1)
    assert event["start_time_ms"] == START_MS + 1000
    assert event_time_ms(event["event_id"]) == START_MS + 1000
    assert "startTime" in extra(event)["mistyped"]
    assert event["event_id"] == event_of(startTime=start, endTime=START + 1)["event_id"]


def test_without_any_usable_time_the_moment_of_capture_counts():
    event = to_event({**BASE, "startTime": None, "endTime": 1}, captured_at=START)
    assert event["start_time_ms"] == event_time_ms(event["event_id"]) == START_MS
    assert event["end_time_ms"] == 1000


def test_a_start_time_of_5000_digits_is_survived():
    event = to_event({**BASE, "startTime": 10**5000})
    assert event["start_time_ms"] == START_MS + 2000


# Size


def test_an_event_that_fits_is_not_truncated():
    event = event_of(messages=["x" * 1000], metadata={"a": 1})
    assert truncate_event(event, 10_000) == event


def test_the_largest_fields_are_replaced_first_by_a_marker():
    event = event_of(messages=["m" * 5000], response=["r" * 3000], metadata={"small": "s"})
    cut = truncate_event(event, 8000)
    before, after = document(event), document(cut)
    assert {name for name in before if after[name] != before[name]} == {"messages", "messages_text"}
    written = json.dumps(before["messages"]).encode()
    digest = hashlib.sha256(written).hexdigest()
    assert after["messages"] == {"llmlog_cut": {"bytes": len(written), "sha256": digest}}
    assert re.fullmatch("<cut: 5002 bytes of JSON, sha256 [0-9a-f]{64}>", after["messages_text"])
    assert len(cut["document"]) <= 8000
    assert {**cut, "document": b""} == {**event, "document": b""}


def test_a_replaced_field_keeps_its_kind():
    event = event_of(error_str="e" * 5000, request_tags=["t" * 5000], metadata={"m": "n" * 5000})
    cut = document(truncate_event(event, 1500))
    assert cut["error_str"].startswith("<cut: 5002 bytes of JSON, sha256 ")
    assert cut["request_tags"][0].startswith("<cut: 5004 bytes of JSON, sha256 ")
    assert cut["metadata"]["llmlog_cut"]["bytes"] == 5008


def test_truncation_never_makes_a_field_longer():
    event = event_of(messages=["m" * 500], metadata={"a": 1}, end_user="user-1", stream=True)
    before, after = document(event), document(truncate_event(event, 650))
    assert after.keys() == before.keys()
    assert (after["metadata"], after["end_user"], after["stream"]) == ({"a": 1}, "user-1", True)


def test_an_event_without_room_for_markers_keeps_its_typed_fields():
    event = event_of(messages=["m" * 5000], metadata={"a": 1}, end_user="user-1")
    cut = document(truncate_event(event, 1))
    whole = event["document"]
    digest = hashlib.sha256(whole).hexdigest()
    assert {name: cut[name] for name in BASE} == {name: document(event)[name] for name in BASE}
    assert cut["extra"] == {"llmlog_cut": {"bytes": len(whole), "sha256": digest}}
    assert cut.keys() == {"@timestamp", *BASE, "extra"}


def test_truncation_does_not_change_the_given_event():
    event = event_of(messages=["m" * 5000])
    before = dict(event)
    truncate_event(event, 100)
    assert event == before


@pytest.mark.parametrize("name", ["model", "trace_id", "status", "call_type", "litellm_call_id"])
def test_a_keyword_of_megabytes_can_be_truncated(name):
    word = "w" * 3_000_000
    event = event_of(**{name: word})
    assert event[name] == ""
    assert name not in document(event)
    assert extra(event) == {"mistyped": {name: word}}
    assert event["event_id"] == event_of(**{name: word})["event_id"]
    assert len(Encoder().encode(truncate_event(event, 10_000))) < 11_000


def test_a_keyword_at_the_bound_stays():
    assert event_of(model="w" * MAX_KEYWORD_CHARACTERS)["model"] == "w" * MAX_KEYWORD_CHARACTERS


def test_the_odd_objects_of_one_payload_come_through_together():
    event = event_of(
        messages=[Message(role="user", content="hi"), (1, 2), {3: {4}}, b"\xff", "\ud800", "\0"],
        response={"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "n": [math.nan, math.inf, 2**70]},
        metadata={"id": UUID(int=5), 1: Broken()},
        new=object,
    )
    assert Decoder().decode(Encoder().encode(event)) == event
    found = document(event)
    assert found["messages"] == [
        {"role": "user", "content": "hi"},
        [1, 2],
        {"3": [4]},
        "/w==",
        "\\ud800",
        "\0",
    ]
    assert found["response"] == {
        "at": "2026-01-01T00:00:00+00:00",
        "n": [None, None, str(2**70)],
    }
    assert found["metadata"] == {
        "id": "00000000-0000-0000-0000-000000000005",
        "1": "<unreadable Broken: RuntimeError>",
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("response_cost", lambda n: [n]),
        ("model", lambda n: {"a": {"b": (1, n)}}),
        ("request_tags", lambda n: {n}),
        ("metadata", lambda n: [{"n": n}]),
    ],
)
def test_a_number_that_is_no_json_stays_in_an_original_however_deep_it_is(name, wrap, number):
    document = json.loads(to_event({**BASE, name: wrap(number)})["document"])
    assert f'"{number}"' in json.dumps(document["extra"]["mistyped"][name])


def test_a_number_that_is_no_json_stays_in_the_original_of_a_derived_field():
    costs = {"input_cost": {"eur": math.nan}, "additional_costs": [math.inf]}
    document = json.loads(to_event({**BASE, "cost_breakdown": costs})["document"])
    mistyped = document["extra"]["mistyped"]
    assert mistyped["cost_breakdown.input_cost"] == {"eur": "nan"}
    assert mistyped["cost_breakdown.additional_costs"] == ["inf"]


_NAMES = st.sampled_from(
    ["messages", "response", "metadata", "error_str", "request_tags", "extra", "model"]
)


@given(
    st.dictionaries(_NAMES, st.text(max_size=200) | st.lists(st.integers(), max_size=50)),
    st.integers(200, 1200),
)
def test_a_document_that_is_written_within_a_bound_is_the_one_that_is_truncated(fields, most):
    json, number = write_within(fields, most)
    truncated = truncate_event({"document": dumps(fields)}, most)["document"]
    if len(json) <= most:
        assert json == truncated
        assert number == json.count(b"sha256")
    else:
        assert json == dumps(fields)
        assert number == 0


def test_a_document_is_truncated_from_one_byte_above_its_bound():
    fields = {"model": "gpt", "messages": "m" * 500, "metadata": {"a": 1}}
    whole = dumps(fields)
    assert write_within(fields, len(whole)) == (whole, 0)
    json, number = write_within(fields, len(whole) - 1)
    assert number == 1
    assert len(json) < len(whole)

"""Documents: absent and zero, time bounds, and parts that are not trusted."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from llmlog_consumer.document import (
    Documents,
    ExpiredError,
    TransformError,
    check_parts,
    daily_index,
    document,
)
from llmlog_schemas.payload import to_event
from llmlog_schemas.records import make_event_id

START_MS = 1_767_225_600_500  # 2026-01-01T00:00:00.5Z
DAY_MS = 86_400_000
DOCUMENTS = Documents("litellm-logs", timedelta(days=400))


def event_of(payload=None, **fields):
    payload = {
        "litellm_call_id": "c",
        "startTime": START_MS / 1000,
        "status": "success",
        **(payload or {}),
    }
    return {**to_event(payload), **fields}


def at(time_ms):
    event_id = make_event_id(time_ms, call_id="c", call_type="", status="", start_time=0)
    return event_of(event_id=event_id)


def read(line):
    assert b"\n" not in line
    assert b"\r" not in line
    return json.loads(line)


def made(event):
    return read(document(event, START_MS))


def test_an_event_goes_to_the_index_of_its_day_under_its_own_id():
    event = event_of()
    index, document_id, line = DOCUMENTS.make(event, START_MS)
    assert index == "litellm-logs-2026.01.01"
    assert document_id == event["event_id"]
    assert read(line)["@timestamp"] == START_MS


@pytest.mark.parametrize(
    ("time_ms", "day"),
    [
        (START_MS - 501, "2025.12.31"),
        (START_MS - 500, "2026.01.01"),
        (START_MS - 501 + DAY_MS, "2026.01.01"),
        (START_MS - 500 + DAY_MS, "2026.01.02"),
    ],
)
def test_days_are_utc_days(time_ms, day):
    assert DOCUMENTS.make(at(time_ms), START_MS + DAY_MS)[0] == f"litellm-logs-{day}"
    assert daily_index("a", time_ms) == f"a-{day}"
    assert f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y.%m.%d}" == day


def test_the_index_is_of_the_id_alone():
    """So a redelivery lands on the same document, whatever the other fields say."""
    event = event_of(start_time_ms=START_MS + 5 * DAY_MS)
    assert DOCUMENTS.make(event, START_MS)[0] == "litellm-logs-2026.01.01"


def test_typed_fields_stand_under_litellms_names():
    found = made(
        event_of(
            {
                "endTime": START_MS / 1000 + 1,
                "model": "m",
                "trace_id": "t",
                "call_type": "acompletion",
                "response_time": 1.0,
                "response_cost": 0.5,
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
            }
        )
    )
    assert found == {
        "@timestamp": START_MS,
        "startTime": START_MS,
        "endTime": START_MS + 1000,
        "litellm_call_id": "c",
        "trace_id": "t",
        "call_type": "acompletion",
        "status": "success",
        "model": "m",
        "response_time": 1.0,
        "response_cost": 0.5,
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }


def test_what_is_absent_is_absent():
    assert made(event_of({"status": None})) == {
        "@timestamp": START_MS,
        "startTime": START_MS,
        "litellm_call_id": "c",
    }


def test_zero_is_not_absent():
    zeros = dict.fromkeys(
        ("response_time", "response_cost", "prompt_tokens", "completion_tokens", "total_tokens"), 0
    )
    found = made(event_of(zeros))
    assert {name: found[name] for name in zeros} == zeros


def test_parts_stand_in_their_places_as_they_are():
    event = event_of(
        attributes=b'{"stream":true,"id":"x"}',
        messages=b'[ 1.10, "\\u00e9" ]',
        response=b"null",
        metadata=b'{"a":{}}',
        extra=b"{}",
    )
    line = document(event, START_MS)
    assert b'"messages":[ 1.10, "\\u00e9" ]' in line
    found = read(line)
    assert (found["stream"], found["id"]) == (True, "x")
    assert (found["response"], found["metadata"], found["extra"]) == (None, {"a": {}}, {})


@pytest.mark.parametrize("attributes", [b"", b"{}", b"{ }"])
def test_no_attributes_leave_no_comma(attributes):
    assert "status" in made(event_of(attributes=attributes))


@pytest.mark.parametrize("part", [b'"text"', b"5", b"-1.5", b"true", b"false", b"null", b"[]"])
def test_messages_and_response_may_be_any_json(part):
    found = made(event_of(messages=part, response=part))
    assert found["messages"] == found["response"] == json.loads(part)


# What is not trusted

INJECTION = b'{}\n{"delete":{"_index":"litellm-logs-2026.01.01","_id":"x"}}\n{}'
NAMES = ["attributes", "messages", "response", "metadata", "extra"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "part",
    [
        INJECTION,
        INJECTION.replace(b"\n", b"\r"),
        INJECTION.replace(b"\n", b"\r\n"),
        b'{"a":"\n{\\"delete\\":{}}\n"}',
        b'{"a":1}\n{"b":2}',
        b'{"a":1\n',
        b'{"a":\nNaN}',
        b'{"a":\n-Infinity}',
        b'{"a":\n"\xff"}',
        b'{"a":\n' + b"[" * 100_000 + b"}",
    ],
    ids=lambda part: repr(part[:12]),
)
def test_a_newline_in_what_is_no_json_is_refused(name, part):
    with pytest.raises(TransformError, match=rf"^{name} is no (valid )?JSON"):
        document(event_of(**{name: part}), START_MS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n", b"\n\n"])
def test_json_over_several_lines_is_written_as_one(name, newline):
    part = newline + b'{"a":' + newline + b'[1,"\\n"]}' + newline
    found = made(event_of(**{name: part}))
    assert (found if name == "attributes" else found[name])["a"] == [1, "\n"]


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000, b"0.10000000000000000001", b"-0.0"])
def test_numbers_of_a_part_over_several_lines_stay_as_they_are_written(number):
    line = document(event_of(messages=b"[\n" + number + b"]"), START_MS)
    assert b'"messages":[ ' + number + b"]" in line


@pytest.mark.parametrize("name", ["attributes", "metadata", "extra"])
@pytest.mark.parametrize("part", [b"[]", b'"{}"', b"5", b"null", b"{", b"}", b'{"a":1}]', b"x{}"])
def test_an_object_belongs_where_an_object_belongs(name, part):
    with pytest.raises(TransformError, match=f"{name} is no JSON object"):
        document(event_of(**{name: part}), START_MS)


@pytest.mark.parametrize("name", ["messages", "response"])
@pytest.mark.parametrize("part", [b"hello", b"}", b"]", b",", b":1", b"\x00", b"\xff", b"NaN"])
def test_what_does_not_begin_as_json_is_refused(name, part):
    with pytest.raises(TransformError, match=f"{name} is no JSON"):
        document(event_of(**{name: part}), START_MS)


def test_every_document_is_one_line_of_a_bulk_body():
    """Whatever a part holds: refused, or without a newline."""
    for name in NAMES:
        for part in (INJECTION, b'{"a":\n1}', b"\n", b"\r", b" ", b'{"a":"\\n"}', b"[\n]"):
            try:
                line = document(event_of(**{name: part}), START_MS)
            except TransformError:
                continue
            assert b"\n" not in line
            assert b"\r" not in line


def test_a_part_that_elasticsearch_could_not_parse_is_named():
    check_parts(event_of(messages=b"[1]", metadata=b'{"a":1}'))
    with pytest.raises(TransformError, match="metadata is no valid JSON"):
        check_parts(event_of(metadata=b'{"a":1'))
    with pytest.raises(TransformError, match="NaN is no JSON"):
        check_parts(event_of(response=b"[NaN]"))
    with pytest.raises(TransformError, match="messages is no valid JSON"):
        check_parts(event_of(messages=b"[" * 100_000))


@pytest.mark.parametrize(
    "event_id",
    ["", "short", "x" * 21, "x" * 19 + "=", "x" * 19 + "\n", "x" * 19 + '"', "é" * 20, "x" * 600],
)
def test_an_id_of_another_form_is_refused(event_id):
    with pytest.raises(TransformError, match="event_id") as caught:
        DOCUMENTS.make(event_of(event_id=event_id), START_MS)
    assert len(str(caught.value)) < 200


# Time

TOO_EARLY, TOO_LATE = 1_577_836_799_999, 4_102_444_800_000


@pytest.mark.parametrize("time_ms", [0, TOO_EARLY, TOO_LATE, 2**48 - 1])
def test_a_wild_clock_is_refused(time_ms):
    with pytest.raises(TransformError, match="outside 2020 to 2100"):
        Documents("a", timedelta(days=100_000)).make(at(time_ms), time_ms)


@pytest.mark.parametrize("time_ms", [TOO_EARLY + 1, TOO_LATE - 1])
def test_the_bounds_of_the_clock_belong_to_it(time_ms):
    assert Documents("a", timedelta(days=1)).make(at(time_ms), time_ms)


def test_a_start_more_than_a_day_ahead_is_refused():
    assert DOCUMENTS.make(at(START_MS), START_MS - DAY_MS)
    with pytest.raises(TransformError, match="to come"):
        DOCUMENTS.make(at(START_MS), START_MS - DAY_MS - 1)


def test_what_is_older_than_the_limit_is_expired():
    assert DOCUMENTS.make(at(START_MS), START_MS + 400 * DAY_MS)
    with pytest.raises(ExpiredError):
        DOCUMENTS.make(at(START_MS), START_MS + 400 * DAY_MS + 1)


def test_an_old_event_with_a_broken_part_is_expired_and_no_letter():
    with pytest.raises(ExpiredError):
        DOCUMENTS.make({**at(START_MS), "metadata": b"broken"}, START_MS + 500 * DAY_MS)

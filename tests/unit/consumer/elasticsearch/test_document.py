"""Documents: the index of the day, time bounds, and JSON that is not trusted."""

import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.transform import describe
from llmlog_consumer.elasticsearch.document import (
    MAX_UNKNOWN_GROUPS,
    Documents,
    ExpiredError,
    TransformError,
    check,
    one_line,
)
from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_schemas.convert import to_event
from llmlog_schemas.event import EARLIEST_MS, LATEST_MS, make_event_id

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


def made(document):
    return read(one_line(document))


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


NOON_MS = START_MS + DAY_MS // 2
"""Ids of midnight share no prefix with others of their day alone."""


def placed(time_ms, place):
    return {**at(time_ms), "index_place": place}


@pytest.mark.parametrize("time_ms", [START_MS, NOON_MS])
@pytest.mark.parametrize(
    ("place", "index"),
    [("-pay", "2026.01.01-pay"), ("month-pay", "2026.01-pay"), ("week", "2026.w01")],
)
def test_an_event_of_a_group_goes_to_the_index_of_its_group(time_ms, place, index):
    assert DOCUMENTS.make(placed(time_ms, place), time_ms)[0] == f"litellm-logs-{index}"


@pytest.mark.parametrize("time_ms", [START_MS, NOON_MS])
@pytest.mark.parametrize("place", ["-Pay", "pay", "year", "-a/b", "-" + "x" * 40, "-*"])
def test_a_place_that_no_gateway_writes_makes_no_index(time_ms, place):
    for late in (0, 2 * DAY_MS):
        with pytest.raises(TransformError, match="is not a period and a group"):
            DOCUMENTS.make(placed(time_ms, place), time_ms + late)


@pytest.mark.parametrize("time_ms", [START_MS, NOON_MS])
def test_a_group_may_have_a_greatest_age_of_its_own(time_ms):
    ages = {"pay": timedelta(days=2), "law": timedelta(days=9)}
    documents = Documents("a", timedelta(days=5), ages)
    now = time_ms + 3 * DAY_MS
    assert documents.make(placed(time_ms, ""), now)[0] == "a-2026.01.01"
    assert documents.make(placed(time_ms, "-other"), now)[0] == "a-2026.01.01-other"
    with pytest.raises(ExpiredError, match=r"LLMLOG_GROUP_MAX_EVENT_AGE of pay allows \(2 days\)"):
        documents.make(placed(time_ms, "-pay"), now)
    with pytest.raises(ExpiredError, match=r"LLMLOG_MAX_EVENT_AGE allows \(5 days\)"):
        documents.make(placed(time_ms, "-other"), now + 3 * DAY_MS)
    assert documents.make(placed(time_ms, "-law"), now + 3 * DAY_MS)[0] == "a-2026.01.01-law"


@given(
    anchor=st.integers(-2, 4).map(lambda days: START_MS - 500 + days * DAY_MS),
    offset=st.integers(-400_000, 400_000),
    late=st.integers(-400_000, 400_000),
    max_age=st.integers(0, 5).map(lambda days: timedelta(days=days)),
)
def test_the_index_and_the_bounds_are_exact_to_the_millisecond(anchor, offset, late, max_age):
    time_ms, now_ms = anchor + offset, START_MS - 500 + DAY_MS + late
    documents = Documents("a", max_age)
    for _ in range(2):  # what was asked before is remembered
        if time_ms > now_ms + DAY_MS:
            with pytest.raises(TransformError):
                documents.make(at(time_ms), now_ms)
        elif now_ms - time_ms > max_age / timedelta(milliseconds=1):
            with pytest.raises(ExpiredError):
                documents.make(at(time_ms), now_ms)
        else:
            assert documents.make(at(time_ms), now_ms)[0] == daily_index("a", time_ms)


def test_the_index_is_of_the_id_alone():
    """So a redelivery lands on the same document, whatever the other fields say."""
    event = event_of(start_time_ms=START_MS + 5 * DAY_MS)
    assert DOCUMENTS.make(event, START_MS)[0] == "litellm-logs-2026.01.01"


def test_the_document_is_sent_as_the_gateway_wrote_it():
    event = event_of({"messages": [1.10, "é"], "stream": True, "total_tokens": 0})
    line = DOCUMENTS.make(event, START_MS)[2]
    assert line == b'{"indexed_at":%d,%b' % (START_MS, event["document"][1:])


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (b"{}", b'{"indexed_at":1}'),
        (b"{ }", b'{"indexed_at":1}'),
        (b'{ "a":1}', b'{"indexed_at":1,"a":1}'),
        (b'{"indexed_at":7}', b'{"indexed_at":1}'),
        (b'{"a":1,"indexed_at":7}', b'{"indexed_at":1,"a": 1}'),
        (b'{"indexed_at" : 7,"a":1}', b'{"indexed_at":1,"a": 1}'),
        (b'{"a":{"indexed_at":7}}', b'{"indexed_at":1,"a":{"indexed_at":7}}'),
        (b'{"a":"\\"indexed_at\\":7"}', b'{"indexed_at":1,"a":"\\"indexed_at\\":7"}'),
        (b'{"indexed_at":7,}', b'{"indexed_at":1,"indexed_at":7,}'),
    ],
)
def test_a_document_has_the_time_of_its_indexing_once(document, line):
    made = DOCUMENTS.make(event_of(document=document), START_MS + 0.9)[2]
    assert made == line.replace(b'"indexed_at":1', b'"indexed_at":%d' % START_MS, 1)


@pytest.mark.parametrize(
    "document",
    [
        b'{"messages": [ 1.10, "\\u00e9" ], "n": 1e999, "n": -0}',
        b"{}", b"{ }", b'{ "a":1}', b'{\t"a" : 1 }', b'{"a":1}}',
    ],
)  # fmt: skip
def test_a_document_on_one_line_is_not_rewritten(document):
    assert one_line(document) == document


@pytest.mark.parametrize("document", [b"{\n}", b"\r\n{}\n"])
def test_an_empty_document_may_span_lines(document):
    assert made(document) == {}


# What is not trusted

INJECTION = b'{}\n{"delete":{"_index":"litellm-logs-2026.01.01","_id":"x"}}\n{}'


@pytest.mark.parametrize(
    "document",
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
    ids=lambda document: repr(document[:12]),
)
def test_a_newline_in_a_document_that_is_no_json_is_refused(document):
    with pytest.raises(TransformError, match=r"^document is no (valid )?JSON"):
        one_line(document)


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n", b"\n\n"])
def test_json_over_several_lines_is_rewritten_as_one_line(newline):
    document = newline + b'{"a":' + newline + b'[1,"\\n"]}' + newline
    assert made(document)["a"] == [1, "\n"]


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000, b"0.10000000000000000001", b"-0.0"])
def test_numbers_in_a_document_over_several_lines_stay_as_written(number):
    assert b'"a": ' + number + b"}" in one_line(b'{"a":\n' + number + b"}")


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b'"{}"', b"5", b"null", b"{", b"}", b'{"a":1}]', b"x{}", b"\n", b"\xff", b"[\n]"],
)
def test_a_document_is_a_json_object(document):
    with pytest.raises(TransformError, match=r"^document is no (valid )?JSON"):
        one_line(document)


@given(st.binary() | st.text('{}[]":,\\\n\r1 a').map(str.encode))
def test_every_document_is_one_line_of_a_bulk_body(document):
    """Whatever came: refused, or without a newline."""
    for framed in (document, b"{" + document + b"}", b'{"a":' + document + b"}"):
        try:
            line = one_line(framed)
        except TransformError:
            continue
        assert b"\n" not in line
        assert b"\r" not in line


def test_a_document_that_elasticsearch_could_not_parse_is_checked():
    check(b'{"a":1,"b":[1]}')
    with pytest.raises(TransformError, match="document is no valid JSON"):
        check(b'{"a":1')
    with pytest.raises(TransformError, match="NaN is no JSON"):
        check(b'{"a":[NaN]}')
    with pytest.raises(TransformError, match="document is no valid JSON"):
        check(b"[" * 100_000)


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
def test_a_time_outside_the_bounds_of_the_clock_is_refused(time_ms):
    with pytest.raises(TransformError, match="outside 2020 to 2100"):
        Documents("a", timedelta(days=100_000)).make(at(time_ms), time_ms)


@pytest.mark.parametrize("time_ms", [TOO_EARLY + 1, TOO_LATE - 1])
def test_the_bounds_of_the_clock_are_valid_times(time_ms):
    assert Documents("a", timedelta(days=1)).make(at(time_ms), time_ms)


def test_a_start_more_than_a_day_ahead_is_refused():
    assert DOCUMENTS.make(at(START_MS), START_MS - DAY_MS)
    with pytest.raises(TransformError, match="to come"):
        DOCUMENTS.make(at(START_MS), START_MS - DAY_MS - 1)


def test_an_event_older_than_the_limit_is_expired():
    assert DOCUMENTS.make(at(START_MS), START_MS + 400 * DAY_MS)
    with pytest.raises(ExpiredError):
        DOCUMENTS.make(at(START_MS), START_MS + 400 * DAY_MS + 1)


@given(times=st.lists(st.integers(EARLIEST_MS, LATEST_MS - 1), min_size=2, max_size=5))
def test_letters_that_fail_for_their_time_have_one_fingerprint_for_each_cause(times):
    """It holds no date and no number, so that the circuit breaker sees a row of one cause."""
    expired, to_come, outside = set(), set(), set()
    for time_ms in times:
        for kind, now_ms, text in (
            (expired, time_ms + 401 * DAY_MS + time_ms % 10**9, Stage.EXPIRED),
            (to_come, time_ms - DAY_MS - 1 - time_ms % 10**9, Stage.TRANSFORM),
            (outside, time_ms, Stage.TRANSFORM),
        ):
            start_ms = time_ms + LATEST_MS if kind is outside else time_ms
            with pytest.raises((ExpiredError, TransformError)) as caught:
                DOCUMENTS.make(at(start_ms), now_ms)
            kind.add(Cause(text, Ending.PERMANENT, describe(caught.value)).fingerprint)
    assert [len(expired), len(to_come), len(outside)] == [1, 1, 1]
    assert len(expired | to_come | outside) == 3


def test_the_text_of_an_expired_event_has_its_age_and_the_limit():
    with pytest.raises(ExpiredError) as caught:
        DOCUMENTS.make(at(START_MS), START_MS + 400 * DAY_MS + 2 * 3_600_000 + 3 * 60_000)
    assert str(caught.value) == (
        "the event is 400 d 02 h 03 min old, more than LLMLOG_MAX_EVENT_AGE allows (400 days)"
    )


def test_an_old_event_with_a_broken_document_is_expired():
    with pytest.raises(ExpiredError):
        DOCUMENTS.make({**at(START_MS), "document": b"broken"}, START_MS + 500 * DAY_MS)


def test_a_producer_that_names_ever_new_groups_makes_no_ever_new_indices():
    documents = Documents("logs", timedelta(days=400), {"named": timedelta(days=400)})

    def index_of(group):
        return documents.make(placed(NOON_MS, f"-{group}"), NOON_MS)[0]

    met = {index_of(f"g{number}") for number in range(MAX_UNKNOWN_GROUPS)}
    assert len(met) == MAX_UNKNOWN_GROUPS
    for number in range(500):
        with pytest.raises(TransformError, match="others that LLMLOG_GROUP_MAX_EVENT_AGE"):
            index_of(f"more{number}")
    assert index_of("named").endswith("-named")
    assert index_of("g3") in met
    assert documents.make(placed(NOON_MS, ""), NOON_MS)[0] not in met


def test_a_place_without_end_is_refused_and_not_kept():
    documents = Documents("logs", timedelta(days=400))
    tracemalloc.start()
    for number in range(200):
        with pytest.raises(TransformError, match="is not a period and a group"):
            documents.make(placed(NOON_MS, f"-{number}{'x' * 100_000}"), NOON_MS)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000

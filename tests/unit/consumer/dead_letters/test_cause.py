"""A letter's headers, and the fingerprint that letters of one cause share."""

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.cause import (
    MAX_REASON_BYTES,
    PREFIX,
    Cause,
    Ending,
    Stage,
    cut,
    es_cause,
    headers_of,
    without_literals,
)
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_consumer.elasticsearch.document import Documents, TransformError
from llmlog_schemas.convert import to_event
from support.messages import Message
from support.payloads import payload

NOW = datetime(2026, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
REFUSED = Cause(
    Stage.INDEX,
    Ending.PERMANENT,
    reason="failed to parse field [model] of type [long] in document with id 'AZtX'",
    es_status=400,
    es_type="document_parsing_exception",
    es_caused_by="illegal_argument_exception: For input string",
    index="litellm-logs-2026.01.31",
    document_id="AZtXgOIAPqM4wrx7hCk_",
    model="gpt-4o",
    attempts=2,
)
POISON = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")


def ours(headers):
    """Return our headers, decoded, without their prefix."""
    return {
        name.removeprefix(PREFIX): value.decode()
        for name, value in headers
        if name.startswith(PREFIX)
    }


def headers(cause, message=None, now=NOW):
    return headers_of(message or Message(), cause, group="g", now=now)


# Headers


def test_the_name_is_the_sources_coordinates():
    written = ours(headers(POISON, Message(topic_="t.1-x", partition_=0, offset_=0)))
    assert (written["topic"], written["partition"], written["offset"]) == ("t.1-x", "0", "0")


def test_what_elasticsearch_said_is_written():
    assert ours(headers(REFUSED)) == {
        "version": "1",
        "topic": "litellm-logs",
        "partition": "3",
        "offset": "41",
        "timestamp": "1767225600123",
        "group": "g",
        "stage": "index",
        "disposition": "permanent",
        "es.status": "400",
        "es.type": "document_parsing_exception",
        "es.caused_by": "illegal_argument_exception: For input string",
        "es.reason": REFUSED.reason,
        "fingerprint": REFUSED.fingerprint,
        "index": "litellm-logs-2026.01.31",
        "document_id": "AZtXgOIAPqM4wrx7hCk_",
        "schema": "llmlog.v1.LLMEvent",
        "model": "gpt-4o",
        "attempts": "2",
        "first_failed_at": "2026-01-31T12:30:15.123+00:00",
        "last_failed_at": "2026-01-31T12:30:15.123+00:00",
        "replay_count": "0",
    }


def test_what_does_not_apply_is_absent():
    written = ours(headers(POISON))
    assert written["exception"] == "DecodeError: the record has no value"
    assert written["attempts"] == "0"
    absent = {"es.status", "es.type", "es.reason", "es.caused_by", "index", "document_id",
              "schema", "model"}  # fmt: skip
    assert not absent & written.keys()


def test_the_sources_own_headers_stay_as_they_are():
    own = [("trace", b"\xff\x00"), ("empty", b""), ("null", None), ("trace", b"twice")]
    assert headers(POISON, Message(headers_=own))[:4] == own


def test_a_letter_that_dies_again_keeps_its_first_death_alone():
    first = headers(REFUSED, Message(headers_=[("own", b"1")]))
    again = headers(POISON, Message(headers_=first, offset_=99), now=LATER)
    names = [name for name, _ in again]
    assert len(names) == len(set(names))
    assert again[0] == ("own", b"1")
    written = ours(again)
    assert written["first_failed_at"].startswith("2026-01-31T12:30")
    assert written["last_failed_at"].startswith("2026-01-31T13:30")
    assert written["offset"] == "99"
    assert written["stage"] == "decode"
    assert "es.type" not in written


def test_replays_are_counted_by_who_replays():
    message = Message(headers_=[(f"{PREFIX}replay_count", b"2")])
    assert ours(headers(POISON, message))["replay_count"] == "2"


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"x" * 5000])
def test_headers_that_somebody_else_wrote_do_no_harm(value):
    names = ("first_failed_at", "replay_count", "version", "")
    message = Message(headers_=[(PREFIX + name, value) for name in names])
    for _, written in headers(POISON, message):
        assert len(written) <= MAX_REASON_BYTES


def test_every_header_is_utf_8_whatever_died():
    cause = Cause(Stage.TRANSFORM, Ending.POISON, "TransformError: \ud800", model="\udfff")
    assert "?" in ours(headers(cause))["exception"]


# The bound of a reason


def test_a_short_reason_stays():
    assert cut("é" * (MAX_REASON_BYTES // 2)) == "é" * (MAX_REASON_BYTES // 2)


@given(st.text(min_size=250, max_size=2000), st.integers(1, 4))
def test_a_reason_is_cut_at_one_kilobyte_between_characters(text, times):
    short = cut(text * times)
    assert len(short.encode()) <= MAX_REASON_BYTES
    if short != text * times:
        assert short.endswith("…")
        assert (text * times).startswith(short[:-1])


@pytest.mark.parametrize("field", ["exception", "reason", "es_caused_by", "model"])
def test_no_header_is_longer_than_the_bound(field):
    cause = Cause(Stage.INDEX, Ending.PERMANENT, **{field: "语" * 5000})
    assert max(len(value) for _, value in headers(cause)) <= MAX_REASON_BYTES


# Fingerprints


def failed(reason, es_type="document_parsing_exception", index="litellm-logs-2026.01.31"):
    return Cause(Stage.INDEX, Ending.PERMANENT, reason=reason, es_type=es_type, index=index)


def test_a_fingerprint_is_12_hexadecimal_digits():
    assert re.fullmatch(r"[0-9a-f]{12}", REFUSED.fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("failed to parse field [a] of type [long] in document with id 'AZtXgOIAPqM4wrx7hCk_'. "
         "Preview of field's value: 'my prompt'",
         "failed to parse field [a] of type [long] in document with id 'AZtXgOIAPqM4wrx7hCkA'. "
         "Preview of field's value: 'it's \"another\"\n'"),
        ("[1:2345] failed to parse", "[1:7] failed to parse"),
        ('For input string: "abc"', 'For input string: "x y z"'),
        ("Limit of total fields [1000] has been exceeded", "Limit of total fields [1001] has been "
         "exceeded"),
        ("[AZtXgOIAPqM4wrx7hCk_]: went wrong", "[AZtXgOIA-qM4wrx7hC--]: went wrong"),
    ],
)  # fmt: skip
def test_one_cause_is_one_fingerprint(one, other):
    assert without_literals(one) == without_literals(other)
    assert failed(one).fingerprint == failed(other).fingerprint


def test_days_do_not_make_another_cause():
    assert failed("a").fingerprint == failed("a", index="litellm-logs-2026.02.01").fingerprint


@pytest.mark.parametrize(
    "other",
    [
        failed("failed to parse field [b]"),
        failed("failed to parse field [a]", es_type="mapper_parsing_exception"),
        failed("failed to parse field [a]", index="others-2026.01.31"),
        Cause(Stage.OVERSIZE, Ending.PERMANENT, reason="failed to parse field [a]",
              es_type="document_parsing_exception", index="litellm-logs-2026.01.31"),
    ],
)  # fmt: skip
def test_another_cause_is_another_fingerprint(other):
    assert failed("failed to parse field [a]").fingerprint != other.fingerprint


def transform_error(**fields):
    event = {**to_event(payload(1)), **fields}
    with pytest.raises(TransformError) as caught:
        Documents("a", timedelta(days=400)).make(event, event["start_time_ms"])
    return Cause(Stage.TRANSFORM, Ending.POISON, f"TransformError: {caught.value}")


@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("'\"\\"), max_size=40))
def test_whatever_an_event_id_is_its_cause_is_one(event_id):
    if re.fullmatch("[A-Za-z0-9_-]{20}", event_id):
        return
    assert (
        transform_error(event_id=event_id).fingerprint == transform_error(event_id="x").fingerprint
    )


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: not set(raw) & set(b"\n\r{")))
def test_whatever_a_document_is_its_cause_is_one(document):
    expected = transform_error(document=b"x").fingerprint
    assert transform_error(document=document).fingerprint == expected


@pytest.mark.parametrize("clock", [0, 1_000_000_000_000, 5_000_000_000_000])
def test_a_wild_clock_is_one_cause(clock):
    def event_id(moment):
        return base64.urlsafe_b64encode(moment.to_bytes(6, "big") + b"123456789").decode()

    assert (
        transform_error(event_id=event_id(clock)).fingerprint
        == transform_error(event_id=event_id(77)).fingerprint
    )


# Elasticsearch's error object


def test_an_error_object_is_taken_apart():
    error = {"type": "t", "reason": "r", "caused_by": {"type": "c", "reason": "why"}}
    assert es_cause(error) == {"es_type": "t", "reason": "r", "es_caused_by": "c: why"}


@pytest.mark.parametrize("error", [{}, {"caused_by": None}, {"caused_by": {}}])
def test_an_error_object_may_be_empty(error):
    assert es_cause(error) == {"es_type": "", "reason": "", "es_caused_by": ""}


def test_what_was_said_is_ours_or_elasticsearchs():
    assert POISON.said == "DecodeError: the record has no value"
    assert REFUSED.said.startswith("document_parsing_exception: failed to parse")
    assert Cause(Stage.OVERSIZE, Ending.PERMANENT, reason="too large").said == "too large"


class Foreign(Message):
    """A message with a header name that is not UTF-8, as the client gives it out."""

    asked = 0

    def headers(self):
        self.asked += 1
        assert self.asked == 1, "a second question ends the process"
        raise SystemError


def test_headers_that_cannot_be_read_are_asked_for_once():
    message = Foreign()
    for _ in range(3):
        assert read_headers(message) == []
    assert dict(headers_of(message, Cause(Stage.DECODE, Ending.POISON), group="g"))


def test_a_letter_with_such_headers_is_counted():
    counted = Stats()
    counted.add([Foreign()])
    assert counted.as_json()["total"] == 1

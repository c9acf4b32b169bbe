"""The headers of a dead letter: how they are written, and how any writer's are read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.headers import (
    MAX_HEADER_BYTES,
    PREFIX,
    build_headers,
    parse_source,
    read_headers,
    read_history,
    shorten,
)
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.stats import Stats
from support.fakes.letters import POISON, REFUSED, UnreadableMessage, our_headers
from support.messages import Message

NOW = datetime(2026, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def build(cause, message=None, now=NOW):
    source = Message() if message is None else message
    return build_headers(source, cause, group="g", now=now)


# Writing


def test_a_letter_names_the_coordinates_of_its_source():
    written = our_headers(build(POISON, Message(topic_="t.1-x", partition_=0, offset_=0)))
    assert (written["topic"], written["partition"], written["offset"]) == ("t.1-x", "0", "0")


def test_elasticsearchs_answer_is_written():
    assert our_headers(build(replace(REFUSED, attempts=2))) == {
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
        "es.caused_by": REFUSED.es_caused_by,
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


def test_headers_that_do_not_apply_are_absent():
    written = our_headers(build(POISON))
    assert written["exception"] == "DecodeError: the record has no value"
    assert written["attempts"] == "0"
    absent = {
        "es.status",
        "es.type",
        "es.reason",
        "es.caused_by",
        "index",
        "document_id",
        "schema",
        "model",
    }
    assert not absent & written.keys()


def test_the_sources_own_headers_stay_as_they_are():
    own = [("trace", b"\xff\x00"), ("empty", b""), ("null", None), ("trace", b"twice")]
    assert build(POISON, Message(headers_=own))[:4] == own


def test_a_record_that_fails_again_keeps_only_the_time_of_its_first_failure():
    first = build(REFUSED, Message(headers_=[("own", b"1")]))
    again = build(POISON, Message(headers_=first, offset_=99), now=LATER)
    names = [name for name, _ in again]
    assert len(names) == len(set(names))
    assert again[0] == ("own", b"1")
    written = our_headers(again)
    assert written["first_failed_at"].startswith("2026-01-31T12:30")
    assert written["last_failed_at"].startswith("2026-01-31T13:30")
    assert written["offset"] == "99"
    assert written["stage"] == "decode"
    assert "es.type" not in written


def test_a_failure_alone_does_not_raise_the_replay_count():
    message = Message(headers_=[(f"{PREFIX}replay_count", b"2")])
    assert our_headers(build(POISON, message))["replay_count"] == "2"


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"x" * 5000])
def test_our_headers_on_a_source_of_another_writer_do_no_harm(value):
    names = ("first_failed_at", "replay_count", "version", "")
    message = Message(headers_=[(PREFIX + name, value) for name in names])
    for _, written in build(POISON, message):
        assert len(written) <= MAX_HEADER_BYTES


def test_every_header_is_utf_8_for_any_cause():
    cause = Cause(Stage.TRANSFORM, Ending.POISON, "TransformError: \ud800", model="\udfff")
    assert "?" in our_headers(build(cause))["exception"]


# The bound of a header


def test_a_short_text_stays():
    assert shorten("é" * (MAX_HEADER_BYTES // 2)) == "é" * (MAX_HEADER_BYTES // 2)


@given(st.text(min_size=250, max_size=2000), st.integers(1, 4))
def test_a_text_is_shortened_to_one_kilobyte_between_characters(text, times):
    short = shorten(text * times)
    assert len(short.encode()) <= MAX_HEADER_BYTES
    if short != text * times:
        assert short.endswith("…")
        assert (text * times).startswith(short[:-1])


@pytest.mark.parametrize("field", ["exception", "reason", "es_caused_by", "model"])
def test_no_header_is_longer_than_the_bound(field):
    cause = Cause(Stage.INDEX, Ending.PERMANENT, **{field: "语" * 5000})
    assert max(len(value) for _, value in build(cause)) <= MAX_HEADER_BYTES


# Reading


def test_unreadable_headers_are_asked_for_once():
    message = UnreadableMessage()
    for _ in range(3):
        assert read_headers(message) == []
    assert dict(build_headers(message, Cause(Stage.DECODE, Ending.POISON), group="g"))


def test_a_letter_with_unreadable_headers_is_counted():
    stats = Stats()
    stats.add([UnreadableMessage()])
    assert stats.as_json()["total"] == 1


def test_a_source_topic_name_of_any_length_is_read():
    long = "x" * 100_000
    headers = [
        (f"{PREFIX}{name}", value.encode())
        for name, value in (("topic", long), ("partition", "2"), ("offset", "7"))
    ]
    assert read_letter(Message(headers_=headers)).source == (long, 2, 7)


def test_a_number_may_have_digits_beyond_ascii():
    texts = {"topic": "src", "partition": "1", "offset": "\uff17", "replay_count": "\uff12"}
    headers = [(f"{PREFIX}{name}", value.encode()) for name, value in texts.items()]
    letter = read_letter(Message(headers_=headers))
    assert letter.source == ("src", 1, 7)
    assert letter.replays == read_history(letter.headers).replays == 2


@pytest.mark.parametrize(
    ("topic", "partition", "offset", "source"),
    [
        (b"t", b"0", b"7", ("t", 0, 7)),
        ("t", "0", "7", ("t", 0, 7)),
        (b"t", b"0", b"-1", None),
        (b"t", b"-1", b"7", None),
        (b"t", b"x", b"7", None),
        (b"t", b"0", b"9" * 30, None),
        (b"", b"0", b"7", None),
        (b"t", None, b"7", None),
        (None, b"0", b"7", None),
    ],
)
def test_a_source_needs_a_topic_and_two_numbers_that_are_not_negative(
    topic, partition, offset, source
):
    assert parse_source(topic, partition, offset) == source

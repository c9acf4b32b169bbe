"""Letters of other programs are read with their cause, whatever stands in their headers."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.foreign import read_foreign
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.record import build_record, read_record
from llmlog_consumer.dead_letters.stats import Stats
from support.fakes.letters import CONNECT_HEADERS
from support.messages import Message

INT, LONG = struct.Struct(">i").pack, struct.Struct(">q").pack

STREAMS_HEADERS = [
    ("__streams.errors.exception", b"org.example.SerializationException"),
    ("__streams.errors.message", b"bad 'value'"),
    ("__streams.errors.stacktrace", b"at ..."),
    ("__streams.errors.topic", b"orders"),
    ("__streams.errors.partition", b"4"),
    ("__streams.errors.offset", b"77"),
]
SPRING_HEADERS = [
    ("kafka_dlt-original-topic", b"orders"),
    ("kafka_dlt-original-partition", INT(4)),
    ("kafka_dlt-original-offset", LONG(77)),
    ("kafka_dlt-original-timestamp", LONG(1_769_860_000_000)),
    ("kafka_dlt-original-timestamp-type", b"CreateTime"),
    ("kafka_dlt-original-consumer-group", b"orders-app"),
    ("kafka_dlt-exception-fqcn", b"org.springframework.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"org.example.DataException"),
    ("kafka_dlt-exception-message", b"bad 'value'"),
    ("kafka_dlt-exception-stacktrace", b"at ..."),
]
SPRING_RETRY_HEADERS = [(n.replace("kafka_dlt-", "kafka_"), value) for n, value in SPRING_HEADERS]


@pytest.mark.parametrize(
    ("headers", "writer", "exception"),
    [
        (CONNECT_HEADERS, "connect", "org.example.DataException"),
        (STREAMS_HEADERS, "streams", "org.example.SerializationException"),
        (SPRING_HEADERS, "spring", "org.example.DataException"),
        (SPRING_RETRY_HEADERS, "spring", "org.example.DataException"),
    ],
)
def test_a_letter_of_another_program_has_its_source_and_its_cause(headers, writer, exception):
    message = Message(topic_="d", headers_=[("own", b"1"), *headers])
    letter = read_letter(message)
    assert (letter.writer, letter.source) == (writer, ("orders", 4, 77))
    assert letter.source_headers == (("own", b"1"),)
    assert letter.group == "", "no worker of ours wrote it"
    row = letter.as_json(recovered=False)
    assert row["exception"] == f"{exception}: bad '…'"
    assert row["source"] == {"topic": "orders", "partition": 4, "offset": 77}
    assert read_record(message).source == build_record(letter).source == ("orders", 4, 77)
    stats = Stats()
    stats.add([message])
    (cause,) = stats.as_json()["fingerprints"]
    assert cause["reason"] == row["exception"]
    assert stats.has_our_headers


def test_an_exception_without_a_cause_is_shown_itself():
    headers = [h for h in SPRING_HEADERS if h[0] != "kafka_dlt-exception-cause-fqcn"]
    assert (
        read_letter(Message(headers_=headers))
        .as_json(recovered=None)["exception"]
        .startswith("org.springframework.ListenerExecutionFailedException")
    )


def test_springs_source_time_is_read():
    assert read_letter(Message(headers_=SPRING_HEADERS)).source_ms == 1_769_860_000_000


def test_headers_that_spring_sends_with_any_record_are_no_letter():
    headers = [("kafka_messageKey", b"k"), ("kafka_correlationId", b"7"), ("spring_json", b"{}")]
    assert read_foreign(headers) is None
    assert read_letter(Message(headers_=headers)).source_headers == tuple(headers)


def test_a_letter_of_ours_keeps_another_programs_headers_as_the_sources_own():
    """The record had come from a dead-letter topic of theirs."""
    ours = [("pipeline.dlq.stage", b"index")]
    letter = read_letter(Message(headers_=[*SPRING_HEADERS, *ours]))
    assert letter.writer == "pipeline"
    assert letter.source_headers == tuple(SPRING_HEADERS)


NAMES = [name for name, _ in (*CONNECT_HEADERS, *STREAMS_HEADERS, *SPRING_HEADERS)]
VALUES = st.one_of(st.none(), st.binary(max_size=12), st.sampled_from([INT(-1), LONG(2**62)]))


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=12))
def test_no_headers_of_another_program_stop_a_reader(headers):
    message = Message(topic_="d", headers_=headers)
    json.dumps(read_letter(message).as_json(recovered=None))
    assert read_record(message).source == read_letter(message).source
    stats = Stats()
    stats.add([message])
    assert stats.as_json()["total"] == 1

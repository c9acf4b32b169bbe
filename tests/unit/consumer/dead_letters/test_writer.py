"""Letters on their way: one counts once it is confirmed, and a refused one is sent again."""

from __future__ import annotations

import hashlib

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from llmlog_common.settings import load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.headers import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.writer import TRUNCATED_BYTES, LetterWriter, PendingLetter
from support.fakes.kafka import FakeProducer, fatal_error, kafka_exception
from support.fakes.letters import our_headers
from support.messages import Message

SETTINGS = load(environ={})
CAUSE = Cause(Stage.DECODE, Ending.POISON, reason="r")
REFUSED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
FIRST_WAIT, LONGEST_WAIT, A_LONG_TIME = 0.5, 30.0, 60.0
FIRST_CLIENT_WAIT, LONGEST_CLIENT_WAIT = 1.0, 10.0
"""Seconds."""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client():
    return FakeProducer()


@pytest.fixture
def writer(client, clock):
    return LetterWriter(SETTINGS, 4, client=client, clock=clock)


@pytest.fixture
def delivered():
    return []


@pytest.fixture
def letter(delivered):
    def new_letter(offset=1):
        return PendingLetter(Message(offset_=offset), CAUSE, lambda: delivered.append(offset))

    return new_letter


def letter_of(record: Message) -> PendingLetter:
    return PendingLetter(record, CAUSE, lambda: None)


def test_a_letter_counts_once_it_is_confirmed_and_not_before(writer, client, letter, delivered):
    writer.write(letter())
    writer.poll()
    assert (delivered, writer.pending) == ([], 1)
    client.report()
    assert (delivered, writer.pending) == ([1], 0)


@pytest.mark.parametrize("way", ["in its report", "by the client"])
def test_a_refused_letter_does_not_count_and_is_sent_again_later(
    writer, client, clock, letter, delivered, way
):
    if way == "by the client":
        client.errors = [kafka_exception(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    writer.write(letter())
    client.report(REFUSED)
    assert (delivered, writer.pending) == ([], 1)
    assert writer.refusal.startswith("litellm-logs.dlq: ")
    before = len(client.records)
    writer.poll()
    assert len(client.records) == before, "not at once"
    clock.now = A_LONG_TIME
    writer.poll()
    assert len(client.records) == before + 1
    client.report()
    assert (delivered, writer.pending, writer.refusal) == ([1], 0, "")


def test_the_others_are_sent_at_once_when_one_letter_is_accepted_again(
    writer, client, clock, letter, delivered
):
    for offset in (1, 2, 3):
        writer.write(letter(offset))
    client.report(REFUSED)
    writer.write(letter(4))
    client.report()
    writer.poll()
    client.report()
    assert sorted(delivered) == [1, 2, 3, 4]
    assert clock.now == 0.0


def test_a_full_queue_is_tried_again_at_the_next_poll(writer, client, letter, delivered):
    client.errors = [BufferError()]
    writer.write(letter())
    assert (client.records, writer.pending, writer.refusal) == ([], 1, "")
    writer.poll()
    client.report()
    assert delivered == [1]


@pytest.mark.parametrize(("source_partition", "partition"), [(3, 3), (6, 2)])
def test_a_letter_has_the_record_and_its_cause_and_lies_beside_its_source(
    writer, client, source_partition, partition
):
    headers = [("trace", b"\xff")]
    writer.write(letter_of(Message(partition_=source_partition, offset_=41, headers_=headers)))
    (sent,) = client.records
    assert (sent["topic"], sent["partition"]) == ("litellm-logs.dlq", partition)
    assert (sent["key"], sent["value"]) == (b"key", b"value")
    assert sent["headers"][0] == ("trace", b"\xff")
    ours = our_headers(sent["headers"])
    assert (ours["topic"], ours["partition"], ours["offset"]) == (
        "litellm-logs",
        str(source_partition),
        "41",
    )
    assert (ours["group"], ours["stage"], ours["es.reason"]) == (SETTINGS.group, "decode", "r")
    assert not [name for name in ours if name.startswith("truncated")]


# Letters that are too large

LARGE = Message(
    key_=b"k" * (TRUNCATED_KEY_BYTES + 1),
    value_=b"v" * TRUNCATED_BYTES + b"the end",
    headers_=[("trace", b"1")],
)


def test_a_letter_that_is_too_large_is_truncated_at_once_and_says_what_it_was(writer, client):
    client.errors = [kafka_exception(TOO_LARGE)]
    writer.write(letter_of(LARGE))
    writer.poll()
    (sent,) = client.records
    assert sent["value"] == b"v" * TRUNCATED_BYTES
    assert sent["key"] == LARGE.key_, "the value alone, at first"
    assert sent["headers"][0] == ("trace", b"1")
    ours = our_headers(sent["headers"])
    assert (ours["offset"], ours["stage"]) == ("41", "decode")
    assert ours["truncated.length"] == str(TRUNCATED_BYTES + len(b"the end"))
    assert ours["truncated.sha256"] == hashlib.sha256(LARGE.value_).hexdigest()
    assert writer.refusal == ""


def test_a_letter_that_is_still_too_large_keeps_our_headers_and_the_beginning_of_its_key(
    writer, client
):
    client.errors = [kafka_exception(TOO_LARGE)] * 2
    writer.write(letter_of(LARGE))
    writer.poll()
    writer.poll()
    (sent,) = client.records
    assert sent["value"] == b"v" * TRUNCATED_BYTES
    assert sent["key"] == b"k" * TRUNCATED_KEY_BYTES
    assert "trace" not in [name for name, _ in sent["headers"]]
    ours = our_headers(sent["headers"])
    assert (ours["offset"], ours["stage"]) == ("41", "decode")
    assert ours["truncated.sha256"] == hashlib.sha256(LARGE.value_).hexdigest()
    assert writer.refusal == ""


def test_a_letter_without_key_and_value_that_is_too_large_loses_the_sources_headers(writer, client):
    client.errors = [kafka_exception(TOO_LARGE)] * 2
    writer.write(letter_of(Message(key_=None, value_=None, headers_=[("trace", b"1")])))
    writer.poll()
    writer.poll()
    (sent,) = client.records
    assert (sent["key"], sent["value"]) == (None, None)
    ours = our_headers(sent["headers"])
    assert len(ours) == len(sent["headers"])
    assert not [name for name in ours if name.startswith("truncated")], "nothing of it is missing"


def test_a_letter_that_cannot_be_made_smaller_waits_like_any_refused_letter(writer, client, clock):
    client.errors = [kafka_exception(TOO_LARGE)] * 3
    writer.write(letter_of(LARGE))
    for _ in range(3):
        writer.poll()
    assert (client.records, writer.pending) == ([], 1)
    assert writer.refusal.startswith("litellm-logs.dlq: ")
    clock.now = A_LONG_TIME
    writer.poll()
    assert client.records[0]["value"] == b"v" * TRUNCATED_BYTES
    client.report()
    assert (writer.pending, writer.refusal) == (0, "")


# Refusals that last


def test_refused_letters_wait_half_a_second_at_most_at_first(writer, client, clock, letter):
    letters = 50
    for offset in range(letters):
        writer.write(letter(offset))
    client.report(REFUSED)
    clock.now = FIRST_WAIT
    writer.poll()
    assert len(client.records) == 2 * letters


def test_a_letter_that_is_refused_again_and_again_waits_longer_up_to_half_a_minute(
    writer, client, clock, letter
):
    writer.write(letter())
    for _ in range(10):
        client.report(REFUSED)
        sent, refused_at = len(client.records), clock.now
        clock.now = refused_at + LONGEST_WAIT
        writer.poll()
        assert len(client.records) == sent + 1
    client.report(REFUSED)
    clock.now += LONGEST_WAIT / 11
    writer.poll()
    assert len(client.records) == sent + 1, "a tenth of the longest wait at least"


def test_a_refusal_is_logged_with_its_reason_once_while_it_lasts(writer, client, letter):
    with capture_logs() as lines:
        for offset in (1, 2):
            writer.write(letter(offset))
        client.report(REFUSED)
    assert lines == [
        {
            "event": "dead-letter topic refuses letters, they are kept and sent again",
            "log_level": "error",
            "why": f"litellm-logs.dlq: {REFUSED.str()}: grant WRITE on it",
        }
    ]


def test_after_a_fatal_error_a_new_client_sends_every_letter_that_was_not_confirmed(
    writer, client, clock, letter, delivered
):
    for offset in (1, 2, 3):
        writer.write(letter(offset))
    client.report(number=1)
    late = client.records[2]["on_delivery"]
    with capture_logs() as lines:
        client.report(fatal_error(), number=1)
        writer.poll()
        assert client.created == 1, "not at once: the next one may be refused as well"
        clock.now = FIRST_CLIENT_WAIT
        writer.poll()
    assert client.created == 2
    assert lines[1:] == [
        {
            "event": "producer of dead letters replaced",
            "log_level": "warning",
            "unconfirmed": 1,
        }
    ]
    assert (delivered, writer.pending) == ([1], 2)
    assert len(client.records) == 5
    late(None, None)
    assert delivered == [1], "a report of the old client counts no more"
    client.report()
    assert sorted(delivered) == [1, 2, 3]
    assert writer.pending == 0


@pytest.mark.parametrize("way", ["poll", "produce"])
def test_a_client_that_kafka_refuses_for_good_ends_no_worker_and_is_replaced(
    writer, client, clock, letter, delivered, way
):
    """No WRITE on any topic: the client gets no id, and says so out of the call itself."""
    refused = fatal_error(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    writer.write(letter(1))
    if way == "poll":
        client.poll_errors = [KafkaException(refused)]
    else:
        client.errors = [KafkaException(refused)]
        writer.write(letter(2))
    writer.poll()
    assert "grant WRITE on it" in writer.refusal
    writer.write(letter(3))
    assert writer.pending == 3 if way == "produce" else 2
    for _ in range(3):  # forbidden as ever: one new client each time, later and later
        clock.now += LONGEST_CLIENT_WAIT
        client.poll_errors = [KafkaException(refused)]
        writer.poll()
        writer.poll()
    assert client.created == 4
    clock.now += LONGEST_CLIENT_WAIT
    writer.poll()
    client.report()
    assert (sorted(delivered), writer.refusal) == ([1, 2, 3] if way == "produce" else [1, 3], "")


def test_the_reason_of_a_refusal_is_not_replaced_by_what_follows_from_it(writer, client, letter):
    writer.write(letter(1))
    client.poll_errors = [KafkaException(fatal_error(KafkaError.CLUSTER_AUTHORIZATION_FAILED))]
    client.errors = [KafkaException(KafkaError(KafkaError._FATAL, "Local: Fatal error"))]
    writer.poll()
    writer.write(letter(2))
    assert "Local: Fatal error" not in writer.refusal

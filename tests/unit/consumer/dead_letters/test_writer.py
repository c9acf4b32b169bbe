"""Letters on their way: one counts once it is confirmed, and a refused one is sent again."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from llmlog_common.settings import load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.writer import LetterWriter, PendingLetter
from support.fakes.kafka import FakeProducer, fatal_error, kafka_exception
from support.messages import Message

CAUSE = Cause(Stage.DECODE, Ending.POISON, reason="r")
REFUSED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
A_LONG_TIME = 60.0


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
    return LetterWriter(load(environ={}), 4, client=client, clock=clock)


@pytest.fixture
def delivered():
    return []


@pytest.fixture
def letter(delivered):
    def new_letter(offset=1):
        return PendingLetter(Message(offset_=offset), CAUSE, lambda: delivered.append(offset))

    return new_letter


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


def test_a_letter_that_is_too_large_is_truncated_at_once_and_does_not_wait(writer, client, letter):
    client.errors = [kafka_exception(KafkaError.MSG_SIZE_TOO_LARGE)] * 2
    writer.write(letter())
    writer.poll()
    writer.poll()
    assert len(client.records) == 1
    assert writer.refusal == ""


def test_after_a_fatal_error_a_new_client_sends_every_letter_that_was_not_confirmed(
    writer, client, clock, letter, delivered
):
    for offset in (1, 2, 3):
        writer.write(letter(offset))
    client.report(number=1)
    late = client.records[2]["on_delivery"]
    client.report(fatal_error(), number=1)
    assert client.created == 2
    assert (delivered, writer.pending) == ([1], 2)
    clock.now = A_LONG_TIME
    writer.poll()
    assert len(client.records) == 5
    late(None, None)
    assert delivered == [1], "a report of the old client counts no more"
    client.report()
    assert sorted(delivered) == [1, 2, 3]
    assert writer.pending == 0

"""The producer behind `produce`, `replay` and the letters: what is confirmed, and what is not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.settings import load
from llmlog_consumer.kafka.producer import KafkaProducer
from support.fakes.kafka import ConfirmingProducer, FakeProducer, kafka_exception

TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)


@pytest.fixture
def client():
    return FakeProducer()


@pytest.fixture
def reports():
    return []


@pytest.fixture
def producer(client, reports):
    def on_report(item, error):
        reports.append((item, error))

    return KafkaProducer(load(environ={}), on_report, client=client)


def test_a_record_is_written_as_it_was_given(producer, client):
    headers = [("own", b"\x00")]
    producer.try_send("a", "t", b"value", b"key", headers=headers, partition=3)
    producer.send("b", "t", None, None)
    first, second = client.records
    assert {k: v for k, v in first.items() if k != "on_delivery"} == {
        "topic": "t", "value": b"value", "key": b"key", "headers": headers, "partition": 3,
    }  # fmt: skip
    assert (second["value"], second["key"], second["partition"]) == (None, None, -1)


def test_a_record_is_unconfirmed_until_its_report(producer, client, reports):
    producer.try_send("a", "t", b"1", None)
    producer.try_send("b", "t", b"2", None)
    assert (producer.unconfirmed, producer.delivered) == (2, 0)
    client.report(number=1)
    assert (producer.unconfirmed, producer.delivered) == (1, 1)
    client.report(TIMED_OUT)
    assert (producer.unconfirmed, producer.delivered) == (0, 1)
    assert reports == [("a", None), ("b", TIMED_OUT)]
    assert producer.refusal == TIMED_OUT.str()


def test_a_full_queue_is_the_callers_business_without_waiting(producer, client, reports):
    client.errors = [BufferError()]
    with pytest.raises(BufferError):
        producer.try_send("a", "t", b"1", None)
    assert producer.unconfirmed == 0
    assert not reports


def test_a_full_queue_is_waited_for(client):
    producer = KafkaProducer(load(environ={}), client=client)
    client.errors = [BufferError(), BufferError()]
    producer.send(None, "t", b"1", None)
    assert len(client.records) == producer.unconfirmed == 1


def test_a_record_that_the_client_refuses_is_an_error_that_names_the_topic(producer, client):
    client.errors = [kafka_exception(KafkaError.MSG_SIZE_TOO_LARGE)]
    with pytest.raises(KafkaRefusal, match=r"t: .*too large"):
        producer.send("a", "t", b"1", None)
    assert producer.unconfirmed == 0
    assert producer.refusal.startswith("t: ")


def test_everything_that_is_confirmed_in_the_end_is_no_error():
    producer = KafkaProducer(load(environ={}), client=ConfirmingProducer())
    for _ in range(3):
        producer.send(None, "t", b"1", None)
    producer.finish("events")
    assert producer.delivered == 3


def test_what_is_not_confirmed_in_time_is_an_error(producer, client):
    producer.try_send("a", "t", b"1", None)
    producer.try_send("b", "t", b"2", None)
    client.report(number=1)
    with pytest.raises(KafkaRefusal, match=r"1 events sent, the others not \(no answer in time\)"):
        producer.finish("events")


def test_one_refused_record_is_an_error_in_the_end_though_all_have_their_report(producer, client):
    producer.try_send("a", "t", b"1", None)
    client.report(TIMED_OUT)
    producer.try_send("b", "t", b"2", None)
    client.report()
    with pytest.raises(KafkaRefusal, match=r"1 letters sent, the others not \(Local: Mess"):
        producer.finish("letters")


def test_a_rebuild_returns_what_was_not_confirmed_and_reports_nothing_of_it(
    producer, client, reports
):
    for item in ("a", "b", "c"):
        producer.try_send(item, "t", b"1", None)
    client.report(number=1)
    late = [record["on_delivery"] for record in client.records[1:]]
    assert producer.rebuild() == ["b", "c"]
    assert client.created == 2
    assert producer.unconfirmed == 0
    for report in late:
        report(None, None)
    assert reports == [("a", None)]
    assert producer.delivered == 1

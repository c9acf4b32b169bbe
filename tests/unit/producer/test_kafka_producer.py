"""The gateway's Kafka client: reports, partitions, batches, and its replacement."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from llmlog_common.settings import load
from llmlog_producer.events.build import EncodedEvent
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_producer.sending.partitioner import BY_KEY
from support.fakes.gateway import TRANSPORT, FakeProducer

TOPIC = load(environ={}).topic
EVENT = EncodedEvent(b"k" * 20 + b"value")


class Client:
    """A client on fake producers, with the reports that it has made."""

    def __init__(self, **environ):
        self.producers, self.reports, self.errors = [], [], []
        self.client = KafkaProducer(
            load(environ={f"LLMLOG_{name.upper()}": value for name, value in environ.items()}),
            lambda event, error: self.reports.append((event, error)),
            self.errors.append,
            create=self._create,
        )

    def _create(self, _kind, config):
        self.producers.append(FakeProducer(config))
        return self.producers[-1]

    def produce(self):
        partition = self.client.partitions.next_partition(len(b"value"), 1.0)
        self.client.produce(EVENT, b"value", partition)
        return self.producers[-1].produced[-1]

    def raise_error(self, code, *, fatal=False):
        self.producers[-1].config["error_cb"](KafkaError(code, fatal=fatal))


@pytest.fixture
def one():
    return Client()


def test_an_event_is_reported_with_its_error_or_none(one):
    for error in (None, KafkaError(TRANSPORT)):
        one.produce()["on_delivery"](error, None)
        assert one.reports.pop() == (EVENT, error)


def test_events_of_a_purged_or_replaced_client_are_not_reported(one):
    for forget in (one.client.purge, one.client.rebuild):
        sent = one.produce()
        forget()
        sent["on_delivery"](None, None)
        assert not one.reports
    one.produce()["on_delivery"](None, None)
    assert len(one.reports) == 1


def test_a_fatal_error_breaks_the_client_until_it_is_replaced(one):
    one.raise_error(TRANSPORT)
    assert not one.client.broken
    one.raise_error(TRANSPORT, fatal=True)
    assert one.client.broken
    assert len(one.errors) == 2
    one.client.rebuild()
    assert not one.client.broken
    assert len(one.producers) == 2
    one.produce()["on_delivery"](KafkaError(TRANSPORT, fatal=True), None)
    assert one.client.broken


def test_brokers_are_down_until_one_answers(one):
    for is_answer in (lambda: one.produce()["on_delivery"](None, None), one.client.mark_up):
        one.raise_error(KafkaError._ALL_BROKERS_DOWN)
        assert one.client.down
        is_answer()
        assert not one.client.down


def test_a_topic_is_looked_up_by_its_name_only_once_it_is_known(one):
    one.producers[-1].topics = {TOPIC: 3}
    assert one.client.topic_exists(1.0, known=False)
    assert one.client.topic_exists(1.0, known=True)
    assert one.producers[-1].asked == [None, TOPIC], "by its name it could be created"


def test_a_burst_goes_to_a_partition_that_the_topic_has(one):
    assert one.produce()["partition"] == BY_KEY
    one.producers[-1].topics = {TOPIC: 3}
    assert one.client.topic_exists(1.0, known=False)
    assert one.client.partitions.partition_count == 3
    assert one.produce()["partition"] in range(3)
    one.producers[-1].topics = {}
    assert not one.client.topic_exists(1.0, known=False)
    assert one.client.partitions.partition_count == 0


def test_an_unknown_partition_makes_the_key_decide_until_the_next_lookup(one):
    one.producers[-1].topics = {TOPIC: 3}
    one.client.topic_exists(1.0, known=False)
    for code, count in ((KafkaError._QUEUE_FULL, 3), (KafkaError._UNKNOWN_PARTITION, 0)):
        one.producers[-1].refusal = KafkaException(KafkaError(code))
        with pytest.raises(KafkaException):
            one.produce()
        assert one.client.partitions.partition_count == count


@pytest.mark.parametrize("call", ["produce", "poll"])
@pytest.mark.parametrize("code", [KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._FATAL])
def test_a_fatal_error_out_of_a_call_breaks_the_client(one, call, code):
    error = KafkaError(code, fatal=code != KafkaError._FATAL)
    one.producers[-1].refusal = KafkaException(error)
    if call == "produce":
        with pytest.raises(KafkaException):
            one.produce()
    else:
        one.client.poll(0)
        assert one.errors == [error], "it is reported nowhere else"
    assert one.client.broken


def test_an_error_out_of_poll_that_is_not_fatal_breaks_nothing(one):
    one.producers[-1].refusal = KafkaException(KafkaError(TRANSPORT))
    one.client.poll(0)
    assert not one.client.broken


def test_a_lookup_tells_which_partitions_have_no_leader(one):
    one.producers[-1].topics, one.producers[-1].leaderless = {TOPIC: 3}, {1}
    assert one.client.topic_exists(1.0, known=False)
    assert one.client.partitions.leaderless == {1}
    assert {one.produce()["partition"] for _ in range(9)} <= {0, 2}


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC])
def test_a_topic_that_was_deleted_is_missing_though_its_name_is_answered(one, code):
    one.producers[-1].topics = {TOPIC: 0}
    one.producers[-1].topic_error = KafkaError(code)
    assert not one.client.topic_exists(1.0, known=True)


def test_a_topic_that_may_not_be_seen_is_not_called_missing(one):
    one.producers[-1].topics = {TOPIC: 0}
    one.producers[-1].topic_error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        one.client.topic_exists(1.0, known=True)


def test_a_partitioner_of_the_users_own_decides_by_the_key():
    one = Client(kafka_producer_partitioner="murmur2_random")
    one.producers[-1].topics = {TOPIC: 3}
    assert one.client.topic_exists(1.0, known=False)
    assert one.produce()["partition"] == BY_KEY


@pytest.mark.parametrize(
    ("given", "topic_bytes", "expected", "clients"),
    [
        (None, 1_048_588, 1_000_000, 1),
        (None, 20_000, 19_488, 2),
        ("0x80000", 20_000, 19_488, 2),
        ("5000", 20_000, 5000, 1),
        ("2000000", 1_048_588, 1_048_076, 2),
        ("many", 1_048_588, 1_048_076, 2),
        (None, 100, 1, 2),
    ],
)
def test_no_batch_is_larger_than_the_topic_takes(given, topic_bytes, expected, clients):
    one = Client(**({} if given is None else {"kafka_producer_batch_size": given}))
    one.client.limit_batches(topic_bytes)
    assert one.client.batch_bytes == expected
    assert len(one.producers) == clients, "a client is replaced only if it has to be"

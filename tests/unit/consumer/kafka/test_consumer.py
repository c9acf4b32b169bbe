"""A member of the group: what Kafka refuses while it runs, and when that is over."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from llmlog_common.settings import load
from llmlog_consumer.kafka import consumer as module
from llmlog_consumer.kafka import errors as kafka_errors
from llmlog_consumer.kafka.consumer import GroupConsumer

REFUSALS = [
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._AUTHENTICATION, KafkaError._SSL,
]  # fmt: skip


class Member:
    """In the place of `Consumer`: hands out what a test puts there."""

    def __init__(self, config):
        self.config, self.messages = config, []

    def subscribe(self, topics, **callbacks):
        self.topics = topics

    def consume(self, number, timeout):
        messages, self.messages = self.messages, []
        return messages


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(module, "new_client", lambda _kind, config: Member(config))
    return GroupConsumer(load(environ={}), SimpleNamespace(on_commit_failed=lambda _: None))


def message(code=None):
    error = None if code is None else KafkaError(code)
    return SimpleNamespace(error=lambda: error, partition=lambda: 0)


def committed(error=None):
    return [SimpleNamespace(partition=0, error=error)]


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("way", ["message", "error", "commit", "part of a commit"])
def test_a_refusal_is_remembered_wherever_it_is_met(source, code, way):
    error, config = KafkaError(code), source._consumer.config
    if way == "message":
        source._consumer.messages = [message(code)]
        assert source.consume(0.0) == []
    elif way == "error":
        config["error_cb"](error)
    else:
        config["on_commit"](error if way == "commit" else None, committed(error))
    assert error.str() in source.refusal


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN])
def test_who_is_away_refuses_nothing(source, code):
    source._consumer.config["error_cb"](KafkaError(code))
    source._consumer.config["on_commit"](KafkaError(code), committed())
    assert source.refusal == ""


@pytest.mark.parametrize("end", ["records", "commit"])
def test_a_refusal_ends_with_records_or_with_a_commit(source, end):
    source._consumer.config["error_cb"](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    source.consume(0.0)
    assert source.refusal
    if end == "records":
        source._consumer.messages = [message(), message(KafkaError._PARTITION_EOF)]
        assert len(source.consume(0.0)) == 1
    else:
        source._consumer.config["on_commit"](None, [TopicPartition("t", 0, 7)])
    assert source.refusal == ""


def test_a_commit_that_fails_otherwise_ends_no_refusal(source):
    source._consumer.config["error_cb"](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    source._consumer.config["on_commit"](KafkaError(KafkaError._TIMED_OUT), committed())
    assert source.refusal


@pytest.mark.parametrize(
    ("code", "ends"),
    [(KafkaError._AUTHENTICATION, True), (KafkaError.TOPIC_AUTHORIZATION_FAILED, False)],
)
def test_a_member_without_partitions_sees_that_credentials_are_taken_again(
    source, monkeypatch, code, ends
):
    """It has no records and no commits to see it by; the client says it as long as it stands."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(kafka_errors, "time", clock)
    for clock.now in (0.0, 100.0):
        source._consumer.config["error_cb"](KafkaError(code))
    clock.now = 210.0
    assert source.refusal
    clock.now = 100.0 + kafka_errors.SAID_AGAIN
    assert bool(source.refusal) is not ends

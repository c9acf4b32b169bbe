"""Topics, and the errors that a cluster's refusals become."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.errors import KafkaUnreachable
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import Group, KafkaAdmin, Member, Topic
from support.fakes.kafka import FakeAdminClient

NOWHERE = {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
"""No broker: what is silent is looked at once more, by a connection of its own."""


@pytest.fixture
def client():
    return FakeAdminClient({"t": 3})


@pytest.fixture
def admin(client):
    return KafkaAdmin(
        load(environ=NOWHERE), client=client, reader=client.reader, patience_seconds=0.0
    )


def test_a_topic_is_returned_with_its_partitions(admin):
    assert admin.require("t") == Topic(3, 1)


def test_partitions_without_a_leader_are_named(admin, client):
    client.leaderless = {2}
    assert admin.require("t").leaderless == {2}


def test_a_group_is_returned_with_its_members_and_their_partitions(admin, client):
    def member(name, instance, *partitions):
        places = [TopicPartition(admin.settings.topic, p) for p in partitions]
        places.append(TopicPartition("other", 7))
        return SimpleNamespace(
            member_id=name, group_instance_id=instance, host="/10.0.0.3",
            assignment=SimpleNamespace(topic_partitions=places),
        )  # fmt: skip

    client.members = [member("rdkafka-2", None), member("rdkafka-1", "host-a-0", 0, 2)]
    assert admin.group() == Group(
        "stable",
        (
            Member("host-a-0", "10.0.0.3", frozenset({0, 2})),
            Member("rdkafka-2", "10.0.0.3", frozenset()),
        ),
    )


def test_a_missing_topic_says_what_to_run(admin):
    with pytest.raises(KafkaRefusal, match=r"topic x does not exist .* run `pipeline setup`"):
        admin.require("x")


def test_a_compacted_topic_is_refused_for_it_deletes_events(admin, monkeypatch):
    monkeypatch.setattr(admin, "config", lambda _: {"cleanup.policy": "compact,delete"})
    with pytest.raises(KafkaRefusal, match=r"cleanup\.policy=compact,delete"):
        admin.require("t")


def test_brokers_that_do_not_answer_are_unreachable(admin, client):
    client.refusal = KafkaError(KafkaError._TRANSPORT)
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
        admin.topics()


def test_refused_credentials_are_told_in_place_of_the_time_out_that_they_cause(admin, client):
    client.config["error_cb"](KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    client.refusal = KafkaError(KafkaError._TRANSPORT)
    with pytest.raises(KafkaRefusal, match="refuses the connection: wrong password"):
        admin.topics()


def test_a_refused_certificate_is_a_refusal_although_its_code_is_that_of_a_lost_connection(
    admin, client
):
    alert = "Receive failed: tlsv13 alert certificate required: SSL alert number 116"
    client.config["error_cb"](KafkaError(KafkaError._TRANSPORT, alert))
    client.refusal = KafkaError(KafkaError._TRANSPORT)
    with pytest.raises(KafkaRefusal, match=r"alert certificate required.*ssl_certificate_location"):
        admin.topics()


def test_the_clients_own_reason_is_told_while_no_broker_answers(client):
    admin, told = (
        KafkaAdmin(
            load(environ=NOWHERE), client=client, reader=client.reader, patience_seconds=0.1
        ),
        [],
    )
    admin.on_trouble = told.append
    client.config["error_cb"](KafkaError(KafkaError._RESOLVE, "Failed to resolve 'kafka:9092'"))
    client.config["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN))
    client.refusal = KafkaError(KafkaError._TRANSPORT)
    with pytest.raises(KafkaUnreachable, match=r"does not answer: Failed to resolve 'kafka:9092'"):
        admin.topics()
    assert told[0] == "Kafka at 127.0.0.1:1 does not answer: Failed to resolve 'kafka:9092'"


def test_the_rights_that_this_user_lacks_are_those_that_the_cluster_does_not_list(admin, client):
    client.rights = {"READ", "DESCRIBE"}
    assert admin.missing_rights("t", "READ", "WRITE") == {"WRITE"}
    client.rights = None
    assert admin.missing_rights("t", "READ", "WRITE") == set(), "it does not tell"


def test_a_topic_is_created_or_was_there_already(admin):
    assert admin.create("new", 4, 1, {})
    assert admin.require("new").partitions == 4
    assert not admin.create("new", 9, 1, {})
    assert admin.require("new").partitions == 4


def test_a_topic_that_may_not_be_created_is_refused(admin, client):
    client.refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaRefusal):
        admin.create("new", 4, 1, {})

"""The checks before workers start."""

from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from llmlog_common.errors import ElasticsearchError, KafkaError, KafkaUnreachable
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import Topic
from llmlog_consumer.kafka.places import Log
from llmlog_consumer.service import preflight
from support.fakes.service import FakeCluster, FakeTopics

SETTINGS = load(environ={"LLMLOG_GROUP": "g"})
TOPICS = {SETTINGS.topic: Topic(4, 1), SETTINGS.dlq_topic: Topic(8, 1)}


class Offsets:
    """Of a group without offsets, on a topic of four partitions."""

    def __init__(self, unread=""):
        self.unread, self.latest = unread, None

    def commit_start(self, _topic, _partitions, *, latest, leaderless):
        self.latest = latest
        return self.unread

    def bounds(self, _topic, partitions, leaderless):
        return {p: None if p in leaderless else Log(10, 10, 10 + 5 * p) for p in partitions}


def check(topics=None, offsets=None, elastic=None, **options):
    options = {"latest": True, "until_end": False, "stop": threading.Event(), **options}
    return preflight.check(
        SETTINGS,
        topics or FakeTopics(TOPICS),
        offsets or Offsets(),
        elastic or FakeCluster(_index_template=200),
        **options,
    )


@pytest.mark.parametrize("unread", ["it starts at the end of the topic: 450 records …", ""])
def test_what_a_group_without_offsets_does_not_read_is_a_warning(unread):
    offsets = Offsets(unread)
    with capture_logs() as logs:
        check(offsets=offsets)
    assert offsets.latest is True
    warning = {"event": "group has no offsets", "group": "g", "what": unread,
               "log_level": "warning"}  # fmt: skip
    assert logs == ([warning] if unread else [])


def test_until_the_end_is_until_all_that_is_acknowledged_of_every_partition():
    task = check(until_end=True)
    assert task.until == {0: 10, 1: 15, 2: 20, 3: 25}
    assert task.dlq_partitions == 8
    assert check().until is None


def test_the_end_of_a_partition_without_a_leader_is_not_known_yet():
    topics = FakeTopics(TOPICS | {SETTINGS.topic: Topic(4, 1, frozenset({2}))})
    assert check(topics, until_end=True).until == {0: 10, 1: 15, 2: None, 3: 25}


def test_a_cluster_without_the_index_template_ends_the_command():
    with pytest.raises(ElasticsearchError, match="run `pipeline setup`"):
        check(elastic=FakeCluster())


def test_brokers_that_do_not_answer_are_waited_for_until_the_deadline():
    topics = FakeTopics(TOPICS)
    topics.errors = [KafkaUnreachable("Kafka at nowhere does not answer")]
    with pytest.raises(KafkaUnreachable):
        check(topics, deadline=time.monotonic())


def test_a_user_who_may_not_read_the_topic_ends_the_command():
    topics = FakeTopics(TOPICS)
    topics.forbidden = {(SETTINGS.topic, "READ")}
    with pytest.raises(KafkaError, match=f"topic {SETTINGS.topic}: grant READ"):
        check(topics)


def test_the_right_to_write_dead_letters_is_said_and_waited_for():
    topics = FakeTopics(TOPICS)
    topics.forbidden = {(SETTINGS.dlq_topic, "WRITE"), (SETTINGS.topic, "WRITE")}
    threading.Timer(0.02, topics.forbidden.clear).start()
    told = []
    with capture_logs() as logs:
        assert check(topics, on_wait=told.append) is not None
    (line,) = logs
    assert f"topic {SETTINGS.dlq_topic}: grant WRITE" in line["why"]
    assert told == [line["why"]]


def test_a_signal_ends_the_waiting_for_brokers():
    topics, stop = FakeTopics(TOPICS), threading.Event()
    topics.errors = [KafkaUnreachable("Kafka at nowhere does not answer")] * 1000
    elastic = FakeCluster(_index_template=200)
    threading.Timer(0.02, stop.set).start()
    assert check(topics, elastic=elastic, stop=stop) is None
    assert elastic.closed


def test_what_the_client_says_while_it_waits_is_told_too():
    class Topics(FakeTopics):
        def require_properties(self):
            self.on_trouble("Kafka at k:1 does not answer: refused")

    topics, told = Topics(TOPICS), []
    check(topics, on_wait=told.append)
    assert told == ["Kafka at k:1 does not answer: refused"]
    topics.on_trouble("later, while workers run")
    assert len(told) == 1

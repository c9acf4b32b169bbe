"""Setup in Kafka: the topics, and what another setup does meanwhile."""

from datetime import timedelta

import pytest

from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import Topic
from llmlog_consumer.provision.topics import topic_steps
from support.fakes.service import FakeTopics


def steps(topics, **environ):
    return [step.carry_out() for step in topic_steps(load(environ=environ), topics)]


@pytest.mark.parametrize(("retention", "letters"), [("7 days", 30), ("90 days", 90)])
def test_letters_are_kept_as_long_as_their_records(retention, letters):
    topics = FakeTopics()
    done = steps(topics, LLMLOG_RETENTION=retention)
    days = {
        name: timedelta(milliseconds=int(config["retention.ms"])).days
        for name, config in topics.created.items()
    }
    assert days == {
        "litellm-logs": int(retention[:2]),
        "litellm-logs.dlq": letters,
        "litellm-logs.audit": 365,
    }
    assert done[1].detail.endswith(f"kept {letters} days")


def test_a_dry_run_creates_nothing():
    topics = FakeTopics()
    assert [step.change for step in topic_steps(load(environ={}), topics)] == ["created"] * 3
    assert topics.created == {}


def test_a_topic_that_another_setup_creates_meanwhile_is_no_error():
    topics = FakeTopics()
    topics.another_creates = True
    assert [(step.change, step.detail) for step in steps(topics)] == [
        ("unchanged", "created meanwhile by another setup")
    ] * 3


def test_a_topic_with_other_partitions_is_left_alone():
    there = {"litellm-logs": Topic(3, 1), "litellm-logs.dlq": Topic(3, 1)}
    there["litellm-logs.audit"] = Topic(1, 1)
    topics = FakeTopics(there)
    assert [step.change for step in steps(topics)] == ["differs", "unchanged", "unchanged"]
    assert topics.created == {}

"""Readers and groups on a real broker: a topic recreated while it is read; a group's start."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from llmlog_common.errors import KafkaError
from llmlog_common.settings import load
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap
from llmlog_consumer.kafka.offsets import KafkaOffsets
from support.payloads import send
from support.pipeline import Pipeline, wait_until


def recreate_topic(bootstrap: str, topic: str, values: list[bytes | None]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    wait_until(lambda: topic in admin.list_topics(timeout=10).topics)
    send(bootstrap, topic, values, partition=0)


@pytest.mark.parametrize("records", [0, 500])
def test_a_topic_recreated_while_it_is_read_ends_the_reading(pipeline: Pipeline, records) -> None:
    settings = load(environ=pipeline.environment)
    bootstrap = settings.kafka_bootstrap_servers
    send(bootstrap, settings.topic, [bytes(2000)] * 5000, partition=0)
    chunks = topic_reader.read(settings, settings.topic, {0: (0, 5000)}, small=True)
    read = [next(chunks)]
    recreate_topic(bootstrap, settings.topic, [b"new"] * records)
    with pytest.raises(KafkaError, match="truncated or recreated while it was read"):
        read.extend(chunks)
    offsets = [message.offset() for chunk in read for message in chunk]
    assert offsets == list(range(len(offsets)))


def test_a_group_starts_once_and_reports_the_records_it_skips(pipeline: Pipeline) -> None:
    settings = load(environ=pipeline.environment)
    admin, partitions = KafkaAdmin(settings), range(4)
    offsets, gaps = KafkaOffsets(admin), AcceptedGaps(admin)
    send(settings.kafka_bootstrap_servers, settings.topic, [b"v"] * 30, partition=1)
    with_member = load(environ={**pipeline.environment, "LLMLOG_GROUP": f"{settings.group}.busy"})
    member = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": with_member.group}
    )
    member.subscribe([settings.topic])
    wait_until(lambda: member.poll(0.1) or member.assignment())
    busy = KafkaOffsets(KafkaAdmin(with_member))
    assert busy.commit_start(settings.topic, partitions, latest=True) == ""
    assert busy.committed(settings.topic, partitions) == {}
    member.close()

    unread = offsets.commit_start(settings.topic, partitions, latest=True)
    assert unread == "it starts at the end of the topic: 30 records before it are not read"
    assert offsets.committed(settings.topic, partitions) == {0: 0, 1: 30, 2: 0, 3: 0}
    assert offsets.commit_start(settings.topic, partitions, latest=False) == ""
    gaps.accept(settings.topic, 1, Gap(0, 5, 1))
    assert gaps.of_topic(settings.topic)[1] == [Gap(0, 5, 1)]

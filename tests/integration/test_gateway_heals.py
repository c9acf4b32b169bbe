"""A gateway whose broker refuses to be written to, or loses its topic, heals by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from llmlog_common.settings import load
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.timing import TIMING
from llmlog_schemas.codec import Decoder
from support.judge import read_all
from support.payloads import payload
from support.pipeline import wait_until

TOPIC = "heals"
NO_WRITE = {
    "on the topic": [(ResourceType.TOPIC, TOPIC, AclOperation.WRITE)],
    "on any topic": [
        (ResourceType.BROKER, "kafka-cluster", AclOperation.IDEMPOTENT_WRITE),
        (ResourceType.TOPIC, "*", AclOperation.WRITE),
    ],
}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker that asks who may do what."""
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    folder = tmp_path_factory.mktemp("kafka")
    with KafkaServer(folder, *free_ports(1), properties=properties) as server:
        yield server


@pytest.fixture
def admin(kafka: KafkaServer) -> AdminClient:
    """An admin; the topic is there, with three partitions."""
    one = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    create(one, 3)
    return one


def create(admin: AdminClient, partitions: int) -> None:
    """Make the topic anew."""
    if TOPIC in admin.list_topics(timeout=30).topics:
        admin.delete_topics([TOPIC])[TOPIC].result(30)
        wait_until(lambda: TOPIC not in admin.list_topics(timeout=30).topics, 30, "it is gone")
    admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(30)
    # The controller has it. A broker that is behind may still take a record for the earlier one.
    wait_until(lambda: TOPIC in admin.list_topics(timeout=30).topics, 30, "the broker has it")


class Gateway:
    """A publisher in this process."""

    def __init__(self, kafka: KafkaServer, folder: Path, journal: str) -> None:
        self.kafka, self.stats = kafka, Stats()
        settings = load(
            environ={
                "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "LLMLOG_TOPIC": TOPIC,
                "LLMLOG_JOURNAL": journal,
                "LLMLOG_JOURNAL_DIR": str(folder),
            }
        )
        timing = replace(TIMING, rebuild_seconds=1.0)
        self.publisher = Publisher(settings, self.stats, timing=timing)

    def offer(self, *names: str) -> None:
        for name in names:
            given = payload(1, litellm_call_id=name)
            assert self.publisher.offer(CapturedPayload(given, "", time.time()))

    def on_topic(self) -> set[str]:
        found = read_all(self.kafka.bootstrap_servers, TOPIC)
        return {Decoder().decode(record.value())["litellm_call_id"] for record in found}


@pytest.mark.parametrize("where", NO_WRITE)
@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_right_that_is_granted_later(
    kafka: KafkaServer,
    admin: AdminClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    where: str,
    journal: str,
) -> None:
    every = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", what, how)
        for kind, name, operation in NO_WRITE[where]
        for what, how in (
            (AclOperation.ALL, AclPermissionType.ALLOW),
            (operation, AclPermissionType.DENY),
        )
    ]
    for future in admin.create_acls(every).values():
        future.result(30)
    gateway = Gateway(kafka, tmp_path, journal)
    names = {f"c{number}" for number in range(30)}
    try:
        gateway.offer(*names)
        wait_until(lambda: "grant WRITE on topic heals" in caplog.text, 60, "it says why")
        assert "bug" not in caplog.text
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        for future in admin.delete_acls([everything]).values():
            future.result(30)
        caplog.set_level(logging.WARNING)
        assert gateway.publisher.flush(60) == 0
        assert gateway.on_topic() == names
        assert "Kafka takes events again" in caplog.text
        assert gateway.stats.snapshot()["failed"] == 0
    finally:
        gateway.publisher.close(5)


@pytest.mark.parametrize("partitions", [1, 6])
def test_a_topic_that_was_recreated(
    kafka: KafkaServer, admin: AdminClient, tmp_path: Path, partitions: int
) -> None:
    gateway = Gateway(kafka, tmp_path, "spill")
    try:
        gateway.offer("before")
        assert gateway.publisher.flush(60) == 0
        create(admin, partitions)
        names = {f"c{number}" for number in range(30)}
        gateway.offer(*names)
        assert gateway.publisher.flush(90) == 0
        assert gateway.on_topic() == names
    finally:
        gateway.publisher.close(5)


def test_an_object_whose_code_does_not_return_stops_no_other_event(
    kafka: KafkaServer, admin: AdminClient, tmp_path: Path
) -> None:
    assert TOPIC in admin.list_topics(timeout=30).topics
    go_on = threading.Event()
    slow = type("Slow", (), {"model_dump": lambda _: str(go_on.wait(60))})
    gateway = Gateway(kafka, tmp_path, "spill")
    try:
        captured = CapturedPayload(payload(1, litellm_call_id="slow", response=slow()), "", 1.0)
        assert gateway.publisher.offer(captured)
        names = {f"s{number}" for number in range(200)}
        gateway.offer(*names)
        assert gateway.publisher.flush(30) == 0
        go_on.set()
        gateway.offer("after")
        assert gateway.publisher.flush(30) == 0
        on_topic = [
            Decoder().decode(one.value()) for one in read_all(kafka.bootstrap_servers, TOPIC)
        ]
        ids = [one["litellm_call_id"] for one in on_topic]
        assert names | {"slow", "after"} <= set(ids)
        assert len(ids) == len(set(ids))
        assert gateway.stats.snapshot()["stuck"] == 1
    finally:
        go_on.set()
        gateway.publisher.close(5)

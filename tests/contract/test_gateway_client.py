"""What the gateway's real Kafka client says and does, on a cluster inside of this process."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.timing import TIMING
from support.mock_cluster import INIT_PRODUCER_ID, PRODUCE, MockCluster
from support.payloads import payload
from support.pipeline import wait_until

TOPIC = "gateway"
PARTITIONS = 3


class Gateway:
    """A publisher to a cluster of its own."""

    def __init__(self, folder: Path, journal: str = "spill"):
        self.cluster = MockCluster(TOPIC, PARTITIONS, brokers=2)
        for partition in range(PARTITIONS):
            self.cluster.set_leader(TOPIC, partition, 2 if partition == 1 else 1)
        self.stats = Stats()
        self.folder, self.journal = folder, journal
        self.sent = 0

    def start(self) -> None:
        settings = load(
            environ={
                "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap,
                "LLMLOG_TOPIC": TOPIC,
                "LLMLOG_JOURNAL": self.journal,
                "LLMLOG_JOURNAL_DIR": str(self.folder),
            }
        )
        timing = replace(
            TIMING, max_idle_seconds=0.05, rebuild_seconds=0.2, topic_retry_seconds=0.2,
            refusal_pause_seconds=0.3,
        )  # fmt: skip
        self.publisher = Publisher(settings, self.stats, timing=timing)

    def offer(self, number: int = 1) -> None:
        for _ in range(number):
            self.sent += 1
            given = payload(1, litellm_call_id=f"c{self.sent}")
            assert self.publisher.offer(CapturedPayload(given, "", time.time()))

    def records(self) -> list[int]:
        """Return the number of records in each partition."""
        consumer = Consumer({"bootstrap.servers": self.cluster.bootstrap, "group.id": "x"})
        places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        return [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]


@pytest.fixture(params=["spill", "off"])
def gateway(request, tmp_path):
    one = Gateway(tmp_path, request.param)
    yield one
    one.publisher.stop(10)


@pytest.mark.parametrize(
    ("request_number", "code"),
    [
        (INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
        (PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        (PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER),
    ],
)
def test_a_refusal_that_ends_heals_by_itself(gateway, caplog, request_number, code):
    gateway.cluster.answer_with(request_number, *[code] * 3)
    gateway.start()
    gateway.offer(20)
    wait_until(lambda: gateway.stats.pending == 0, 60, "all are delivered")
    assert sum(gateway.records()) == 20
    assert gateway.stats.snapshot()["failed"] == 0
    assert "bug" not in caplog.text
    if code != KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER:
        assert "grant WRITE on topic gateway" in caplog.text
        assert "Kafka takes events again" in caplog.text


def test_a_partition_whose_broker_is_away_stops_no_other(gateway, caplog):
    gateway.start()
    gateway.offer(5)
    wait_until(lambda: gateway.stats.pending == 0, 60, "all are delivered")
    gateway.cluster.stop(2)

    def flows() -> bool:
        before = gateway.stats.snapshot()["delivered"]
        gateway.offer()
        time.sleep(0.15)  # a burst of its own
        return gateway.stats.snapshot()["delivered"] > before and "partitions 1" in caplog.text

    wait_until(flows, 60, "it is named, and the others go on")
    for _ in range(20):
        gateway.offer()
        time.sleep(0.11)
    waiting = gateway.stats.pending
    assert waiting < gateway.sent / 2
    gateway.cluster.start(2)
    wait_until(lambda: gateway.stats.pending == 0, 60, "all are delivered")
    assert sum(gateway.records()) == gateway.sent

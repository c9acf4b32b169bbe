"""Reads the source topic beside the consumer group, to count what the callback delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_common.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class TopicReader:
    """Counts the records on a topic from its beginning; commits nothing.

    Args:
        environment: the settings of whoever reads.

    Attributes:
        records: read so far.
        events: their distinct keys; a record's key is its event's id.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.records = 0
        self.events: set[bytes] = set()
        settings = load(environ=environment)
        topic = settings.topic
        self._consumer = new_client(Consumer, consumer_config(settings))
        numbers = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers]
        self._consumer.assign(self._partitions)

    def __enter__(self) -> Self:
        """Return the reader, which reads since its construction."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._consumer.close()

    def read_until(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Read until the condition holds; return False where it does not in time."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            for message in self._consumer.consume(num_messages=500, timeout=0.1):
                if message.error() is None:
                    self.records += 1
                    self.events.add(message.key())
        return True

    def size(self) -> int:
        """Return how many records the topic holds now."""
        marks = (
            self._consumer.get_watermark_offsets(partition, timeout=30)
            for partition in self._partitions
        )
        return sum(end - start for start, end in marks)

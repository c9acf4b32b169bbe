"""Owns reading a topic outside of any group, up to the end that it had when the reading began."""

from __future__ import annotations

import time
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.errors import KafkaUnreachable
from llmlog_common.kafka_clients import consumer_config, new_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Message

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka_record import KafkaRecord

MAX_SILENCE_SECONDS: Final = 30.0
"""Time without a record after which the broker counts as unreachable."""

_CHUNK_RECORDS: Final = 2000
_SMALL_CHUNK_RECORDS: Final = 100
"""Records with their headers that fit into a processor's cache."""
_CHUNK_SECONDS: Final = 0.1
"""Time to wait for a chunk; it is returned then, full or not."""

_SMALL: Final[dict[str, Any]] = {
    # Counted before decompression: similar letters are compressed to a hundredth of their size.
    # Less saves little memory and takes twice the time; more is no faster.
    "fetch.message.max.bytes": 131_072,
    # A response is decompressed at once: one of few partitions needs less memory.
    "fetch.max.bytes": 262_144,
    # Bounds nothing that is read, but may not be smaller than `fetch.max.bytes`.
    "message.max.bytes": 262_144,
    # With a quarter of this, reading takes a third longer.
    "queued.max.messages.kbytes": 2048,
    "queued.min.messages": 2000,
    # Otherwise the client waits a second before it fills its queue again.
    "fetch.queue.backoff.ms": 2,
}
_GROUP_REFUSED: Final = KafkaError.GROUP_AUTHORIZATION_FAILED
_error_of = methodcaller("error")


def read(
    settings: Settings,
    topic: str,
    ranges: Mapping[int, tuple[int, int]],
    *,
    small: bool = False,
) -> Iterator[list[KafkaRecord]]:
    """Yield the records of these ranges in chunks.

    Args:
        settings: how to reach Kafka.
        topic: to read.
        ranges: first and next-after-last offset of each partition; empty ranges are left out, and
            so is what retention deletes meanwhile.
        small: fetch little ahead, to save memory.

    Raises:
        KafkaError: the broker refuses, or the topic was truncated or recreated meanwhile.
        KafkaUnreachable: no broker answers.
    """
    progress = RangeProgress(topic, ranges)
    starts = {p: ranges[p][0] for p in progress.ends}
    with PartitionConsumer(settings, topic, starts, small=small) as consumer:
        last_record = time.monotonic()
        while progress.ends:
            number = _SMALL_CHUNK_RECORDS if small else _CHUNK_RECORDS
            messages = consumer.consume(number, _CHUNK_SECONDS)
            if messages:
                last_record = time.monotonic()
            elif time.monotonic() - last_record > MAX_SILENCE_SECONDS:
                raise KafkaUnreachable(f"{topic}: no answer in {MAX_SILENCE_SECONDS:.0f} s")
            chunk = progress.take(messages)
            if chunk:
                yield chunk
                last_record = time.monotonic()  # the caller may have needed long for the chunk


def read_one(settings: Settings, topic: str, partition: int, offset: int) -> KafkaRecord | None:
    """Return the record at these coordinates; None where the log has none there.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    for chunk in read(settings, topic, {partition: (offset, offset + 1)}):
        for message in chunk:
            return message if message.offset() == offset else None
    return None


class RangeProgress:
    """How far each partition of a bounded reading is read.

    Args:
        topic: for the errors' texts.
        ranges: first and next-after-last offset of each partition.

    Attributes:
        ends: next-after-last offset of each partition that is not read to its end.
    """

    def __init__(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> None:
        self._topic = topic
        self.ends = {p: end for p, (start, end) in ranges.items() if end > start}
        self._last = {p: ranges[p][0] - 1 for p in self.ends}

    def take(self, messages: list[Message]) -> list[Any]:
        """Return the records of a chunk that lie before the ends.

        Raises:
            KafkaError: the broker refuses, or an offset goes back.
        """
        ends, last = self.ends, self._last
        if not any(map(_error_of, messages)):
            newest: dict[Any, Any] = {m.partition(): m.offset() for m in messages}
            # Offsets that only grow cannot be more than the offsets between `last` and `newest`.
            if all(p in ends and last[p] < o < ends[p] - 1 for p, o in newest.items()) and len(
                messages
            ) <= sum(o - last[p] for p, o in newest.items()):
                last |= newest
                return messages  # nearly all chunks end here
        chunk = []
        partition: Any
        offset: Any
        for message in messages:
            partition, error = message.partition(), message.error()
            # The client looks for its group's coordinator, though it belongs to no group.
            is_of_group = error is not None and error.code() == _GROUP_REFUSED
            if partition not in ends or is_of_group:
                continue
            # The end of a partition may lie behind a transaction marker.
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                raise KafkaRefusal(f"{self._topic}: {error.str()}")
            offset = message.offset()
            if offset <= last[partition]:
                raise KafkaRefusal(
                    f"{self._topic}/{partition} was truncated or recreated while it was read: "
                    f"offset {offset} came after {last[partition]}; run this again to read what "
                    "the topic has now"
                )
            if error is None:
                last[partition] = offset
                if offset < ends[partition]:
                    chunk.append(message)
            if error is not None or offset + 1 >= ends[partition]:
                del ends[partition]
        return chunk


class PartitionConsumer:
    """A consumer of given partitions that belongs to no group and commits nothing.

    Used as a context, whose value is the client's consumer.

    Args:
        settings: how to reach Kafka.
        topic: to read.
        starts: first offset of each partition.
        small: fetch little ahead, to save memory.
        uncommitted: read records behind an open transaction too.
        client: makes the consumer.

    Raises:
        ConfigurationError: librdkafka does not know a property.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        starts: Mapping[int, int],
        *,
        small: bool = False,
        uncommitted: bool = False,
        client: Callable[..., Any] = Consumer,
    ) -> None:
        config = consumer_config(settings) | {
            "group.id": "llmlog-inspect",
            "enable.partition.eof": True,
            # Records that retention deletes meanwhile are no reason to stop. A topic that was
            # truncated or recreated starts again as well: `RangeProgress` notices that.
            "auto.offset.reset": "earliest",
        }
        config.pop("group.instance.id", None)
        config.pop("group.protocol", None)
        if small:
            config |= _SMALL
        if uncommitted:
            config["isolation.level"] = "read_uncommitted"
        self._consumer = new_client(client, config)
        self._consumer.assign([TopicPartition(topic, p, o) for p, o in starts.items()])

    def __enter__(self) -> Any:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

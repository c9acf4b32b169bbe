"""Reads a topic outside of any group: nothing committed, bounded by the end at its start."""

from __future__ import annotations

import time
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.errors import KafkaUnreachable
from llmlog_common.kafka_clients import consumer_config, new_client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmlog_common.settings import Settings

SILENCE: Final = 30.0
"""Seconds without a record after which the broker counts as gone."""

_CHUNK: Final = 2000
_SMALL_CHUNK: Final = 100
"""Records with their headers that fit into a processor's cache: 500 cost a tenth more CPU."""
_SMALL: Final[dict[str, Any]] = {
    # Counted before they are unpacked: letters alike are packed to a hundredth of their size.
    # Less saves 5 MB and takes twice the time; more is no faster and costs 20.
    "fetch.message.max.bytes": 131_072,
    # An answer is unpacked at once: one with few partitions in it is unpacked into less memory.
    "fetch.max.bytes": 262_144,
    # Says nothing of what is read, but the one above may not be less.
    "message.max.bytes": 262_144,
    # With a quarter of this, reading takes a third longer.
    "queued.max.messages.kbytes": 2048,
    "queued.min.messages": 2000,
    # Otherwise a full queue is left alone for a second.
    "fetch.queue.backoff.ms": 2,
}
_error_of = methodcaller("error")
_TURN: Final = 0.1
"""Seconds that a chunk is waited for; it comes as it is then, full or not."""


def read(
    settings: Settings,
    topic: str,
    ranges: Mapping[int, tuple[int, int]],
    *,
    small: bool = False,
) -> Iterator[list[Any]]:
    """Yield chunks of records.

    Args:
        settings: how to reach Kafka.
        topic: to read.
        ranges: first and next-after-last offset of each partition; empty ranges are left out, and
            of the others what retention takes meanwhile.
        small: fetch little ahead, for the sake of memory.

    Raises:
        KafkaError: the broker refuses, or the topic was cut off or made anew meanwhile.
        KafkaUnreachable: no broker answers.
    """
    ends = {p: end for p, (start, end) in ranges.items() if end > start}
    starts = {p: ranges[p][0] for p in ends}
    newest = {p: start - 1 for p, start in starts.items()}
    with assigned(settings, topic, starts, small=small) as consumer:
        heard = time.monotonic()
        while ends:
            messages = consumer.consume(_SMALL_CHUNK if small else _CHUNK, _TURN)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE:
                raise KafkaUnreachable(f"{topic}: no answer in {SILENCE:.0f} s")
            chunk = _within(messages, ends, newest, topic)
            if chunk:
                yield chunk
                heard = time.monotonic()  # whoever took it may have been long about it


def _within(
    messages: list[Any], ends: dict[int, int], newest: dict[int, int], topic: str
) -> list[Any]:
    """Return the records before the ends; take out of these the partitions that are through.

    Args:
        messages: a chunk.
        ends: next-after-last offset of each partition that is not through.
        newest: offset of each partition's record before; brought up to date.
        topic: that is read.

    Raises:
        KafkaError: the broker refuses, or an offset goes back.
    """
    if not any(map(_error_of, messages)):
        last = {message.partition(): message.offset() for message in messages}
        # Where offsets only grow, no more records lie between these two than fit there.
        if all(p in ends and newest[p] < o < ends[p] - 1 for p, o in last.items()) and len(
            messages
        ) <= sum(o - newest[p] for p, o in last.items()):
            newest |= last
            return messages  # as nearly all chunks are
    chunk = []
    for message in messages:
        partition, error = message.partition(), message.error()
        if partition not in ends:
            continue
        # The end of a partition may lie behind a transaction marker.
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            raise KafkaRefusal(f"{topic}: {error.str()}")
        offset = message.offset()
        if offset <= newest[partition]:
            raise KafkaRefusal(
                f"{topic}/{partition} was cut off or made anew while it was read: offset {offset} "
                f"came after {newest[partition]}; run this again, to read what there is now"
            )
        if error is None:
            newest[partition] = offset
            if offset < ends[partition]:
                chunk.append(message)
        if error is not None or offset + 1 >= ends[partition]:
            del ends[partition]
    return chunk


def one(settings: Settings, topic: str, partition: int, offset: int) -> Any:
    """Return the record at these coordinates; None where nothing lies there.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    for chunk in read(settings, topic, {partition: (offset, offset + 1)}):
        for message in chunk:
            return message if message.offset() == offset else None
    return None


class assigned:  # noqa: N801 - used as a function
    """A consumer of named partitions that belongs to no group and commits nothing.

    Args:
        settings: how to reach Kafka.
        topic: to read.
        starts: first offset of each partition.
        small: fetch little ahead, for the sake of memory.

    Raises:
        ConfigurationError: a property that librdkafka does not know.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        starts: Mapping[int, int],
        *,
        small: bool = False,
    ) -> None:
        config = consumer_config(settings) | {
            "group.id": "llmlog-inspect",
            "enable.partition.eof": True,
            # What retention takes while somebody reads is gone: there is nothing to stop for.
            # A topic that was cut off or made anew begins again as well: `read` sees that.
            "auto.offset.reset": "earliest",
        }
        config.pop("group.instance.id", None)
        config.pop("group.protocol", None)
        if small:
            config |= _SMALL
        self._consumer = new_client(Consumer, config)
        self._consumer.assign([TopicPartition(topic, p, o) for p, o in starts.items()])

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

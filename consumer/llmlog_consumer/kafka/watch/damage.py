"""Owns the search for a range of offsets that a broker cannot give, from outside of the group."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_consumer.kafka.errors import DAMAGED, OUT_OF_RANGE, is_truncated
from llmlog_consumer.kafka.start_offsets import run_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

SILENCE_SECONDS: Final = 5.0
"""Time without an answer after which an offset counts as one that the broker cannot give."""

CONFIRM_FACTOR: Final = 4
"""A silent offset before a readable one is asked once more, for so many times as long."""

CLOSE_SECONDS: Final = 5.0
"""Time that the client has for its end; it has joined no group."""

MAX_STEP: Final = 64
"""Offsets between two attempts behind a damaged batch: what is readable and shorter is missed."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Offsets that the broker cannot give.

    Attributes:
        first: the first of them.
        next: the first one behind them that can be read; all of the log is read again from there
            where it was truncated.
        why: for the operator.
    """

    first: int
    next: int
    why: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a fetch at one offset brought: the next record's offset, or an error."""

    offset: int | None = None
    error: KafkaError | None = None


class DamageSearch:
    """A search in one partition; used as a context.

    Args:
        settings: how to reach Kafka.
        topic: of the partition.
        partition: its number.
        silence_seconds: after which an offset counts as damaged.
        client: makes the client's consumer.
        clock: monotonic seconds.
        close_seconds: for the end of the client.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        partition: int,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        client: Callable[..., Any] = Consumer,
        clock: Callable[[], float] = time.monotonic,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        config = consumer_config(settings) | {
            "group.id": "llmlog-inspect",
            "enable.partition.eof": True,
        }
        config.pop("group.instance.id", None)
        config.pop("group.protocol", None)
        self._topic = topic
        self._partition = partition
        self._silence = silence_seconds
        self._clock = clock
        self._close_seconds = close_seconds
        self._consumer = new_client(client, config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # librdkafka's close has been seen to wait for ever behind a damaged batch.
        run_within(self._close_seconds, self._consumer.close)

    def find(self, committed: int, epoch: int, log_start: int, log_end: int) -> Damage | None:
        """Return the first range behind the committed offset that the broker cannot give.

        Args:
            committed: the group's next offset.
            epoch: leader epoch that was committed with it; negative for none.
            log_start: first offset of the log.
            log_end: next offset of the log.
        """
        optional: dict[str, Any] = {"leader_epoch": epoch} if epoch >= 0 else {}
        self._assign(TopicPartition(self._topic, self._partition, committed, **optional))
        first = committed
        while first < log_end:
            answer = self._next()
            if answer.offset is not None:
                first = answer.offset + 1
                continue
            if answer.error is not None and answer.error.code() in OUT_OF_RANGE:
                if not is_truncated(answer.error):
                    return None
                return Damage(committed, log_start, answer.error.str())
            why = answer.error.str() if answer.error else "the broker gives no record"
            return Damage(first, self._find_readable(first, log_end), why)
        return None

    def _find_readable(self, first: int, log_end: int) -> int:
        """Return the first offset behind a damaged one that can be read, or the log's end.

        A broker under load is silent too. What is silent last before the readable ones decides what
        is given up, so it is asked again, and for longer.
        """
        readable = self._search_readable(first, log_end)
        while (last := readable - 1) > first:
            answer = self._read_at(last, self._silence * CONFIRM_FACTOR)
            if answer.offset is None:
                break
            readable = self._search_readable(first, last) if last - first > 1 else last
        return readable

    def _search_readable(self, first: int, log_end: int) -> int:
        damaged, step = first, 1
        while (probe := damaged + step) < log_end:
            answer = self._read_at(probe)
            if answer.offset is not None:
                break
            damaged = probe
            is_slow = answer.error is None
            step = step * 2 if is_slow else min(step * 2, MAX_STEP)
        readable = min(probe, log_end)
        while readable - damaged > 1:
            middle = (readable + damaged) // 2
            answer = self._read_at(middle)
            if answer.offset is None:
                damaged = middle
            else:
                readable = middle
        return readable

    def _read_at(self, offset: int, silence: float | None = None) -> _Answer:
        self._assign(TopicPartition(self._topic, self._partition, offset))
        return self._next(silence)

    def _assign(self, place: TopicPartition) -> None:
        self._consumer.assign([place])

    def _next(self, silence: float | None = None) -> _Answer:
        """Return what comes next; an empty answer where nothing does for so many seconds."""
        deadline = self._clock() + (silence or self._silence)
        while self._clock() < deadline:
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return _Answer(message.offset())
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public code
                return _Answer(message.offset() - 1)
            if error.code() in DAMAGED | OUT_OF_RANGE:
                return _Answer(error=error)
        return _Answer()

"""Reads the state of the consumer group from Kafka.

Workers commit a note on their state beside each offset, so any machine that reaches the brokers
can show it, whichever hosts the workers run on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from llmlog_consumer.checks.status import MAX_TRANSACTION_AGE_MS, PartitionStatus, Status
from llmlog_consumer.checks.words import Timing as WordTiming
from llmlog_consumer.checks.words import Words, WorkerNote
from llmlog_consumer.kafka import reader as topic_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from confluent_kafka import Message

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_consumer.kafka.places import Place

_CHUNK_RECORDS: Final = 500


@dataclass(frozen=True)
class Timing:
    """How long reading the status waits, in seconds.

    Attributes:
        ages: for the first waiting record of every partition.
        poll: for one chunk of records.
        words: of workers.
    """

    ages: float = 3.0
    poll: float = 0.1
    words: WordTiming = field(default_factory=WordTiming)


_TIMING: Final = Timing()


def read_status(
    settings: Settings,
    admin: KafkaAdmin,
    offsets: KafkaOffsets,
    *,
    timing: Timing = _TIMING,
    open_partitions: Callable[..., AbstractContextManager[Any]] = topic_reader.PartitionConsumer,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Status:
    """Read the group's status from Kafka.

    Args:
        settings: topics and group.
        admin: for topics and members.
        offsets: for offsets and the notes beside them.
        timing: how long to wait.
        open_partitions: opens a consumer of settings, topic and first offsets.
        clock: epoch seconds.
        sleep: takes seconds.

    Raises:
        KafkaError: a topic is missing, or the broker refuses.
        Unreachable: no broker answers.
    """
    places, committed = offsets.places_with_notes(settings.topic)
    words = Words(admin, offsets, timing=timing.words, clock=clock, sleep=sleep)
    words.hear(settings.topic, places, committed)
    ages, held_since = _read_waiting(settings, places, timing, open_partitions, clock)
    young_ms = clock() * 1000 - MAX_TRANSACTION_AGE_MS
    hanging = {p for p, since in held_since.items() if since is None or 0 < since < young_ms}
    notes = {p: words.heard.get(p, WorkerNote()) for p in places}
    partitions = [
        PartitionStatus(
            place,
            notes[p].in_flight,
            notes[p].worker,
            ages[p],
            held_since.get(p) or None,
            p in hanging,
        )
        for p, place in places.items()
    ]
    # Each worker writes its rate beside each of its partitions.
    rates = {note.worker: note.rate for note in notes.values()}
    problems = [*(note.unhealthy for note in notes.values() if note.unhealthy), *words.silent]
    return Status(
        settings.topic,
        settings.group,
        words.group.state,
        len(words.group.members),
        partitions,
        round(sum(rates.values()), 1),
        list(dict.fromkeys(problems)),
        _count_letters(settings, admin, offsets),
    )


def _read_waiting(
    settings: Settings,
    places: Mapping[int, Place],
    timing: Timing,
    open_partitions: Callable[..., AbstractContextManager[Any]],
    clock: Callable[[], float],
) -> tuple[dict[int, int | None], dict[int, int | None]]:
    """Return the age of what waits in each partition, and since when a transaction holds it back.

    Ages are milliseconds, moments epoch milliseconds: 0 where nothing waits, None where it is
    unknown.
    """
    ages: dict[int, int | None] = {
        p: 0 if place.log is not None else None for p, place in places.items()
    }
    waiting = {
        p: place.next_offset
        for p, place in places.items()
        if place.log is not None and place.next_offset < place.log.stable_end
    }
    held = {
        p: max(place.next_offset, place.log.stable_end)
        for p, place in places.items()
        if place.log is not None and place.held_back
    }
    held_since: dict[int, int | None] = {}
    if held:
        with open_partitions(settings, settings.topic, held, uncommitted=True) as consumer:
            held_since = _read_times(consumer, held, timing)
        ages |= {p: _age(written_ms, clock) for p, written_ms in held_since.items()}
    if waiting:
        with open_partitions(settings, settings.topic, waiting) as consumer:
            for p, written_ms in _read_times(consumer, waiting, timing).items():
                # The log may end without a record: what is behind it counts then.
                if written_ms != _NOTHING_WRITTEN or p not in held:
                    ages[p] = _age(written_ms, clock)
    return ages, held_since


_NOTHING_WRITTEN: Final = 0


def _age(written_ms: int | None, clock: Callable[[], float]) -> int | None:
    if not written_ms:
        return written_ms  # nothing was written, or the time is unknown
    return max(0, int(clock() * 1000) - written_ms)


def _read_times(consumer: Any, offsets: Mapping[int, int], timing: Timing) -> dict[int, int | None]:
    """Return when the first record at or after each offset was written, in epoch milliseconds.

    0 where the log ends without one: only transaction markers are there. None where the broker
    refuses the partition, or no record comes in time.
    """
    times: dict[int, int | None] = dict.fromkeys(offsets)
    deadline = time.monotonic() + timing.ages
    left = set(offsets)
    while left and time.monotonic() < deadline:
        message: Message
        for message in consumer.consume(_CHUNK_RECORDS, timing.poll):
            partition, error = message.partition(), message.error()
            if partition not in left:
                continue
            left.remove(partition)
            if error is None:
                times[partition] = message.timestamp()[1]
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                times[partition] = _NOTHING_WRITTEN
    return times


def _count_letters(settings: Settings, admin: KafkaAdmin, offsets: KafkaOffsets) -> int | None:
    topics, _ = admin.topics()
    if (topic := topics.get(settings.dlq_topic)) is None:
        return None
    logs = offsets.bounds(settings.dlq_topic, range(topic.partitions), topic.leaderless)
    return sum(log.end - log.start for log in logs.values() if log is not None)

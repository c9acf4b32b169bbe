"""The state of the consumer group now: a verdict, and the numbers behind it.

Everything comes from Kafka. Workers commit a note on their state beside each offset, so any machine
that reaches the brokers can show it, whichever hosts the workers run on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from llmlog_consumer.kafka import reader as topic_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from confluent_kafka import Message

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.committed import CommittedOffset
    from llmlog_consumer.kafka.offsets import KafkaOffsets

MAX_NOTE_AGE_MS: Final = 15_000
"""Age up to which a worker's note counts; an older one says nothing about now."""
MAX_CURRENT_AGE_MS: Final = 30_000
"""Age of the oldest waiting record up to which dashboards count as current."""

_CHUNK_RECORDS: Final = 500


@dataclass(frozen=True)
class Timing:
    """How long reading the status waits.

    Attributes:
        ages_seconds: for the first waiting record of every partition.
        poll_seconds: for one chunk of records.
    """

    ages_seconds: float = 5.0
    poll_seconds: float = 0.1


_TIMING: Final = Timing()


@dataclass(frozen=True)
class PartitionStatus:
    """One partition's log and the group's place in it.

    Attributes:
        number: of the source topic.
        committed: next offset of the group; None where it has none.
        start: first offset in the log.
        end: next offset of the log.
        in_flight: records that its worker holds unsettled; None without a recent note.
        worker: `host/number`; empty without a recent note.
        behind_ms: age of the oldest waiting record; 0 where none waits, None where the age is
            unknown.
    """

    number: int
    committed: int | None
    start: int
    end: int
    in_flight: int | None
    worker: str
    behind_ms: int | None

    @property
    def lag(self) -> int:
        """Records that are not settled."""
        return max(0, self.end - max(self.committed or 0, self.start))

    @property
    def out_of_range(self) -> bool:
        """Tell whether the next record to read is no longer, or not yet, in the log."""
        return self.committed is not None and not self.start <= self.committed <= self.end


@dataclass(frozen=True)
class Status:
    """The group at one moment.

    Attributes:
        topic: the source.
        group: the consumer group.
        state: of the group, as Kafka names it.
        members: of the group.
        partitions: in order.
        rate: records settled a second, over all workers.
        unhealthy: problems that workers report and a person has to solve, each once.
        letters: records on the dead-letter topic; None where there is none.
    """

    topic: str
    group: str
    state: str
    members: int
    partitions: list[PartitionStatus]
    rate: float
    unhealthy: list[str] = field(default_factory=list)
    letters: int | None = None

    @property
    def lag(self) -> int:
        """Records that are not settled."""
        return sum(p.lag for p in self.partitions)

    @property
    def in_flight(self) -> int:
        """Records that workers hold unsettled, by their recent notes."""
        return sum(p.in_flight or 0 for p in self.partitions)

    @property
    def behind_ms(self) -> int | None:
        """Age of the oldest waiting record; None where one partition's age is unknown."""
        ages = [p.behind_ms for p in self.partitions]
        return None if None in ages else max(filter(None, ages), default=0)

    @property
    def verdict(self) -> str:
        """Return in one line whether dashboards are current, and how far behind."""
        stuck = [p.number for p in self.partitions if p.out_of_range]
        if stuck:
            numbers = ", ".join(map(str, stuck))
            return f"STUCK: partition {numbers} is out of range: see `pipeline offsets show`"
        if self.unhealthy:
            return f"UNHEALTHY, {self._describe_lag()}: {self.unhealthy[0]}"
        if not self.members:
            return f"STOPPED: no worker runs, {self._describe_lag()}"
        if self.behind_ms is not None and self.behind_ms <= MAX_CURRENT_AGE_MS:
            return f"CURRENT: {self._describe_lag()}"
        return f"BEHIND: {self._describe_lag()}"

    @property
    def ok(self) -> bool:
        """Tell whether dashboards are current."""
        return self.verdict.startswith("CURRENT")

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline status --json` prints."""
        return {
            "verdict": self.verdict,
            "ok": self.ok,
            "topic": self.topic,
            "group": self.group,
            "state": self.state,
            "members": self.members,
            "lag": self.lag,
            "behind_ms": self.behind_ms,
            "rate": self.rate,
            "in_flight": self.in_flight,
            "unhealthy": self.unhealthy,
            "dead_letters_on_topic": self.letters,
            "partitions": [
                {
                    "partition": p.number,
                    "committed": p.committed,
                    "log_start": p.start,
                    "log_end": p.end,
                    "lag": p.lag,
                    "behind_ms": p.behind_ms,
                    "in_flight": p.in_flight,
                    "worker": p.worker or None,
                    "out_of_range": p.out_of_range,
                }
                for p in self.partitions
            ],
        }

    def _describe_lag(self) -> str:
        if not self.lag:
            return "nothing waits"
        if self.behind_ms is None:
            return f"{self.lag} records wait, age unknown: the topic cannot be read in time"
        return f"{self.lag} records wait, the oldest for {self.behind_ms / 1000:.0f} s"


def read_status(
    settings: Settings,
    admin: KafkaAdmin,
    offsets: KafkaOffsets,
    *,
    timing: Timing = _TIMING,
    open_partitions: Callable[..., AbstractContextManager[Any]] = topic_reader.PartitionConsumer,
    clock: Callable[[], float] = time.time,
) -> Status:
    """Read the group's status from Kafka.

    Args:
        settings: topics and group.
        admin: for topics and members.
        offsets: for offsets and the notes beside them.
        timing: how long to wait.
        open_partitions: opens a consumer of settings, topic and first offsets.
        clock: epoch seconds.

    Raises:
        KafkaError: a topic is missing, or the broker refuses.
        Unreachable: no broker answers.
    """
    numbers = range(admin.require(settings.topic).partitions)
    committed = offsets.committed_with_notes(settings.topic)
    logs = offsets.watermarks(settings.topic, numbers)
    next_offsets = {
        p: max(committed[p].offset if p in committed else start, start)
        for p, (start, _) in logs.items()
    }
    waiting = {p: offset for p, offset in next_offsets.items() if offset < logs[p][1]}
    ages: dict[int, int | None] = {}
    if waiting:
        with open_partitions(settings, settings.topic, waiting) as consumer:
            ages = _read_ages(consumer, waiting, timing, clock)
    now_ms = clock() * 1000
    notes = {
        p: committed[p].note
        for p in logs  # in order: the first problem stands in the verdict
        if p in committed and now_ms - committed[p].note.get("at", 0) <= MAX_NOTE_AGE_MS
    }
    partitions = [
        _partition_status(p, log, committed.get(p), notes.get(p, {}), ages.get(p, 0))
        for p, log in logs.items()
    ]
    # Each worker writes its rate beside each of its partitions.
    rates = {note.get("worker", ""): float(note.get("rate", 0.0)) for note in notes.values()}
    problems = [str(note["unhealthy"]) for note in notes.values() if note.get("unhealthy")]
    state, members = admin.members()
    return Status(
        settings.topic,
        settings.group,
        state,
        members,
        partitions,
        round(sum(rates.values()), 1),
        list(dict.fromkeys(problems)),
        _count_letters(settings, admin, offsets),
    )


def _partition_status(
    number: int,
    log: tuple[int, int],
    committed: CommittedOffset | None,
    note: Mapping[str, Any],
    behind_ms: int | None,
) -> PartitionStatus:
    return PartitionStatus(
        number,
        committed.offset if committed else None,
        *log,
        note.get("in_flight"),
        str(note.get("worker", "")),
        behind_ms,
    )


def _count_letters(settings: Settings, admin: KafkaAdmin, offsets: KafkaOffsets) -> int | None:
    topics, _ = admin.topics()
    if settings.dlq_topic not in topics:
        return None
    logs = offsets.watermarks(settings.dlq_topic, range(topics[settings.dlq_topic].partitions))
    return sum(end - start for start, end in logs.values())


def _read_ages(
    consumer: Any, offsets: Mapping[int, int], timing: Timing, clock: Callable[[], float]
) -> dict[int, int | None]:
    """Return the age (milliseconds) of the first record at or after each offset.

    0 where the log ends without one: only transaction markers are there. None where the broker
    refuses the partition, or no record comes in time.
    """
    ages: dict[int, int | None] = dict.fromkeys(offsets)
    deadline = time.monotonic() + timing.ages_seconds
    left = set(offsets)
    while left and time.monotonic() < deadline:
        message: Message
        for message in consumer.consume(_CHUNK_RECORDS, timing.poll_seconds):
            partition, error = message.partition(), message.error()
            if partition not in left:
                continue
            left.remove(partition)
            if error is None:
                written_ms = message.timestamp()[1]
                ages[partition] = max(0, int(clock() * 1000) - written_ms)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                ages[partition] = 0
    return ages

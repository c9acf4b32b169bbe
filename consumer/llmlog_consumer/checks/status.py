"""What the group is doing now: a verdict, and the numbers behind it.

Everything comes from Kafka: workers leave a note on their state beside each offset they commit,
so any machine that reaches the brokers can tell, whichever hosts the workers run on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from llmlog_consumer.kafka import reader as topic_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.offsets import KafkaOffsets

FRESH_MS: Final = 15_000
"""Age of a worker's note above which it says nothing about now."""
CURRENT_MS: Final = 30_000
"""Age of the oldest waiting record up to which dashboards count as current."""

_LOOK: Final = 5.0


@dataclass(frozen=True)
class Partition:
    """One partition's place.

    Attributes:
        number: of the source topic.
        committed: next offset of the group; None where it has none.
        start: first offset that the log has.
        end: next offset of the log.
        in_flight: records that its worker holds unsettled; None where it said nothing lately.
        worker: `host/number`; empty where none said anything lately.
        behind_ms: age of the oldest record that waits; 0 where none does, None where it is not
            known.
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
        """Tell whether the log has not what is to be read next."""
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
        unhealthy: what workers say needs a person; without doublets.
        letters: records on the dead-letter topic; None where there is none.
    """

    topic: str
    group: str
    state: str
    members: int
    partitions: list[Partition]
    rate: float
    unhealthy: list[str] = field(default_factory=list)
    letters: int | None = None

    @property
    def lag(self) -> int:
        """Records that are not settled."""
        return sum(p.lag for p in self.partitions)

    @property
    def in_flight(self) -> int:
        """Records that workers hold unsettled, as far as they said."""
        return sum(p.in_flight or 0 for p in self.partitions)

    @property
    def behind_ms(self) -> int | None:
        """Age of the oldest record that waits; None where that of one partition is not known."""
        ages = [p.behind_ms for p in self.partitions]
        return None if None in ages else max(filter(None, ages), default=0)

    @property
    def verdict(self) -> str:
        """Say in one line whether dashboards are current, and how far behind."""
        lost = [p.number for p in self.partitions if p.out_of_range]
        if lost:
            numbers = ", ".join(map(str, lost))
            return f"STUCK: partition {numbers} is out of range: see `pipeline offsets show`"
        if self.unhealthy:
            return f"UNHEALTHY, {self._behind()}: {self.unhealthy[0]}"
        if not self.members:
            return f"STOPPED: no worker runs, {self._behind()}"
        if self.behind_ms is not None and self.behind_ms <= CURRENT_MS:
            return f"CURRENT: {self._behind()}"
        return f"BEHIND: {self._behind()}"

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
                    "partition": p.number, "committed": p.committed, "log_start": p.start,
                    "log_end": p.end, "lag": p.lag, "behind_ms": p.behind_ms,
                    "in_flight": p.in_flight, "worker": p.worker or None,
                    "out_of_range": p.out_of_range,
                }
                for p in self.partitions
            ],
        }  # fmt: skip

    def _behind(self) -> str:
        if not self.lag:
            return "nothing waits"
        if self.behind_ms is None:
            return f"{self.lag} records wait, age unknown: the topic cannot be read in time"
        return f"{self.lag} records wait, the oldest for {self.behind_ms / 1000:.0f} s"


def look(settings: Settings, admin: KafkaAdmin, offsets: KafkaOffsets) -> Status:
    """Ask Kafka.

    Raises:
        KafkaError: a topic is missing, or the broker refuses.
        Unreachable: no broker answers.
    """
    numbers = range(admin.require(settings.topic).partitions)
    committed = offsets.committed_with_notes(settings.topic)
    marks = offsets.watermarks(settings.topic, numbers)
    waiting = {
        p: max(committed[p].offset if p in committed else start, start)
        for p, (start, end) in marks.items()
        if (committed[p].offset if p in committed else start) < end
    }
    ages, now = _ages(settings, waiting), time.time() * 1000
    partitions, rates, unhealthy = [], {}, []
    for p, (start, end) in marks.items():
        place = committed.get(p)
        note = place.note if place else {}
        fresh = now - note.get("at", 0) <= FRESH_MS
        if fresh:
            rates[note.get("worker", "")] = float(note.get("rate", 0.0))
            if note.get("unhealthy"):
                unhealthy.append(str(note["unhealthy"]))
        partitions.append(
            Partition(
                p,
                place.offset if place else None,
                start,
                end,
                note.get("in_flight") if fresh else None,
                str(note.get("worker", "")) if fresh else "",
                ages.get(p, 0),
            )
        )
    state, members = admin.members()
    topics, _ = admin.topics()
    letters = None
    if settings.dlq_topic in topics:
        ends = offsets.watermarks(settings.dlq_topic, range(topics[settings.dlq_topic].partitions))
        letters = sum(end - start for start, end in ends.values())
    return Status(
        settings.topic, settings.group, state, members, partitions, round(sum(rates.values()), 1),
        list(dict.fromkeys(unhealthy)), letters,
    )  # fmt: skip


def _ages(settings: Settings, offsets: Mapping[int, int]) -> dict[int, int | None]:
    """Return the age (milliseconds) of the first record at or after each offset.

    0 where none comes before the end; None where the partition refuses, or nothing comes in time.
    """
    found: dict[int, int | None] = dict.fromkeys(offsets)
    if not offsets:
        return found
    with topic_reader.PartitionConsumer(settings, settings.topic, offsets) as consumer:
        deadline = time.monotonic() + _LOOK
        left = set(offsets)
        while left and time.monotonic() < deadline:
            message: Any
            for message in consumer.consume(500, 0.1):
                partition, error = message.partition(), message.error()
                if partition not in left:
                    continue
                left.remove(partition)
                if error is None:
                    written = message.timestamp()[1]
                    found[partition] = max(0, int(time.time() * 1000) - written)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    found[partition] = 0
    return found

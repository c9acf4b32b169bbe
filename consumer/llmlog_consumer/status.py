"""What the group is doing now: a verdict, and the numbers behind it.

Everything comes from Kafka: workers leave a note on their state beside each offset they commit,
so any machine that reaches the brokers can tell, whichever hosts the workers run on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer import topic_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.kafka_admin import KafkaAdmin
    from llmlog_schemas.settings import Settings

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
        behind_ms: age of the oldest record that waits; 0 where none does.
    """

    number: int
    committed: int | None
    start: int
    end: int
    in_flight: int | None
    worker: str
    behind_ms: int

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
    def behind_ms(self) -> int:
        """Age of the oldest record that waits."""
        return max((p.behind_ms for p in self.partitions), default=0)

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
        if self.behind_ms <= CURRENT_MS:
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
        return f"{self.lag} records wait, the oldest for {self.behind_ms / 1000:.0f} s"


def look(settings: Settings, admin: KafkaAdmin) -> Status:
    """Ask Kafka.

    Raises:
        KafkaError: a topic is missing, or the broker refuses.
        Unreachable: no broker answers.
    """
    numbers = range(admin.require(settings.topic).partitions)
    committed = admin.noted(settings.topic)
    marks = admin.watermarks(settings.topic, numbers)
    waiting = {
        p: max(committed[p].offset if p in committed else start, start)
        for p, (start, end) in marks.items()
        if (committed[p].offset if p in committed else start) < end
    }
    written, now = _written_at(settings, waiting), time.time() * 1000
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
                int(max(0.0, now - written[p])) if p in written else 0,
            )
        )
    state, members = admin.members()
    topics, _ = admin.topics()
    letters = None
    if settings.dlq_topic in topics:
        ends = admin.watermarks(settings.dlq_topic, range(topics[settings.dlq_topic].partitions))
        letters = sum(end - start for start, end in ends.values())
    return Status(
        settings.topic, settings.group, state, members, partitions, round(sum(rates.values()), 1),
        list(dict.fromkeys(unhealthy)), letters,
    )  # fmt: skip


def _written_at(settings: Settings, offsets: Mapping[int, int]) -> dict[int, int]:
    """Return the timestamp (epoch milliseconds) of the first record at or after each offset."""
    found: dict[int, int] = {}
    if not offsets:
        return found
    with topic_reader.assigned(settings, settings.topic, offsets) as consumer:
        deadline = time.monotonic() + _LOOK
        left = set(offsets)
        while left and time.monotonic() < deadline:
            message: Any
            for message in consumer.consume(500, 0.1):
                partition = message.partition()
                left.discard(partition)
                if message.error() is None:
                    found.setdefault(partition, message.timestamp()[1])
    return found

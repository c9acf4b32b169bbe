"""The state of the consumer group at one moment: its problems, and the verdict. Pure.

`status_reader.py` fills it from Kafka.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.kafka.places import PlaceState
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmlog_consumer.kafka.places import Place

MAX_CURRENT_AGE_MS: Final = 30_000
"""Age of the oldest waiting record up to which dashboards count as current."""

MAX_TRANSACTION_AGE_MS: Final = 5_000
"""Age up to which an open transaction is one at work, and not one that hangs."""


class Health(Enum):
    """How the group is, as a word, with the exit code of `pipeline status`; the worst first."""

    STUCK = ("STUCK", 12)
    STOPPED = ("STOPPED", 12)
    UNHEALTHY = ("UNHEALTHY", 11)
    BEHIND = ("BEHIND", 10)
    CURRENT = ("CURRENT", 0)

    def __init__(self, word: str, exit_code: int) -> None:
        self.word = word
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps records from being settled.

    Attributes:
        health: of a group that has this problem.
        text: names partition, member, index or node, and what to do.
    """

    health: Health
    text: str


@dataclass(frozen=True)
class PartitionStatus:
    """One partition, and the worker that has it.

    Attributes:
        place: of the group in the log.
        in_flight: records that its worker holds unsettled; None without word of the worker.
        worker: `host/number`; empty without word of it.
        behind_ms: age of the oldest waiting record; 0 where none waits, None where the age is
            unknown.
        held_back_since_ms: epoch milliseconds of the first record that an open transaction holds
            back; None where none does, or the record cannot be read.
        is_hanging: that transaction is older than one at work, or its age is unknown.
    """

    place: Place
    in_flight: int | None = None
    worker: str = ""
    behind_ms: int | None = 0
    held_back_since_ms: int | None = None
    is_hanging: bool = False

    @property
    def number(self) -> int:
        """Return the partition's number."""
        return self.place.partition

    def as_json(self) -> dict[str, Any]:
        """Return the row of `pipeline status --json`."""
        place, log = self.place, self.place.log
        return {
            "partition": place.partition,
            "state": place.state,
            "committed": place.committed,
            "log_start": log and log.start,
            "log_end": log and log.end,
            "last_stable": log and log.stable_end,
            "lag": place.lag,
            "held_back": place.held_back,
            "held_back_since": iso(self.held_back_since_ms),
            "behind_ms": self.behind_ms,
            "in_flight": self.in_flight,
            "worker": self.worker or None,
            "out_of_range": place.state.is_out_of_range,
        }


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
        unhealthy: what workers report, and what is seen of workers that report nothing, each once.
        letters: records on the dead-letter topic; None where there is none.
    """

    topic: str
    group: str
    state: str
    members: int
    partitions: list[PartitionStatus]
    rate: float = 0.0
    unhealthy: list[str] = field(default_factory=list)
    letters: int | None = None

    @property
    def lag(self) -> int:
        """Records that are not settled."""
        return sum(p.place.lag for p in self.partitions)

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
    def problems(self) -> list[Problem]:
        """Return all problems, the worst first; empty where dashboards are current."""
        found = [*self._place_problems(), *(Problem(Health.UNHEALTHY, t) for t in self.unhealthy)]
        if not self.members:
            found.append(Problem(Health.STOPPED, f"no worker runs, {self._describe_lag()}"))
        if hanging := [_describe_held_back(p) for p in self.partitions if p.is_hanging]:
            found += [Problem(Health.BEHIND, text) for text in hanging]
        elif self.members and (self.behind_ms is None or self.behind_ms > MAX_CURRENT_AGE_MS):
            found.append(Problem(Health.BEHIND, self._describe_lag()))
        worst_first = list(Health)
        return sorted(found, key=lambda problem: worst_first.index(problem.health))

    @property
    def health(self) -> Health:
        """Return the health that the worst problem names."""
        return next((problem.health for problem in self.problems), Health.CURRENT)

    @property
    def verdict(self) -> str:
        """Return in one line how the group is: the first problem, and how many more there are."""
        problems = self.problems
        if not problems:
            return f"{Health.CURRENT.word}: {self._describe_lag()}"
        first, more = problems[0], len(problems) - 1
        lag = self._describe_lag()
        shows_lag = first.health in (Health.STUCK, Health.STOPPED) or first.text == lag
        return (
            (f"{first.health.word}: " if shows_lag else f"{first.health.word}, {lag}: ")
            + first.text
            + (f" (and {more} more)" if more else "")
        )

    @property
    def ok(self) -> bool:
        """Tell whether dashboards are current."""
        return self.health is Health.CURRENT

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline status --json` prints."""
        return {
            "verdict": self.verdict,
            "health": self.health.word.lower(),
            "ok": self.ok,
            "problems": [problem.text for problem in self.problems],
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
            "partitions": [p.as_json() for p in self.partitions],
        }

    def waits_for(self, ends: Mapping[int, int | None]) -> str:
        """Say what keeps the group from having settled everything before these offsets.

        Args:
            ends: next offset after the last record to settle, by partition; None where no leader
                has told it.
        """
        open_places = [
            p.place
            for p in self.partitions
            if p.number in ends
            and ((end := ends[p.number]) is None or not p.place.is_settled_to(end))
        ]
        if not open_places:
            return "the workers' last commits"
        names = ", ".join(place.name for place in open_places[:_MAX_NAMES])
        more = len(open_places) - _MAX_NAMES
        what = f"{names}{f' and {more} more' if more > 0 else ''}"
        why = [problem.text for problem in self.problems if problem.health is not Health.BEHIND]
        why += [_describe_held_back(p) for p in self.partitions if p.place.held_back]
        left = sum(
            max(0, (ends[place.partition] or 0) - place.next_offset) for place in open_places
        )
        return f"{what}: " + ("; ".join(why) or f"{left} records are not settled yet")

    def _place_problems(self) -> Iterator[Problem]:
        by_state = defaultdict(list)
        for p in self.partitions:
            by_state[p.place.state].append(p.number)
        for state in (PlaceState.DELETED, PlaceState.BEYOND):
            if numbers := by_state[state]:
                text = f"partition {_join(numbers)} is {state}: see `pipeline offsets show`"
                yield Problem(Health.STUCK, text)
        if numbers := by_state[PlaceState.NO_LEADER]:
            yield Problem(
                Health.UNHEALTHY,
                f"partition {_join(numbers)} has no leader that answers: nothing can be read or "
                "written there; start the brokers that have its replicas",
            )

    def _describe_lag(self) -> str:
        if not self.lag:
            unknown = any(p.behind_ms is None for p in self.partitions)
            return "nothing waits that can be seen" if unknown else "nothing waits"
        if self.behind_ms is None:
            return f"{self.lag} records wait, age unknown: the topic cannot be read in time"
        return f"{self.lag} records wait, the oldest for {self.behind_ms / 1000:.0f} s"


_MAX_NAMES: Final = 5


def _join(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _describe_held_back(partition: PartitionStatus) -> str:
    place, since = partition.place, iso(partition.held_back_since_ms)
    first = place.log.stable_end if place.log else 0
    return (
        f"{place.held_back} records of partition {place.partition} are behind an open transaction"
        f"{f' since {since}' if since else ''}: its producer ends it, or its time-out, or "
        f"`kafka-transactions.sh abort --topic {place.topic} --partition {place.partition} "
        f"--start-offset {first}`"
    )

"""Owns who of the consumer group has said how it is, and which members are silent.

A worker's word is its note beside a committed offset. A member counts as silent where its notes are
old by this machine's clock and nothing of it changes while it is watched: the clocks of two hosts
may differ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmlog_consumer.kafka.admin import KafkaAdmin, Member
    from llmlog_consumer.kafka.committed import CommittedOffset
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_consumer.kafka.places import Place

_MAX_WORKER_CHARACTERS: Final = 100
_MAX_REASON_CHARACTERS: Final = 1000
_STABLE: Final = "stable"


@dataclass(frozen=True)
class Timing:
    """How long a member may be silent, in seconds.

    Attributes:
        note_age: difference of a note's time to this clock from which on its member is watched.
            Workers write a note every three seconds, at their next commit.
        watch: until a member that has changed nothing is silent.
        interval: between two looks.
    """

    note_age: float = 4.5
    watch: float = 4.0
    interval: float = 0.5


_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """What a worker said of itself beside an offset; see `worker/notes.py`.

    Attributes:
        at_ms: epoch milliseconds of the worker's clock; None where the note does not say.
        worker: `host/number`.
        rate: records settled a second.
        in_flight: records of this partition.
        unhealthy: what a person has to fix.
    """

    at_ms: float | None = None
    worker: str = ""
    rate: float = 0.0
    in_flight: int | None = None
    unhealthy: str = ""

    @classmethod
    def read(cls, note: Mapping[str, Any]) -> WorkerNote:
        """Return what a parsed note says."""
        return cls(
            note.get("at"),
            note.get("worker", "")[:_MAX_WORKER_CHARACTERS],
            note.get("rate", 0.0),
            note.get("in_flight"),
            note.get("unhealthy", "")[:_MAX_REASON_CHARACTERS],
        )


class Words:
    """The words of a group's members at one moment.

    Args:
        admin: for the members.
        offsets: for the notes.
        timing: of the watch.
        clock: epoch seconds.
        sleep: takes seconds.

    Attributes:
        group: its state and its members.
        heard: the note of each partition whose worker has given word.
        silent: a line for each member that has not, and for partitions that no member has.
    """

    def __init__(
        self,
        admin: KafkaAdmin,
        offsets: KafkaOffsets,
        *,
        timing: Timing = _TIMING,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._admin = admin
        self._offsets = offsets
        self._timing = timing
        self._clock = clock
        self._sleep = sleep
        self.group = admin.group()
        self.heard: dict[int, WorkerNote] = {}
        self.silent: list[str] = []

    def hear(
        self,
        topic: str,
        places: Mapping[int, Place],
        committed: Mapping[int, CommittedOffset],
    ) -> None:
        """Read the notes, and watch the members whose notes look old.

        Args:
            topic: the source.
            places: of the group.
            committed: the first look; an offset or a note that changes is a word.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        first = committed
        notes = {p: WorkerNote.read(place.note) for p, place in committed.items() if p in places}
        self.heard = {p: note for p, note in notes.items() if self._is_recent(note)}
        watched = 0.0
        while watched < self._timing.watch and any(True for _ in self._find_silent(places)):
            self._sleep(self._timing.interval)
            watched += self._timing.interval
            committed = self._offsets.committed_with_notes(topic)
            notes = {p: WorkerNote.read(o.note) for p, o in committed.items() if p in places}
            self.heard |= {p: note for p, note in notes.items() if first.get(p) != committed[p]}
            self.group = self._admin.group()
        self.silent = [
            self._describe(member, numbers, places, notes)
            for member, numbers in self._find_silent(places)
        ]

    def _is_recent(self, note: WorkerNote) -> bool:
        if note.at_ms is None:
            return False
        return abs(self._clock() - note.at_ms / 1000) <= self._timing.note_age

    def _find_silent(
        self, places: Mapping[int, Place]
    ) -> Iterator[tuple[Member | None, frozenset[int]]]:
        """Yield the silent members with their partitions, and None with what no member has.

        A group that is about to give partitions away says nothing yet.
        """
        if self.group.state != _STABLE:
            return
        owned: set[int] = set()
        for member in self.group.members:
            owned |= member.partitions
            if member.partitions and not member.partitions & self.heard.keys():
                yield member, member.partitions
        left = frozenset(p for p, place in places.items() if place.lag and p not in owned)
        if self.group.members and left:
            yield None, left

    def _describe(
        self,
        member: Member | None,
        numbers: frozenset[int],
        places: Mapping[int, Place],
        notes: Mapping[int, WorkerNote],
    ) -> str:
        where = f"partition {', '.join(map(str, sorted(numbers)))}"
        if member is None:
            lag = sum(places[p].lag for p in numbers)
            return f"no worker has {where}, where {lag} records wait"
        known = [notes[p] for p in sorted(numbers) if p in notes]
        worker = next((f"{note.worker}, " for note in known if note.worker), "")
        last_ms = max((note.at_ms for note in known if note.at_ms is not None), default=None)
        seconds = 0.0 if last_ms is None else self._clock() - last_ms / 1000
        least = self._timing.watch
        since = f"for {seconds:.0f} s" if seconds >= least else f"for {least:g} s at least"
        return (
            f"no word from {worker}member {member.name} on {member.host} {since} ({where}): it "
            "stands still, or Kafka refuses its commits; see its log"
            + next((f"; its last word: {n.unhealthy}" for n in known if n.unhealthy), "")
        )

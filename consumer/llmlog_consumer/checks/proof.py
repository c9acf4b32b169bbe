"""The result of `pipeline verify`: how each event ended, counted. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.elasticsearch.index_names import DAY_MS
from llmlog_consumer.times import iso
from llmlog_schemas.event import event_time_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from llmlog_consumer.checks.event_files import SeenEvent

MAX_ROWS: Final = 10_000
"""Rows of lost, of doubled and of conflicting events each; events beyond are counted alone."""

_JSON_KEYS: Final = (
    "events",
    "records",
    "documents",
    "dead_letters",
    "recovered",
    "dropped",
    "retired",
    "skipped",
    "accepted_gaps",
    "unaccepted_gaps",
    "deleted_while_reading",
    "held_back",
    "lost",
    "lost_count",
    "doubled",
    "doubled_count",
    "conflict",
    "conflict_count",
    "not_behind_alias",
    "unknown",
    "unknown_count",
    "ok",
)


@dataclass
class Proof:
    """The counts of one round of verification.

    Attributes:
        topic: the source topic, for the coordinates in rows.
        events: distinct event ids; each record that cannot be read is an event of its own.
        records: on the topic, events that were sent twice included.
        documents: events with a document.
        dead_letters: events with a dead letter and no document.
        recovered: events with a dead letter and a document.
        dropped: events without either that an ingest pipeline drops, where that is declared.
        retired: events without either that are older than the greatest age of their group: their
            index was deleted since.
        skipped: events without either whose records all lie in accepted gaps.
        given_up: first and next-after-last offset of each accepted gap, by partition.
        lost: events with neither document nor letter; one row each.
        lost_count: of all of them, with a row or without.
        doubled: events with more than one document behind the alias; one row each.
        doubled_count: of all of them, with a row or without.
        conflict: events of which two records have different documents; one row each.
        conflict_count: of all of them, with a row or without.
        hidden: events whose documents users do not find, by index: it is not behind the alias.
        unreadable: events that could not be looked up, by what is wrong with their index or their
            schema.
        accepted_gaps: ranges that `pipeline offsets accept-gap` recorded; one row each.
        unaccepted_gaps: ranges that retention deleted before they were settled, and that are not
            recorded; one row each.
        deleted_while_reading: offsets that retention deleted while the topic was read. At most so
            many records are not verified.
        held_back: ranges that an open transaction held back; one row each. Nothing is said of
            their records.
        notes: what else a person has to know of this round, a line each.
    """

    topic: str = ""
    events: int = 0
    records: int = 0
    documents: int = 0
    dead_letters: int = 0
    recovered: int = 0
    dropped: int = 0
    retired: int = 0
    skipped: int = 0
    given_up: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    lost: list[dict[str, Any]] = field(default_factory=list)
    lost_count: int = 0
    doubled: list[dict[str, Any]] = field(default_factory=list)
    doubled_count: int = 0
    conflict: list[dict[str, Any]] = field(default_factory=list)
    conflict_count: int = 0
    hidden: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    accepted_gaps: list[dict[str, Any]] = field(default_factory=list)
    unaccepted_gaps: list[dict[str, Any]] = field(default_factory=list)
    deleted_while_reading: int = 0
    held_back: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def unaccounted_count(self) -> int:
        """Events that are lost, doubled, in conflict or hidden."""
        return self.lost_count + self.doubled_count + self.conflict_count + self.hidden.total()

    @property
    def has_difference(self) -> bool:
        """Tell whether an event is unaccounted for, or a gap is not accepted."""
        return bool(self.unaccounted_count or self.unaccepted_gaps)

    @property
    def unknown_count(self) -> int:
        """Events that could not be looked up."""
        return self.unreadable.total()

    @property
    def ok(self) -> bool:
        """Tell whether every event was looked up, and there is no difference."""
        return not (self.has_difference or self.unknown_count or self.held_back)

    @property
    def not_behind_alias(self) -> list[dict[str, Any]]:
        """Events whose documents users do not find, a row for each index."""
        return [{"index": name, "events": count} for name, count in sorted(self.hidden.items())]

    @property
    def unknown(self) -> list[dict[str, Any]]:
        """Events that could not be looked up, a row for each cause."""
        return [{"why": why, "events": count} for why, count in sorted(self.unreadable.items())]

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline verify --json` prints."""
        return {name: getattr(self, name) for name in _JSON_KEYS}

    def count_event(
        self,
        event_id: str,
        event: SeenEvent,
        indices: Collection[str],
        retired_before_ms: float,
        *,
        behind: Container[str] | None = None,
        unknown: str = "",
    ) -> None:
        """Count how one event ended.

        Args:
            event_id: well-formed.
            event: its records.
            indices: that hold a document of it; one index twice where it has two there.
            retired_before_ms: epoch milliseconds; an older event needs no document any more.
            behind: the indices behind the alias; None where that is not known.
            unknown: why it could not be looked up; empty where it could.
        """
        self.events += 1
        if event.is_conflict:
            self._add_conflict(event_id, event)
        found = [name for name in indices if behind is None or name in behind]
        if len(found or indices) > 1:
            self._add_doubled(event_id, event, indices)
        if indices:
            self.documents += 1
            self.recovered += event.has_letter
            if not found:
                self.hidden[min(indices)] += 1
        elif event.has_letter:
            self.dead_letters += 1
        elif unknown:
            self.unreadable[unknown] += 1
        elif self._is_given_up(event.places):
            self.skipped += 1
        elif event_time_ms(event_id) < retired_before_ms:
            self.retired += 1
        else:
            self._add_lost(event_id, event.places)

    def count_dropped(self, event_ids: Collection[str]) -> None:
        """Count these events as dropped; they were counted as lost."""
        kept = [row for row in self.lost if row["event_id"] not in event_ids]
        self.dropped += len(self.lost) - len(kept)
        self.lost_count -= len(self.lost) - len(kept)
        self.lost[:] = kept

    def add_note(self, note: str) -> None:
        """Add what a person has to know; nothing where it is empty."""
        if note:
            self.notes.append(note)

    def count_unreadable(
        self, partition: int, offset: int, *, has_letter: bool, unknown: str = ""
    ) -> None:
        """Count a record that holds no readable event: it has to have a dead letter.

        Args:
            partition: of the record.
            offset: of the record.
            has_letter: it has one.
            unknown: why the event may be readable elsewhere: its schema is not to be had here.
        """
        self.events += 1
        if has_letter:
            self.dead_letters += 1
        elif unknown:
            self.unreadable[unknown] += 1
        elif self._is_given_up([(partition, offset)]):
            self.skipped += 1
        else:
            self._add_lost(None, [(partition, offset)])

    def _is_given_up(self, places: list[tuple[int, int]]) -> bool:
        """Tell whether an operator has given all these records up."""
        return all(
            any(first <= offset < end for first, end in self.given_up.get(partition, ()))
            for partition, offset in places
        )

    def _add_doubled(self, event_id: str, event: SeenEvent, indices: Collection[str]) -> None:
        self.doubled_count += 1
        if len(self.doubled) < MAX_ROWS:
            row = self._row(event_id, event.places)
            self.doubled.append(row | {"indices": sorted(indices)})

    def _add_conflict(self, event_id: str, event: SeenEvent) -> None:
        self.conflict_count += 1
        if len(self.conflict) < MAX_ROWS:
            self.conflict.append(self._row(event_id, event.places))

    def _add_lost(self, event_id: str | None, places: list[tuple[int, int]]) -> None:
        self.lost_count += 1
        if len(self.lost) < MAX_ROWS:
            self.lost.append(self._row(event_id, places))

    def _row(self, event_id: str | None, places: list[tuple[int, int]]) -> dict[str, Any]:
        return {
            "event_id": event_id,
            "day": None if event_id is None else iso(event_time_ms(event_id) // DAY_MS * DAY_MS),
            "coordinates": [f"{self.topic}/{p}/{o}" for p, o in places],
        }

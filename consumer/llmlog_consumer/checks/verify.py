"""Verifies the promise: every event on the topic is one document or one dead letter."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmlog_common.errors import KafkaError
from llmlog_consumer.checks.doctor.canary import is_canary
from llmlog_consumer.checks.dropped import count_dropped
from llmlog_consumer.checks.event_files import GROUPS, EventFiles
from llmlog_consumer.checks.held_back import acknowledged_ends, find_held_back
from llmlog_consumer.checks.proof import Proof
from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.dead_letters.filters import GroupFilter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.elasticsearch.index_names import group_of
from llmlog_consumer.elasticsearch.lookup import Limits
from llmlog_consumer.times import iso
from llmlog_schemas.codec import DecodeError, Decoder, UnknownSchemaError
from llmlog_schemas.event import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from llmlog_consumer.checks.event_files import SeenEvent
    from llmlog_consumer.checks.sources import Sources
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.elasticsearch.lookup import DocumentLookup
    from llmlog_consumer.kafka.gaps import Gap
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_schemas.event import EventHead

    Ranges = Mapping[int, tuple[int, int]]
    """First and next-after-last offset of each partition."""


@dataclass(frozen=True)
class Scope:
    """The part of the topic that one round verifies.

    Attributes:
        ranges: first and next-after-last offset of each partition.
        unaccepted_gaps: deleted ranges that were not settled, one row each; see `Proof`.
        restarted: partitions of which less is settled than the round before verified.
        acknowledged: next offset after all that the brokers had acknowledged, by partition.
    """

    ranges: Ranges
    unaccepted_gaps: tuple[dict[str, Any], ...] = ()
    restarted: tuple[int, ...] = ()
    acknowledged: Mapping[int, int] = field(default_factory=dict, compare=False)


class Verifier:
    """Reads records, looks every event up, and counts how each ended.

    A 64th of the events is in memory at a time, and all the while the place of each dead letter
    that holds no event.

    Args:
        sources: topic, dead letters, index.
        limits: sizes of a look-up.
        clock: epoch seconds.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sources = sources
        self._settings = sources.settings
        self._offsets = sources.offsets
        self._decoder = Decoder(sources.registry)
        self._limits = limits or Limits()
        self._clock = clock
        self._sleep = sleep

    def scope(self, since_ms: int | None = None, until_ms: int | None = None) -> Scope:
        """Return the settled part of the topic: from the log's start to the committed offsets.

        Args:
            since_ms: epoch milliseconds; records that were written before are left out.
            until_ms: epoch milliseconds; records that were written then or later are left out.

        Raises:
            KafkaError: the topic is missing, or the group has settled nothing of it.
            Unreachable: Kafka does not answer.
        """
        topic = self._settings.topic
        logs = self._offsets.ranges_since(topic, None)
        committed = self._offsets.committed(topic, logs)
        if not committed and any(end > start for start, end in logs.values()):
            raise KafkaError(
                f"group {self._settings.group} has committed nothing of {topic}: there is nothing "
                "to verify yet; check LLMLOG_GROUP, or run `pipeline consume`"
            )
        # A log that ends before the committed offset was recreated: nothing of it is settled. The
        # end is asked for again, because records may have been written and committed meanwhile.
        ahead = [p for p, offset in committed.items() if offset > logs[p][1]]
        ends = self._offsets.watermarks(topic, ahead)
        settled = {p: c for p, c in committed.items() if p not in ends or c <= ends[p][1]}
        recreated = committed.keys() - settled.keys()
        chosen = logs if since_ms is None else self._offsets.narrow(topic, logs, since_ms)
        before = {} if until_ms is None else self._offsets.offsets_at(topic, logs, until_ms)
        ranges = {
            p: (first, min(settled.get(p, logs[p][0]), before.get(p, end)))
            for p, (first, end) in chosen.items()
        }
        return Scope(
            ranges,
            self._unaccepted_gaps(logs, committed, recreated),
            acknowledged=acknowledged_ends(self._offsets, topic, before),
        )

    def next_scope(self, before: Scope) -> Scope:
        """Return the part that was settled since a round; a restarted partition from its start.

        Args:
            before: what that round verified.

        Raises:
            KafkaError, Unreachable: as `scope`.
        """
        verified = {p: end for p, (_, end) in before.ranges.items()}
        now = self.scope()
        restarted = [p for p, (_, end) in now.ranges.items() if end < verified.get(p, 0)]
        ranges = {
            p: (start if p in restarted else verified.get(p, start), end)
            for p, (start, end) in now.ranges.items()
        }
        return Scope(ranges, now.unaccepted_gaps, tuple(restarted), now.acknowledged)

    def verify(self, scope: Scope) -> Proof:
        """Read the records of a scope, and count how each event ended.

        Raises:
            KafkaError, ElasticsearchError: a server refuses.
            Unreachable: a server does not answer.
        """
        topic = self._settings.topic
        proof = Proof(topic, unaccepted_gaps=list(scope.unaccepted_gaps))
        for partition, gaps in self._sources.gaps.of_topic(topic).items():
            proof.accepted_gaps += [_gap_row(topic, partition, gap) for gap in gaps]
            proof.given_up[partition] = [(gap.first, gap.next) for gap in gaps]
        documents = self._sources.documents(limits=self._limits, sleep=self._sleep)
        with EventFiles() as files:
            letters = self._read_letters(files, proof)
            self._read_records(scope.ranges, letters, files, proof)
            logs = self._offsets.watermarks(topic, scope.ranges)
            proof.deleted_while_reading = sum(
                max(0, min(logs[p][0], end) - first) for p, (first, end) in scope.ranges.items()
            )
            proof.add_note(documents.refresh())
            groups = files.read()
            for number in range(1, GROUPS + 1):
                # No loop variable: this group's memory is free before the next group is read.
                self._look_up(next(groups), documents, proof)
                self._sources.on_progress("looking up", number, GROUPS)
            for why in sorted(documents.unread.values()):
                proof.add_note(f"{why}: copies of documents in it are not seen")
        if proof.lost and self._settings.ingest_drop == "drop":
            count_dropped(proof, self._sources, self._decoder)
        proof.held_back = find_held_back(self._offsets, topic, scope.acknowledged, self._sleep)
        return proof

    def _unaccepted_gaps(
        self, logs: Ranges, committed: Mapping[int, int], recreated: Container[int]
    ) -> tuple[dict[str, Any], ...]:
        """Return the ranges that were deleted before they were settled and are not accepted."""
        topic = self._settings.topic
        accepted = self._sources.gaps.of_topic(topic)
        return tuple(
            {"partition": f"{topic}/{p}", "first": committed[p], "next": start}
            for p, (start, _) in logs.items()
            if (committed.get(p, start) < start or p in recreated)
            and not any(gap.first == committed[p] for gap in accepted.get(p, ()))
        )

    def _read_letters(self, files: EventFiles, proof: Proof) -> _LetterPlaces:
        """Write events that have a dead letter to the files; return the places of the others."""
        places = _LetterPlaces(self._settings.topic)
        groups = GroupFilter(self._settings.group)
        for chunk in self._sources.dead_letters().read_all():
            for record in chunk:
                letter = read_letter(record, content=False)
                # What another program, or another group, gave up may have been lost here.
                if not (letter.group and groups.takes(letter.group)):
                    continue
                if letter.event_id and self._is_event(record, letter):
                    files.add_letter(letter.event_id)
                else:
                    places.add(letter, record.value())
        proof.add_note(groups.describe_others())
        return places

    def _is_event(self, record: KafkaRecord, letter: DeadLetter) -> bool:
        """Tell whether a letter's value decodes; a worker said so, but for the stage decode."""
        if letter.headers.get("stage") != Stage.DECODE:
            return True
        head, _ = self._read_head(record.value())
        return head is not None

    def _read_records(
        self, ranges: Ranges, letters: _LetterPlaces, files: EventFiles, proof: Proof
    ) -> None:
        canaries = 0
        for chunk in self._sources.read_topic(ranges):
            for record in chunk:
                partition, offset = record.partition(), record.offset()
                head, unknown = self._read_head(record.value())
                if head is None:
                    has_letter = letters.has(record) or letters.take_copy(record)
                    proof.count_unreadable(
                        partition, offset, has_letter=has_letter, unknown=unknown
                    )
                else:
                    event_id, document = head["event_id"], head["document"]
                    if is_canary(record, document):
                        canaries += 1
                        continue
                    has_letter = letters.has(record)
                    files.add(
                        event_id,
                        partition,
                        offset,
                        document,
                        has_letter=has_letter,
                        place=head["index_place"],
                    )
            proof.records += len(chunk)
        if canaries:
            proof.add_note(f"{canaries} canaries of `pipeline doctor --end-to-end` are left out")

    def _read_head(self, value: bytes | None) -> tuple[EventHead | None, str]:
        """Return the head of an event; None for no event, and why that cannot be known here."""
        try:
            head = self._decoder.head(value)
        except UnknownSchemaError as error:
            return None, str(error)
        except DecodeError:
            return None, ""
        return (head if EVENT_ID.fullmatch(head["event_id"]) else None), ""

    def _look_up(
        self, events: Mapping[str, SeenEvent], documents: DocumentLookup, proof: Proof
    ) -> None:
        max_age_of, now_ms = self._settings.max_age_of, self._clock() * 1000
        ids, behind = list(events), documents.behind_alias()
        for start in range(0, len(ids), self._limits.ids):
            some = ids[start : start + self._limits.ids]
            found = documents.find(some, {one: events[one].place for one in some})
            for event_id in some:
                event = events[event_id]
                max_age = max_age_of(group_of(event.place))
                proof.count_event(
                    event_id,
                    event,
                    found.indices.get(event_id, ()),
                    now_ms - max_age.total_seconds() * 1000,
                    behind=behind,
                    unknown=found.unknown.get(event_id, ""),
                )


class _LetterPlaces:
    """The records that have a dead letter in which no event can be read.

    A record is told by partition, offset and time: the time tells it from another that has its
    offset since the topic was recreated. On a mirrored topic offsets differ: there it is told by
    partition, time and value, and each letter ends one record.

    Args:
        topic: the source topic.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._places: set[tuple[int, int, int | None]] = set()
        # Letters of one record count once.
        self._copies: dict[tuple[int, int | None, str], set[tuple[str, int, int]]] = {}

    def add(self, letter: DeadLetter, value: bytes | None) -> None:
        """Take a letter in, with its value."""
        topic, partition, offset = letter.source
        if topic == self._topic:
            self._places.add((partition, offset, letter.source_ms))
        else:
            digest = letter.headers.get("truncated.sha256") or _digest(value)
            name = partition, letter.source_ms, digest
            self._copies.setdefault(name, set()).add(letter.source)

    def has(self, record: KafkaRecord) -> bool:
        """Tell whether a record of the source topic has a letter."""
        return (record.partition(), record.offset(), record.timestamp()[1]) in self._places

    def take_copy(self, record: KafkaRecord) -> bool:
        """Tell whether a record that this one is a copy of has a letter, and use the letter up."""
        if not self._copies:
            return False
        name = record.partition(), record.timestamp()[1], _digest(record.value())
        sources = self._copies.get(name)
        if not sources:
            return False
        sources.pop()
        return True


def _digest(value: bytes | None) -> str:
    return "" if value is None else hashlib.sha256(value).hexdigest()


def _gap_row(topic: str, partition: int, gap: Gap) -> dict[str, Any]:
    return {
        "partition": f"{topic}/{partition}",
        "first": gap.first,
        "next": gap.next,
        "records": max(0, gap.next - gap.first),
        "accepted_at": iso(gap.at),
    }

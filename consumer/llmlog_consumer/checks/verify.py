"""Verifies the promise: every event on the topic is one document or one dead letter."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import KafkaError
from llmlog_consumer.checks.dropped import count_dropped
from llmlog_consumer.checks.event_files import GROUPS, EventFiles
from llmlog_consumer.checks.proof import Proof
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.times import iso
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.event import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from llmlog_consumer.checks.event_files import SeenEvent
    from llmlog_consumer.checks.sources import Sources
    from llmlog_consumer.kafka.gaps import Gap

    Ranges = Mapping[int, tuple[int, int]]
    """First and next-after-last offset of each partition."""


@dataclass(frozen=True)
class Limits:
    """The sizes of one search.

    Attributes:
        search_ids: event ids that are looked up at once.
        search_hits: hits that are asked for, at most what Elasticsearch returns: five documents of
            each id fit.
    """

    search_ids: int = 2_000
    search_hits: int = 10_000


_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Scope:
    """The part of the topic that one round verifies.

    Attributes:
        ranges: first and next-after-last offset of each partition.
        unaccepted_gaps: deleted ranges that were not settled, one row each; see `Proof`.
        restarted: partitions of which less is settled than the round before verified.
    """

    ranges: Ranges
    unaccepted_gaps: tuple[dict[str, Any], ...] = ()
    restarted: tuple[int, ...] = ()


class Verifier:
    """Reads records, looks every event up, and counts how each ended.

    A 64th of the events is in memory at a time, and all the while the offset of each dead letter.

    Args:
        sources: topic, dead letters, index.
        limits: sizes of a search.
        clock: epoch seconds.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        limits: Limits = _LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._settings = sources.settings
        self._offsets = sources.offsets
        self._decoder = Decoder(sources.registry)
        self._limits = limits
        self._clock = clock

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
        return Scope(ranges, self._unaccepted_gaps(logs, committed, recreated))

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
        return Scope(ranges, now.unaccepted_gaps, tuple(restarted))

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
        letters = self._read_letters()
        with EventFiles() as files:
            self._read_records(scope.ranges, letters, files, proof)
            logs = self._offsets.watermarks(topic, scope.ranges)
            proof.deleted_while_reading = sum(
                max(0, min(logs[p][0], end) - first) for p, (first, end) in scope.ranges.items()
            )
            self._sources.refresh()
            groups = files.read()
            for number in range(1, GROUPS + 1):
                # No loop variable: this group's memory is free before the next group is read.
                self._look_up(next(groups), proof)
                self._sources.on_progress("looking up", number, GROUPS)
        if proof.lost and self._settings.ingest_drop == "drop":
            count_dropped(proof, self._sources, self._decoder)
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

    def _read_letters(self) -> Mapping[int, set[int]]:
        """Return the offsets that have a dead letter, by partition of the source topic."""
        offsets: dict[int, set[int]] = defaultdict(set)
        for chunk in self._sources.dead_letters().read_all():
            for message in chunk:
                topic, partition, offset = read_letter(message, content=False).source
                # Several topics may share one dead-letter topic.
                if topic == self._settings.topic:
                    offsets[partition].add(offset)
        return offsets

    def _read_records(
        self, ranges: Ranges, letters: Mapping[int, set[int]], files: EventFiles, proof: Proof
    ) -> None:
        for chunk in self._sources.read_topic(ranges):
            for record in chunk:
                partition, offset = record.partition(), record.offset()
                has_letter = offset in letters.get(partition, ())
                event_id = self._read_event_id(record.value())
                if event_id is None:
                    proof.count_unreadable(partition, offset, has_letter=has_letter)
                else:
                    files.add(event_id, partition, offset, has_letter=has_letter)
            proof.records += len(chunk)

    def _read_event_id(self, value: bytes | None) -> str | None:
        try:
            event_id = self._decoder.head(value)["event_id"]
        except DecodeError:
            return None
        return event_id if EVENT_ID.fullmatch(event_id) else None

    def _look_up(self, events: Mapping[str, SeenEvent], proof: Proof) -> None:
        max_age_ms = self._settings.max_event_age.total_seconds() * 1000
        retired_before_ms = self._clock() * 1000 - max_age_ms
        ids = list(events)
        for start in range(0, len(ids), self._limits.search_ids):
            some = ids[start : start + self._limits.search_ids]
            copies = self._find_documents(some)
            for event_id in some:
                indices = copies.get(event_id, ())
                proof.count_event(event_id, events[event_id], indices, retired_before_ms)

    def _find_documents(self, ids: list[str]) -> Mapping[str, list[str]]:
        """Return the indices that hold each document; an id without one is left out."""
        copies: dict[str, list[str]] = defaultdict(list)
        body = {
            "size": self._limits.search_hits,
            "_source": False,
            "track_total_hits": False,
            "query": {"ids": {"values": ids}},
        }
        for hit in self._sources.search(body, hit_fields=("_id", "_index")):
            copies[hit["_id"]].append(hit["_index"])
        return copies


def _gap_row(topic: str, partition: int, gap: Gap) -> dict[str, Any]:
    return {
        "partition": f"{topic}/{partition}",
        "first": gap.first,
        "next": gap.next,
        "records": max(0, gap.next - gap.first),
        "accepted_at": iso(gap.at),
    }

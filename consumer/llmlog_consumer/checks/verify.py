"""Proves the promise: every event on the topic is one document or one dead letter.

Ids are sorted into files by their hash, and looked up file by file: a 64th of the events is held at
a time, and all the while the offset of each letter.
"""

from __future__ import annotations

import base64
import struct
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.errors import KafkaError
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_indices
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.event import EVENT_ID, event_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_schemas.codec import SchemaSource

MOST_ROWS: Final = 10_000
"""Rows kept of what is lost, and of what is doubled; the counts go on."""

_FILES: Final = 64
_IDS: Final = 2_000
"""Asked for at once; twice as many copies fit an answer's 10,000 hits."""
_ENTRY: Final = struct.Struct("<15sIQ?")


class Seen(NamedTuple):
    """A record on the topic: its event, its place, and whether it has a letter."""

    event_id: str
    partition: int
    offset: int
    letter: bool


@dataclass
class Proof:
    """What became of the events.

    Attributes:
        events: distinct ids; a record that cannot be read is one of its own.
        records: on the topic, doubled sends included.
        documents: events with a document.
        dead_letters: events with a letter and no document.
        recovered: events with a letter and a document.
        expired: events older than the limit, without a document.
        lost: events with neither; a row each, with their coordinates.
        lost_count: of all, also of those without a row.
        doubled: events with more than one document; a row each.
        doubled_count: of all.
        gaps: accepted ones, a row each.
        taken: offsets that retention took while the topic was read; at most so many records are
            not proved.
        overtaken: what retention took before it was settled and nobody accepted; a row each.
    """

    events: int = 0
    records: int = 0
    documents: int = 0
    dead_letters: int = 0
    recovered: int = 0
    expired: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    lost_count: int = 0
    doubled: list[dict[str, Any]] = field(default_factory=list)
    doubled_count: int = 0
    gaps: list[dict[str, Any]] = field(default_factory=list)
    taken: int = 0
    overtaken: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Tell whether nothing is lost, doubled, or gone before it was read."""
        return not self.lost_count and not self.doubled_count and not self.overtaken

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline verify --json` prints."""
        return {
            name: getattr(self, name)
            for name in (
                "events", "records", "documents", "dead_letters", "recovered", "expired", "gaps",
                "taken", "overtaken", "lost", "lost_count", "doubled", "doubled_count", "ok",
            )
        }  # fmt: skip


class Verifier:
    """Looks every event up.

    Args:
        settings: topic, group, index.
        offsets: of the topic and the group.
        gaps: that an operator accepted.
        elastic: for documents.
        registry: for values framed with a schema id.
        progress: told a step's name, how much of it is done, and its total (0: unknown).
    """

    def __init__(
        self,
        settings: Settings,
        offsets: KafkaOffsets,
        gaps: AcceptedGaps,
        elastic: Elastic,
        registry: SchemaSource | None,
        *,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._settings = settings
        self._indices = daily_indices(settings.index)
        self._offsets = offsets
        self._gaps = gaps
        self._elastic = elastic
        self._decoder = Decoder(registry)
        self._progress = progress
        self._overtaken: list[dict[str, Any]] = []

    def ranges(
        self, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, tuple[int, int]]:
        """Return what there is to prove: from the log's start to the committed offsets.

        Args:
            since_ms: epoch milliseconds; only records written since.
            until_ms: only records written before.

        Raises:
            KafkaError: the topic is missing, or the group has settled nothing of it.
            Unreachable: Kafka does not answer.
        """
        topic = self._settings.topic
        marks = self._offsets.ranges_since(topic, None)
        committed = self._offsets.committed(topic, marks)
        if not committed and any(end > start for start, end in marks.values()):
            raise KafkaError(
                f"group {self._settings.group} has committed nothing of {topic}: there is nothing "
                "to prove yet; check LLMLOG_GROUP, or run `pipeline consume`"
            )
        # A log that ends before what is committed was made anew: nothing of it is settled. Asked
        # again, for what was written and committed since the first look is no sign of that.
        ahead = [p for p, place in committed.items() if place > marks[p][1]]
        ends = self._offsets.watermarks(topic, ahead)
        settled = {p: c for p, c in committed.items() if p not in ends or c <= ends[p][1]}
        anew = committed.keys() - settled.keys()
        self._overtaken = self._gone(marks, committed, anew)
        chosen = marks if since_ms is None else self._offsets.narrow(topic, marks, since_ms)
        before = {} if until_ms is None else self._offsets.offsets_at(topic, marks, until_ms)
        return {
            p: (first, min(settled.get(p, marks[p][0]), before.get(p, end)))
            for p, (first, end) in chosen.items()
        }

    def _gone(
        self,
        marks: Mapping[int, tuple[int, int]],
        committed: Mapping[int, int],
        anew: Container[int],
    ) -> list[dict[str, Any]]:
        """Name what is gone and was not settled, and nobody accepted."""
        topic = self._settings.topic
        gaps = self._gaps.of_topic(topic)
        return [
            {"partition": f"{topic}/{p}", "first": committed[p], "next": start}
            for p, (start, _) in marks.items()
            if (committed.get(p, start) < start or p in anew)
            and not any(gap.first == committed[p] for gap in gaps.get(p, ()))
        ]

    def prove(self, ranges: Mapping[int, tuple[int, int]]) -> Proof:
        """Read the records in these ranges, and look up what became of each event.

        Raises:
            KafkaError, ElasticsearchError: a server refuses.
            Unreachable: a server does not answer.
        """
        proof = Proof(overtaken=self._overtaken)
        for partition, gaps in self._gaps.of_topic(self._settings.topic).items():
            proof.gaps += [_gap_row(self._settings.topic, partition, gap) for gap in gaps]
        letters = self._letters()
        with tempfile.TemporaryDirectory(prefix="llmlog-verify-") as folder:
            files = [Path(folder) / str(number) for number in range(_FILES)]
            self._sort(ranges, letters, files, proof)
            marks = self._offsets.watermarks(self._settings.topic, ranges)
            proof.taken = sum(
                max(0, min(marks[p][0], end) - first) for p, (first, end) in ranges.items()
            )
            self._elastic.request("POST", f"/{self._indices}/_refresh")
            for number, file in enumerate(files):
                self._progress("looking up", number, _FILES)
                self._look_up(file, proof)
            self._progress("looking up", _FILES, _FILES)
        return proof

    def onwards(
        self, before: Mapping[int, tuple[int, int]]
    ) -> tuple[dict[int, tuple[int, int]], list[int]]:
        """Return what there is to prove after a round, and the partitions that begin again.

        Args:
            before: what that round proved.

        Raises:
            KafkaError, Unreachable: as `ranges`.
        """
        proved = {p: end for p, (_, end) in before.items()}
        now = self.ranges()
        anew = [p for p, (_, end) in now.items() if end < proved.get(p, 0)]
        return {
            p: (start if p in anew else proved.get(p, start), end)
            for p, (start, end) in now.items()
        }, anew

    def _letters(self) -> Mapping[int, set[int]]:
        """Return the offsets that have a letter, by source partition."""
        offsets: dict[int, set[int]] = defaultdict(set)
        for chunk in DeadLetters(self._settings, progress=self._progress).read_all():
            for message in chunk:
                topic, partition, offset = read_letter(message, content=False).source
                if topic == self._settings.topic:
                    offsets[partition].add(offset)
        return offsets

    def _sort(
        self, ranges: Mapping[int, tuple[int, int]], letters: Mapping[int, set[int]],
        files: list[Path], proof: Proof,
    ) -> None:  # fmt: skip
        """Write each record's id and place to the file of its id's hash."""
        total = sum(max(0, end - start) for start, end in ranges.values())
        with ExitStack() as stack:
            open_files = [stack.enter_context(file.open("wb")) for file in files]
            for chunk in topic_reader.read(self._settings, self._settings.topic, ranges):
                for record in chunk:
                    partition, offset = record.partition(), record.offset()
                    dead = offset in letters.get(partition, ())
                    raw = self._raw_id(record.value())
                    if raw is None:
                        self._unreadable(partition, offset, dead, proof)
                    else:
                        entry = _ENTRY.pack(raw, partition, offset, dead)
                        open_files[raw[-1] % _FILES].write(entry)
                proof.records += len(chunk)
                self._progress("reading the topic", proof.records, total)

    def _raw_id(self, value: bytes | None) -> bytes | None:
        try:
            event_id = self._decoder.head(value)["event_id"]
        except DecodeError:
            return None
        return base64.urlsafe_b64decode(event_id) if EVENT_ID.fullmatch(event_id) else None

    def _unreadable(self, partition: int, offset: int, dead: bool, proof: Proof) -> None:  # noqa: FBT001
        proof.events += 1
        if dead:
            proof.dead_letters += 1
        else:
            self._lose(proof, None, [(partition, offset)])

    def _look_up(self, file: Path, proof: Proof) -> None:
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        dead: set[str] = set()
        for seen in _entries(file):
            places[seen.event_id].append((seen.partition, seen.offset))
            if seen.letter:
                dead.add(seen.event_id)
        file.unlink()
        proof.events += len(places)
        oldest = time.time() * 1000 - self._settings.max_event_age.total_seconds() * 1000
        names = list(places)
        for ids in (names[at : at + _IDS] for at in range(0, len(names), _IDS)):
            copies = self._copies(ids)
            for event_id in ids:
                indices = copies.get(event_id, ())
                proof.documents += bool(indices)
                if len(indices) > 1:
                    proof.doubled_count += 1
                    if len(proof.doubled) < MOST_ROWS:
                        row = self._row(event_id, places[event_id])
                        proof.doubled.append(row | {"indices": sorted(indices)})
                if indices:
                    proof.recovered += event_id in dead
                elif event_id in dead:
                    proof.dead_letters += 1
                elif event_time_ms(event_id) < oldest:
                    proof.expired += 1
                else:
                    self._lose(proof, event_id, places[event_id])

    def _copies(self, ids: list[str]) -> dict[str, list[str]]:
        """Return the indices that hold each document, over all daily indices."""
        copies: dict[str, list[str]] = defaultdict(list)
        body = {
            "size": 10_000,
            "_source": False,
            "track_total_hits": False,
            "query": {"ids": {"values": ids}},
        }
        answer = self._elastic.demand(
            "POST",
            f"/{self._indices}/_search",
            body=body,
            params={"filter_path": "hits.hits._id,hits.hits._index,_shards.failed",
                    "allow_partial_search_results": "false"},
        )  # fmt: skip
        for hit in answer.get("hits", {}).get("hits", ()):
            copies[hit["_id"]].append(hit["_index"])
        return copies

    def _lose(self, proof: Proof, event_id: str | None, places: list[tuple[int, int]]) -> None:
        proof.lost_count += 1
        if len(proof.lost) < MOST_ROWS:
            proof.lost.append(self._row(event_id, places))

    def _row(self, event_id: str | None, places: list[tuple[int, int]]) -> dict[str, Any]:
        return {
            "event_id": event_id,
            "day": None if event_id is None else event_time_ms(event_id) // DAY_MS * DAY_MS,
            "coordinates": [f"{self._settings.topic}/{p}/{o}" for p, o in places],
        }


def _entries(file: Path) -> Iterator[Seen]:
    for raw, partition, offset, letter in _ENTRY.iter_unpack(file.read_bytes()):
        yield Seen(base64.urlsafe_b64encode(raw).decode(), partition, offset, letter)


def _gap_row(topic: str, partition: int, gap: Gap) -> dict[str, Any]:
    return {
        "partition": f"{topic}/{partition}",
        "first": gap.first,
        "next": gap.next,
        "records": max(0, gap.next - gap.first),
        "accepted_at": gap.at,
    }

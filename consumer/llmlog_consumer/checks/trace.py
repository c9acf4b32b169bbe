"""Where one request is: in the index, on the topic, among the dead letters."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import KafkaError
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.elasticsearch.index_names import daily_indices
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.times import iso
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.event import EVENT_ID, event_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_schemas.codec import SchemaSource

MOST: Final = 100
"""Documents, records and letters of one call that are told."""
_MS: Final = "milliseconds"


@dataclass
class Trace:
    """What was found of a call.

    Attributes:
        call_id: LiteLLM's `litellm_call_id`.
        documents: in the index, a row each.
        records: on the topic, a row each; empty where it was not read.
        letters: on the dead-letter topic, a row each.
        scanned: whether the topics were read.
        refused: why not all letters were; empty where they were.
    """

    call_id: str
    documents: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    scanned: bool = False
    refused: str = ""

    @property
    def verdict(self) -> str:
        """Say in a line where the request is."""
        if self.documents:
            return "INDEXED"
        if self.letters:
            return "DEAD: " + str(self.letters[0]["cause"])
        waiting = [row for row in self.records if not row["settled"]]
        if waiting:
            return f"WAITING: {waiting[0]['behind']} records before it are not settled"
        if self.refused:
            what = "SETTLED without a document" if self.records else "NOT FOUND"
            return f"{what}; whether it is a letter is not known: {self.refused}"
        if self.records:
            return "SETTLED without a document: expired, or deleted since; `pipeline verify` tells"
        return "NOT FOUND: not in the index, and on neither topic as far as they reach back"

    @property
    def found(self) -> bool:
        """Tell whether there is a trace of it."""
        return bool(self.documents or self.letters or self.records)

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline trace --json` prints."""
        return {
            "litellm_call_id": self.call_id,
            "verdict": self.verdict,
            "documents": self.documents,
            "records": self.records,
            "letters": self.letters,
            "scanned": self.scanned,
        }


class Tracer:
    """Looks a call up.

    Args:
        settings: topics, group, index.
        offsets: of the topic and the group.
        elastic: for documents.
        registry: for values framed with a schema id.
        progress: told a step's name, how much of it is done, and its total.
    """

    def __init__(
        self,
        settings: Settings,
        offsets: KafkaOffsets,
        elastic: Elastic,
        registry: SchemaSource | None,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._settings = settings
        self._indices = daily_indices(settings.index)
        self._offsets = offsets
        self._elastic = elastic
        self._decoder = Decoder(registry)
        self._progress = progress

    def trace(self, call_id: str, *, since_ms: int | None = None, scan: bool = False) -> Trace:
        """Search the index, and where it knows nothing read both topics.

        Args:
            call_id: `litellm_call_id`.
            since_ms: epoch milliseconds; records that were written before are not read.
            scan: read the topics in any case.

        Raises:
            KafkaError, ElasticsearchError: a server refuses.
            Unreachable: a server does not answer.
        """
        found = Trace(call_id, self._documents(call_id))
        if found.documents and not scan:
            return found
        found.scanned = True
        found.records = self._records(call_id, since_ms)
        try:
            found.letters += islice(self._letters(call_id, found.records, since_ms), MOST)
        except KafkaError as error:
            # A topic that is not there cannot be told from one that this user may not see.
            found.refused = str(error)
        if not found.documents:
            # What waited at the first look may have been indexed while the topics were read.
            found.documents = self._documents(call_id)
        return found

    def _documents(self, call_id: str) -> list[dict[str, Any]]:
        names = ["@timestamp", "endTime", "status", "model"]
        # Otherwise what was indexed a moment ago is not found yet.
        self._elastic.request("POST", f"/{self._indices}/_refresh")
        answer = self._elastic.demand(
            "POST",
            f"/{self._indices}/_search",
            body={"query": {"term": {"litellm_call_id": call_id}}, "size": MOST, "_source": names},
            # A shard that is away may hold the document.
            params={"allow_partial_search_results": "false"},
        )
        return [
            {
                "index": hit["_index"],
                "document_id": hit["_id"],
                "started_at": iso(hit["_source"].get("@timestamp"), _MS),
                "ended_at": iso(hit["_source"].get("endTime"), _MS),
                "status": hit["_source"].get("status"),
                "model": hit["_source"].get("model"),
            }
            for hit in answer["hits"]["hits"]
        ]

    def _records(self, call_id: str, since_ms: int | None) -> list[dict[str, Any]]:
        topic = self._settings.topic
        ranges = self._offsets.ranges_since(topic, since_ms)
        committed = self._offsets.committed(topic, ranges)
        total = sum(max(0, end - start) for start, end in ranges.values())
        rows: list[dict[str, Any]] = []
        read, needle = 0, call_id.encode()
        for chunk in topic_reader.read(self._settings, topic, ranges):
            for record in chunk:
                # Decoding costs twenty times as much as this look.
                if needle in (record.value() or b"") and len(rows) < MOST:
                    row = self._row(call_id, record, committed.get(record.partition(), 0))
                    if row is not None:
                        rows.append(row)
            read += len(chunk)
            self._progress("reading the topic", read, total)
        return rows

    def _row(self, call_id: str, record: Any, committed: int) -> dict[str, Any] | None:
        event_id: str | None = None
        # What cannot be read names the call all the same. It lies among the letters, or is a
        # document where only what stands behind that is broken.
        with suppress(DecodeError):
            event_id = self._decoder.head(record.value())["event_id"]
            if self._decoder.decode(record.value())["litellm_call_id"] != call_id:
                return None
        good_id = event_id is not None and EVENT_ID.fullmatch(event_id)
        return {
            "coordinates": f"{record.topic()}/{record.partition()}/{record.offset()}",
            "written_at": iso(record.timestamp()[1], _MS),
            "event_id": event_id,
            "started_at": iso(event_time_ms(event_id), _MS) if good_id and event_id else None,
            "settled": record.offset() < committed,
            "behind": max(0, record.offset() - committed),
        }

    def _letters(
        self, call_id: str, records: list[dict[str, Any]], since_ms: int | None
    ) -> Iterator[dict[str, Any]]:
        names, needle = {row["coordinates"] for row in records}, call_id.encode()
        there = DeadLetters(self._settings, since_ms=since_ms, progress=self._progress)
        for letter in there.read_newest(Filter(), content=True):
            if letter.source_coordinates in names or needle in (letter.value or b""):
                yield _letter_row(letter)


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    shown = letter.as_json(recovered=None)
    es = shown["es"] or {}
    said = ": ".join(filter(None, (es.get("type"), es.get("reason")))) or shown["exception"]
    return {
        "coordinates": letter.coordinates,
        "source": letter.source_coordinates,
        "failed_at": shown["last_failed_at"],
        "stage": shown["stage"],
        "fingerprint": shown["fingerprint"],
        "cause": said or "not said",
    }

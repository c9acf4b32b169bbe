"""Finds one request: in the index, on the source topic, among the dead letters."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import KafkaError
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.times import iso
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.event import EVENT_ID, event_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_consumer.checks.sources import Sources
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.kafka_record import KafkaRecord

MAX_ROWS: Final = 100
"""Documents, records and dead letters of one request each; more are left out."""
_PRECISION: Final = "milliseconds"


@dataclass
class Trace:
    """Everything that was found of one request.

    Attributes:
        call_id: LiteLLM's `litellm_call_id`.
        documents: in the index; one row each.
        records: on the source topic; one row each; empty where the topic was not read.
        dead_letters: on the dead-letter topic; one row each; empty where it was not read.
        scanned: whether the topics were read.
        refusal: why the dead-letter topic could not be read to its end; empty where it was.
    """

    call_id: str
    documents: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    scanned: bool = False
    refusal: str = ""

    @property
    def verdict(self) -> str:
        """Return in one line where the request is."""
        if self.documents:
            return "INDEXED"
        if self.dead_letters:
            return "DEAD: " + str(self.dead_letters[0]["cause"])
        waiting = [row for row in self.records if not row["settled"]]
        if waiting:
            return f"WAITING: {waiting[0]['records_ahead']} records before it are not settled"
        if self.refusal:
            place = "SETTLED without a document" if self.records else "NOT FOUND"
            return f"{place}; whether it is a dead letter is not known: {self.refusal}"
        if self.records:
            return "SETTLED without a document: deleted since; run `pipeline verify`"
        return "NOT FOUND: not in the index, and on neither topic as far as they reach back"

    @property
    def found(self) -> bool:
        """Tell whether there is a trace of the request."""
        return bool(self.documents or self.dead_letters or self.records)

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline trace --json` prints."""
        return {
            "litellm_call_id": self.call_id,
            "verdict": self.verdict,
            "documents": self.documents,
            "records": self.records,
            "dead_letters": self.dead_letters,
            "scanned": self.scanned,
        }


class Tracer:
    """Looks a request up.

    Args:
        sources: topic, dead letters, index.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._decoder = Decoder(sources.registry)

    def trace(self, call_id: str, *, since_ms: int | None = None, scan: bool = False) -> Trace:
        """Search the index; where it has no document of the request, read both topics.

        Args:
            call_id: `litellm_call_id`.
            since_ms: epoch milliseconds; records that were written before are not read.
            scan: read the topics in any case.

        Raises:
            KafkaError, ElasticsearchError: a server refuses.
            Unreachable: a server does not answer.
        """
        trace = Trace(call_id, self._find_documents(call_id))
        if trace.documents and not scan:
            return trace
        trace.scanned = True
        trace.records = self._find_records(call_id, since_ms)
        try:
            letters = self._find_letters(call_id, trace.records, since_ms)
            trace.dead_letters += islice(letters, MAX_ROWS)
        except KafkaError as error:
            # A missing topic looks the same as one that this user may not see.
            trace.refusal = str(error)
        if not trace.documents:
            # It may have been indexed while the topics were read.
            trace.documents = self._find_documents(call_id)
        return trace

    def _find_documents(self, call_id: str) -> list[dict[str, Any]]:
        # Without it a search misses documents that were indexed a moment ago.
        self._sources.refresh()
        hits = self._sources.search(
            {
                "query": {"term": {"litellm_call_id": call_id}},
                "size": MAX_ROWS,
                "_source": ["@timestamp", "endTime", "status", "model"],
            }
        )
        return [_document_row(hit) for hit in hits]

    def _find_records(self, call_id: str, since_ms: int | None) -> list[dict[str, Any]]:
        topic, offsets = self._sources.settings.topic, self._sources.offsets
        ranges = offsets.ranges_since(topic, since_ms)
        committed = offsets.committed(topic, ranges)
        rows: list[dict[str, Any]] = []
        needle = call_id.encode()
        for chunk in self._sources.read_topic(ranges):
            for record in chunk:
                # Decoding costs twenty times as much as this search for the bytes.
                if needle in (record.value() or b"") and len(rows) < MAX_ROWS:
                    row = self._record_row(call_id, record, committed.get(record.partition(), 0))
                    if row is not None:
                        rows.append(row)
        return rows

    def _record_row(
        self, call_id: str, record: KafkaRecord, committed: int
    ) -> dict[str, Any] | None:
        """Return a record's row; None where it is another request that only names this one."""
        event_id: str | None = None
        # A record that cannot be decoded names the request all the same. It is a dead letter, or
        # a document where only the fields behind the document are damaged.
        with suppress(DecodeError):
            event_id = self._decoder.head(record.value())["event_id"]
            if self._decoder.decode(record.value())["litellm_call_id"] != call_id:
                return None
        started_at = None
        if event_id is not None and EVENT_ID.fullmatch(event_id):
            started_at = iso(event_time_ms(event_id), _PRECISION)
        return {
            "coordinates": f"{record.topic()}/{record.partition()}/{record.offset()}",
            "written_at": iso(record.timestamp()[1], _PRECISION),
            "event_id": event_id,
            "started_at": started_at,
            "settled": record.offset() < committed,
            "records_ahead": max(0, record.offset() - committed),
        }

    def _find_letters(
        self, call_id: str, records: list[dict[str, Any]], since_ms: int | None
    ) -> Iterator[dict[str, Any]]:
        names, needle = {row["coordinates"] for row in records}, call_id.encode()
        for letter in self._sources.dead_letters(since_ms).read_newest(Filter(), content=True):
            if letter.source_coordinates in names or needle in (letter.value or b""):
                yield _letter_row(letter)


def _document_row(hit: dict[str, Any]) -> dict[str, Any]:
    source = hit["_source"]
    return {
        "index": hit["_index"],
        "document_id": hit["_id"],
        "started_at": iso(source.get("@timestamp"), _PRECISION),
        "ended_at": iso(source.get("endTime"), _PRECISION),
        "status": source.get("status"),
        "model": source.get("model"),
    }


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    shown = letter.as_json(recovered=None)
    es = shown["es"] or {}
    reason = ": ".join(filter(None, (es.get("type"), es.get("reason"))))
    return {
        "coordinates": letter.coordinates,
        "source": letter.source_coordinates,
        "failed_at": shown["last_failed_at"],
        "stage": shown["stage"],
        "fingerprint": shown["fingerprint"],
        "cause": reason or shown["exception"] or "unknown",
    }

"""Finds one request, or one event: in the index, on the source topic, among the dead letters."""

from __future__ import annotations

import time
from collections import Counter
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
    from collections.abc import Callable, Container, Iterator

    from llmlog_consumer.checks.sources import Sources
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.reader import DeadLetters
    from llmlog_consumer.kafka_record import KafkaRecord

MAX_ROWS: Final = 100
"""Documents, records and dead letters of one request each; more are left out."""
_PRECISION: Final = "milliseconds"


@dataclass
class Trace:
    """Everything that was found of one request.

    Attributes:
        call_id: LiteLLM's `litellm_call_id`, or an event id.
        alias: that users search.
        documents: in the index; one row each.
        records: on the source topic; one row each; empty where the topic was not read.
        dead_letters: on the dead-letter topic; one row each; empty where it was not read.
        scanned: whether the topics were read.
        refusal: why the dead-letter topic could not be read to its end; empty where it was.
        notes: what else a person has to know, a line each.
    """

    call_id: str
    alias: str = ""
    documents: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    scanned: bool = False
    refusal: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return in one line where the request is."""
        if self.documents:
            return "INDEXED" + self._describe_fault()
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

    def _describe_fault(self) -> str:
        """Say what is wrong with where the documents are; empty where nothing is."""
        found = [row for row in self.documents if row["behind_alias"] is not False]
        if not found:
            index = self.documents[0]["index"]
            return f" in {index}, which is not behind {self.alias}: users do not find it"
        copies = Counter(row["document_id"] for row in found)
        doubled = [event_id for event_id, number in copies.items() if number > 1]
        if not doubled:
            return ""
        indices = sorted(row["index"] for row in found if row["document_id"] == doubled[0])
        return f", but doubled: {doubled[0]} is in {' and in '.join(indices)}"

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
        sleep: waits for some seconds.
    """

    def __init__(self, sources: Sources, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sources = sources
        self._documents = sources.documents(sleep=sleep)
        self._decoder = Decoder(sources.registry)

    def trace(self, call_id: str, *, since_ms: int | None = None, scan: bool = False) -> Trace:
        """Search the index; where it has no document of the request, read both topics.

        Args:
            call_id: `litellm_call_id`, or an event id.
            since_ms: epoch milliseconds; records that were written before are not read.
            scan: read the topics in any case.

        Raises:
            KafkaError, ElasticsearchError: a server refuses.
            Unreachable: a server does not answer.
        """
        trace = Trace(call_id, self._sources.settings.index)
        # Without it a search misses documents that were indexed a moment ago.
        note = self._documents.refresh()
        trace.documents = self._find_documents(call_id)
        if trace.documents and not scan:
            return trace
        trace.scanned = True
        trace.records = self._find_records(call_id, since_ms)
        try:
            dead_letters = self._sources.dead_letters(since_ms)
            letters = self._find_letters(call_id, trace.records, dead_letters)
            trace.dead_letters += islice(letters, MAX_ROWS)
            others = dead_letters.groups.describe_others()
            # These are all that were read, not those of this request.
            trace.notes += [others] if others and not trace.dead_letters else []
        except KafkaError as error:
            # A missing topic looks the same as one that this user may not see.
            trace.refusal = str(error)
        if not trace.documents:
            # It may have been indexed while the topics were read.
            note = self._documents.refresh() or note
            trace.documents = self._find_documents(call_id)
        if not trace.documents:
            trace.notes += filter(None, [note])
        trace.notes += sorted(self._documents.unread.values())
        return trace

    def _find_documents(self, call_id: str) -> list[dict[str, Any]]:
        wanted: list[dict[str, Any]] = [{"term": {"litellm_call_id": call_id}}]
        if EVENT_ID.fullmatch(call_id):
            wanted.append({"ids": {"values": [call_id]}})
        hits = self._documents.search(
            {
                "query": {"bool": {"should": wanted}},
                "size": MAX_ROWS,
                "_source": ["@timestamp", "endTime", "status", "model"],
            }
        )
        behind = self._documents.behind_alias()
        return [_document_row(hit, behind) for hit in hits]

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
            if not self._is_about(call_id, record.value()):
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

    def _is_about(self, call_id: str, value: bytes | None) -> bool:
        """Tell whether an event is the one with this id, or of the call with this id.

        Raises:
            DecodeError: the value cannot be decoded.
        """
        event = self._decoder.decode(value)
        return call_id in {event["litellm_call_id"], event["event_id"]}

    def _find_letters(
        self, call_id: str, records: list[dict[str, Any]], dead_letters: DeadLetters
    ) -> Iterator[dict[str, Any]]:
        """Yield the letters of the request: of its event, or of its record if none is read."""
        ids = {row["event_id"] for row in records} - {None}
        places = {(row["coordinates"], row["written_at"]) for row in records}
        needle = call_id.encode()
        for letter in dead_letters.read_newest(Filter(), content=True):
            written_at = iso(letter.source_ms, _PRECISION)
            is_of_record = (letter.source_coordinates, written_at) in places
            if not (letter.event_id in ids or is_of_record or needle in (letter.value or b"")):
                continue
            with suppress(DecodeError):
                if not self._is_about(call_id, letter.value):
                    continue
            yield _letter_row(letter)


def _document_row(hit: dict[str, Any], behind: Container[str] | None) -> dict[str, Any]:
    source = hit["_source"]
    return {
        "index": hit["_index"],
        "behind_alias": None if behind is None else hit["_index"] in behind,
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
        "event_id": letter.event_id or None,
        "source": letter.source_coordinates,
        "failed_at": shown["last_failed_at"],
        "stage": shown["stage"],
        "fingerprint": shown["fingerprint"],
        "cause": reason or shown["exception"] or "unknown",
    }

"""Puts dead letters on their way again: through the worker's own way, or back onto a topic.

Nothing is remembered between runs: a document that is there stays as it is, and what dies again
is a newer letter of the same name. So a run that was cut off is simply run again.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from llmlog_consumer.dead_letters.letter import PREFIX
from llmlog_consumer.dead_letters.original import GoneError, whole
from llmlog_consumer.dead_letters.reader import CHUNK, chunks, existing
from llmlog_consumer.document import Documents, ExpiredError, TransformError, check
from llmlog_consumer.tracker import UNKNOWN_EPOCH, Span
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.errors import DeadLetterFloodError, ElasticsearchError, KafkaError
from llmlog_schemas.kafka_clients import QUIET, producer_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_consumer.dead_letters.found import Found
    from llmlog_consumer.dead_letters.headers import Raw
    from llmlog_consumer.delivery import Delivery
    from llmlog_consumer.elastic import Elastic
    from llmlog_consumer.outcome import Outcome, Settle
    from llmlog_schemas.codec import SchemaSource
    from llmlog_schemas.settings import Settings

MOST_REPLAYS: Final = 3
"""Replays after which a letter that keeps dying is left alone, unless somebody insists."""
MOST_BYTES: Final = 24 * 1024 * 1024
"""Bytes of values in flight above which no more letters are taken."""

_DRAIN_SECONDS: Final = 20.0
_FLUSH_SECONDS: Final = 60.0


class Fate(StrEnum):
    """What becomes of a letter that is not sent, or would become of one that is."""

    SEND = "send"
    """Would be sent; only Elasticsearch can tell more."""
    THERE = "there"
    """Has a document already, which stays as it is."""
    DIES = "dies"
    """Cannot be decoded, or no document can be made of it: would be a letter again."""
    EXPIRED = "expired"
    LOOPED = "looped"
    """Died again after `MOST_REPLAYS` replays."""
    GONE = "gone"
    """Was truncated, and the source has the original no more."""


class Replayed:
    """A letter as the record that it was: what it dies of again has the source's name.

    Args:
        letter: with its content.
    """

    __slots__ = ("_headers", "_key", "_source", "_time", "_value")

    def __init__(self, letter: Found) -> None:
        self._source = letter.source
        self._key, self._value = letter.key, letter.value
        self._headers = history(letter)
        said = letter.headers.get("timestamp", "")
        self._time = int(said) if said.isdecimal() else letter.timestamp_ms

    def topic(self) -> str:
        """Return the source's."""
        return self._source[0]

    def partition(self) -> int:
        """Return the source's."""
        return self._source[1]

    def offset(self) -> int:
        """Return the source's."""
        return self._source[2]

    def key(self) -> bytes | None:
        """Return the source's, byte for byte."""
        return self._key

    def value(self) -> bytes | None:
        """Return the source's, byte for byte."""
        return self._value

    def headers(self) -> list[Raw]:
        """Return the source's own, and the letter's history."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """Return kind and epoch milliseconds of the source."""
        return 1, self._time


def history(letter: Found) -> list[Raw]:
    """Return the headers of a replayed record: its own, since when it dies, one replay more."""
    headers = [*letter.own, (f"{PREFIX}replay_count", str(letter.replays + 1).encode())]
    if first := letter.headers.get("first_failed_at"):
        headers.append((f"{PREFIX}first_failed_at", first.encode()))
    return headers


@dataclass(slots=True)
class Gate:
    """Which letters may go, and in what form.

    Attributes:
        settings: where originals are.
        force: let those through that died again too often.
    """

    settings: Settings
    force: bool = False

    def open(self, letter: Found) -> Found | Fate:
        """Return the letter, whole; or why it stays where it is."""
        if letter.replays >= MOST_REPLAYS and not self.force:
            return Fate.LOOPED
        try:
            return whole(self.settings, letter)
        except GoneError:
            return Fate.GONE


class Plan:
    """Says what a replay would do, and does nothing.

    Args:
        gate: which letters may go.
        elastic: asked which documents are there; None where letters go to a topic.
        registry: for values framed with a schema id.
    """

    def __init__(self, gate: Gate, elastic: Elastic | None, registry: SchemaSource | None) -> None:
        self._gate = gate
        self._elastic = elastic
        settings = gate.settings
        self._decoder = Decoder(registry)
        self._documents = Documents(settings.index, settings.max_event_age)

    def of(self, letters: Iterable[Found]) -> list[dict[str, Any]]:
        """Return a row for each fingerprint: how many letters, and what would become of them."""
        rows: dict[str, dict[str, Any]] = {}
        for chunk in chunks(letters):
            targets = [self._target(letter) for letter in chunk]
            there: set[tuple[str, str]] = set()
            if self._elastic is not None:
                there = existing(self._elastic, [t for t in targets if isinstance(t, tuple)])
            for letter, target in zip(chunk, targets, strict=True):
                row = rows.setdefault(letter.fingerprint, _empty_row(letter))
                if isinstance(target, tuple):
                    target = Fate.THERE if target in there else Fate.SEND  # noqa: PLW2901
                row[target] += 1
                row["letters"] += 1
        return sorted(rows.values(), key=lambda row: -row["letters"])

    def _target(self, letter: Found) -> tuple[str, str] | Fate:
        """Return index and id of the document that would be made; or what becomes of it else."""
        opened = self._gate.open(letter)
        if isinstance(opened, Fate):
            return opened
        if self._elastic is None:
            return Fate.SEND
        try:
            event = self._decoder.decode(opened.value)
            index, document_id, _ = self._documents.make(event, time.time() * 1000)
            check(event["document"])
        except (DecodeError, TransformError):
            return Fate.DIES
        except ExpiredError:
            return Fate.EXPIRED
        return index, document_id


def _empty_row(letter: Found) -> dict[str, Any]:
    return {
        "fingerprint": letter.fingerprint,
        "stage": letter.headers.get("stage"),
        "letters": 0,
        **{str(fate): 0 for fate in Fate},
    }


class Indexing:
    """Replays through decoding and indexing.

    Args:
        gate: which letters may go.
        delivery: made with its `settle`: the callback that is given.
        stopping: asked on every turn; True ends the run with a drain.
        rate: letters a second at most; None for as fast as it goes.
        progress: told how many letters are done.
    """

    def __init__(
        self,
        gate: Gate,
        delivery: Callable[[Settle], Delivery],
        *,
        stopping: Callable[[], bool],
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._gate = gate
        self._stopping = stopping
        self._rate = rate
        self._progress = progress
        self.counts: Counter[str] = Counter()
        self._in_flight = 0
        self._bytes = 0
        self._taken = 0
        self._generation = 0
        self._delivery = delivery(self._settle)

    def run(self, letters: Iterable[Found]) -> bool:
        """Take every letter to its end; False when told to stop before.

        Raises:
            ElasticsearchError: the deployment is wrong; letters not yet sent stay as they are.
            DeadLetterFloodError: nearly everything dies again.
        """
        began = time.monotonic()
        try:
            for chunk in chunks(letters, _at_once(self._rate)):
                self._take(chunk)
                while not self._may_go_on(began):
                    self._turn()
                self._turn()
                if self._stopping():
                    break
            self._drain()
        finally:
            self._delivery.close()
        return not self._stopping()

    def _take(self, chunk: list[Found]) -> None:
        by_partition: dict[tuple[str, int], list[Replayed]] = defaultdict(list)
        for letter in chunk:
            opened = self._gate.open(letter)
            if isinstance(opened, Fate):
                self.counts[opened] += 1
            else:
                record = Replayed(opened)
                by_partition[record.topic(), record.partition()].append(record)
        for (_, partition), records in by_partition.items():
            # A generation for each: two source topics may have the same partition and offset.
            self._generation += 1
            offsets = [record.offset() for record in records]
            span = Span(
                partition, self._generation, min(offsets), max(offsets), UNKNOWN_EPOCH,
                len(records), time.monotonic(),
            )  # fmt: skip
            self._in_flight += len(records)
            self._bytes += sum(len(record.value() or b"") for record in records)
            self._delivery.accept(span, records)
        self._taken += len(chunk)

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        span.unsettled -= records
        self._in_flight -= records
        self._bytes -= size
        self.counts[outcome] += records

    def _may_go_on(self, began: float) -> bool:
        if self._stopping():
            return True
        if self._rate and self._taken > self._rate * (time.monotonic() - began):
            return False
        return self._bytes <= MOST_BYTES

    def _turn(self, wait: float = 0.02) -> None:
        """Go on with what is in flight; stop where a person has to mend something."""
        self._delivery.step(wait if self._in_flight else 0.0)
        if not self._in_flight and self._rate:
            time.sleep(min(wait, 1 / self._rate))
        if self._progress:
            self._progress(self.counts.total())
        if self._delivery.hold is not None:
            raise ElasticsearchError(f"{self._delivery.hold.why}: mend it and run this again")
        if self._delivery.flood:
            raise DeadLetterFloodError(
                "nearly everything dies again of one cause: see the lines above; what is not "
                "indexed stays a letter, as it was"
            )

    def _drain(self) -> None:
        """Wait for what is in flight; once told to stop, for a while only."""
        self._delivery.hurry()
        deadline = None
        while self._in_flight:
            if self._stopping() and deadline is None:
                deadline = time.monotonic() + _DRAIN_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return
            self._turn()


def _at_once(rate: float | None) -> int:
    return CHUNK if rate is None else max(1, min(CHUNK, int(rate / 10)))


class ToTopic:
    """Replays onto a topic, as the records were, for whoever reads it.

    Args:
        gate: which letters may go.
        topic: where to; None for the source of each.
        stopping: asked on every turn.
        rate: letters a second at most; None for as fast as it goes.
        progress: told how many letters are done.
    """

    def __init__(
        self,
        gate: Gate,
        topic: str | None,
        *,
        stopping: Callable[[], bool],
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._gate = gate
        self._topic = topic
        self._stopping = stopping
        self._rate = rate
        self._progress = progress
        self.counts: Counter[str] = Counter()
        self._refusal = ""
        self._producer = Producer(producer_config(gate.settings), logger=QUIET)

    def run(self, letters: Iterable[Found]) -> bool:
        """Send every letter and wait for the brokers; False when told to stop before.

        Raises:
            KafkaError: the broker refuses, or does not confirm in time.
        """
        began = time.monotonic()
        for taken, letter in enumerate(letters):
            while self._rate and taken > self._rate * (time.monotonic() - began):
                self._producer.poll(0.02)
            if self._stopping() or self._refusal:
                break
            opened = self._gate.open(letter)
            if isinstance(opened, Fate):
                self.counts[opened] += 1
            else:
                self._send(opened)
            if self._progress:
                self._progress(self.counts.total())
        left = self._producer.flush(_FLUSH_SECONDS)
        if left or self._refusal:
            raise KafkaError(
                f"{self.counts['sent']} letters sent, others not "
                f"({self._refusal or 'no answer in time'}): run it again"
            )
        return not self._stopping()

    def _send(self, letter: Found) -> None:
        topic = self._topic or letter.source[0]
        while True:
            try:
                self._producer.produce(
                    topic, letter.value, letter.key, headers=list(history(letter)),
                    on_delivery=self._reported,
                )  # fmt: skip
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._refusal = f"{topic}: {error.args[0].str()}"
                return
            else:
                self._producer.poll(0)
                return

    def _reported(self, error: Any, _message: Any) -> None:
        if error is None:
            self.counts["sent"] += 1
        else:
            self._refusal = error.str()

"""Which letters may be replayed, in what form, and what would become of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.reader import chunks, existing
from llmlog_consumer.dead_letters.record import record_of
from llmlog_consumer.dead_letters.source_record import GoneError, whole
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError, TransformError, check
from llmlog_schemas.codec import DecodeError, Decoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_schemas.codec import SchemaSource

MOST_REPLAYS: Final = 3
"""Replays after which a letter that keeps dying is left alone, unless somebody insists."""


class ReplayOutcome(StrEnum):
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


@dataclass(slots=True)
class ReplayPolicy:
    """Which letters may go, and in what form.

    Attributes:
        settings: where originals are.
        force: let those through that died again too often.
    """

    settings: Settings
    force: bool = False

    def open(self, record: ReplayRecord) -> ReplayRecord | ReplayOutcome:
        """Return the record, whole; or why its letter stays where it is."""
        if record.replays >= MOST_REPLAYS and not self.force:
            return ReplayOutcome.LOOPED
        if record.truncated is None:
            return record
        try:
            return record_of(whole(self.settings, record.truncated))
        except GoneError:
            return ReplayOutcome.GONE


class DryRun:
    """Says what a replay would do, and does nothing.

    Args:
        gate: which letters may go.
        elastic: asked which documents are there; None where letters go to a topic.
        registry: for values framed with a schema id.
    """

    def __init__(
        self, gate: ReplayPolicy, elastic: Elastic | None, registry: SchemaSource | None
    ) -> None:
        self._gate = gate
        self._elastic = elastic
        settings = gate.settings
        self._decoder = Decoder(registry)
        self._documents = Documents(settings.index, settings.max_event_age)

    def of(self, letters: Iterable[DeadLetter]) -> list[dict[str, Any]]:
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
                    target = ReplayOutcome.THERE if target in there else ReplayOutcome.SEND  # noqa: PLW2901
                row[target] += 1
                row["letters"] += 1
        return sorted(rows.values(), key=lambda row: -row["letters"])

    def _target(self, letter: DeadLetter) -> tuple[str, str] | ReplayOutcome:
        """Return index and id of the document that would be made; or what becomes of it else."""
        opened = self._gate.open(record_of(letter))
        if isinstance(opened, ReplayOutcome):
            return opened
        if self._elastic is None:
            return ReplayOutcome.SEND
        try:
            event = self._decoder.head(opened.value())
            index, document_id, _ = self._documents.make(event, time.time() * 1000)
            check(event["document"])
        except (DecodeError, TransformError):
            return ReplayOutcome.DIES
        except ExpiredError:
            return ReplayOutcome.EXPIRED
        return index, document_id


def _empty_row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "fingerprint": letter.fingerprint,
        "stage": letter.headers.get("stage"),
        "letters": 0,
        **{str(fate): 0 for fate in ReplayOutcome},
    }

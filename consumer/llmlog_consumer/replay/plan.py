"""Owns the decision which letters are replayed, and the dry run that reports it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.reader import split_chunks
from llmlog_consumer.dead_letters.record import build_record
from llmlog_consumer.dead_letters.recovered import find_recovered
from llmlog_consumer.dead_letters.source_record import OriginalMissingError, restore_original
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError, TransformError, check
from llmlog_consumer.replay.mending import CannotMendError
from llmlog_schemas.codec import DecodeError, Decoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.dead_letters.source_record import Restore
    from llmlog_consumer.elasticsearch.lookup import DocumentLookup
    from llmlog_consumer.replay.mending import Mending
    from llmlog_schemas.codec import SchemaSource

MAX_REPLAYS: Final = 3
"""Replays after which a record that fails every time is left alone, except with `--force`."""


SOURCE_TOPIC: Final = "@source"
"""The target that stands for each record's own source topic."""


class ReplayOutcome(StrEnum):
    """What becomes of a letter: a column of the dry run; the last three also count in a run."""

    REPLAY = "replay"
    """Replayed; whether Elasticsearch takes it is not known before."""
    ALREADY_INDEXED = "already_indexed"
    """Has a document already, which stays as it is."""
    WOULD_FAIL = "would_fail"
    """Cannot be decoded or made a document: would become a letter again."""
    EXPIRED = "expired"
    """Too old for an index: would become a letter again."""
    TOO_MANY_REPLAYS = "too_many_replays"
    """Failed again after `MAX_REPLAYS` replays; left alone."""
    ORIGINAL_MISSING = "original_missing"
    """Truncated, and the source topic no longer has the original; left alone."""
    CANNOT_MEND = "cannot_mend"
    """A change does not fit its record, or the record holds no event; left alone."""


@dataclass(slots=True)
class ReplayPolicy:
    """The rule which letters are replayed, and in what form.

    Attributes:
        settings: where the originals of truncated letters are.
        force: replay records too that failed again after `MAX_REPLAYS` replays.
        restore: reads the original of a truncated letter.
        mending: changes fields of each record; None changes none.
    """

    settings: Settings
    force: bool = False
    restore: Restore = restore_original
    mending: Mending | None = None

    def decide(self, record: ReplayRecord) -> ReplayRecord | ReplayOutcome:
        """Return the record to replay, with its original and its changes; or why it is left alone.

        Raises:
            KafkaUnreachable: no broker answers for the original.
            Unreachable: no Schema Registry answers for a record that is mended.
        """
        if record.replays >= MAX_REPLAYS and not self.force:
            return ReplayOutcome.TOO_MANY_REPLAYS
        if record.truncated is not None:
            try:
                record = build_record(self.restore(self.settings, record.truncated))
            except OriginalMissingError:
                return ReplayOutcome.ORIGINAL_MISSING
        if self.mending is None:
            return record
        try:
            return self.mending.mend(record)
        except CannotMendError:
            return ReplayOutcome.CANNOT_MEND


class DryRun:
    """The report of what a replay would do; it changes nothing.

    Args:
        policy: which letters are replayed.
        lookup: asked which documents exist; None where letters go to a topic.
        registry: for values framed with a schema id.
    """

    def __init__(
        self, policy: ReplayPolicy, lookup: DocumentLookup | None, registry: SchemaSource | None
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        settings = policy.settings
        self._decoder = Decoder(registry)
        self._documents = Documents(
            settings.index, settings.max_event_age, settings.group_max_event_age
        )

    def report(self, letters: Iterable[DeadLetter]) -> list[dict[str, Any]]:
        """Return a row for each fingerprint: its letters by outcome; the largest first."""
        rows: dict[str, dict[str, Any]] = {}
        for chunk in split_chunks(letters):
            for letter, outcome in zip(chunk, self._predict(chunk), strict=True):
                row = rows.setdefault(letter.fingerprint, _empty_row(letter))
                row[outcome] += 1
                row["letters"] += 1
        return sorted(rows.values(), key=lambda row: -row["letters"])

    def report_changes(self, *, show_content: bool = False) -> dict[str, Any] | None:
        """Return what the changes would do to the letters of the report; None where none is made.

        Args:
            show_content: with values of one letter, before and after.
        """
        mending = self._policy.mending
        if mending is None:
            return None
        return {
            "changes": [count.as_json(show_content=show_content) for count in mending.counts],
            "problems": [
                {"why": why, "letters": number} for why, number in mending.problems.items()
            ],
        }

    def _predict(self, letters: list[DeadLetter]) -> list[ReplayOutcome]:
        """Return the outcome of each letter."""
        if self._lookup is None:
            return [self._outcome(letter) for letter in letters]
        recovered = find_recovered(self._lookup, letters)
        return [
            ReplayOutcome.ALREADY_INDEXED
            if recovered.tell(letter.event_id)
            else self._outcome(letter)
            for letter in letters
        ]

    def _outcome(self, letter: DeadLetter) -> ReplayOutcome:
        """Return what becomes of a letter without a document."""
        decision = self._policy.decide(build_record(letter))
        if isinstance(decision, ReplayOutcome):
            return decision
        if self._lookup is None:
            return ReplayOutcome.REPLAY
        try:
            event = self._decoder.head(decision.value())
            self._documents.make(event, time.time() * 1000)
            check(event["document"])
        except (DecodeError, TransformError):
            return ReplayOutcome.WOULD_FAIL
        except ExpiredError:
            return ReplayOutcome.EXPIRED
        return ReplayOutcome.REPLAY


def _empty_row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "fingerprint": letter.fingerprint,
        "stage": letter.headers.get("stage"),
        "letters": 0,
        **{str(outcome): 0 for outcome in ReplayOutcome},
    }

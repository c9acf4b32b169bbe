"""Owns the filter of the `pipeline dlq` commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letters.letter import DeadLetter

_REASON_HEADERS: Final = ("es.reason", "es.type", "es.caused_by", "exception")


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions that a letter has to meet; None is no condition.

    Attributes:
        since_ms: epoch milliseconds; the letter was written then or later.
        until_ms: epoch milliseconds; the letter was written before.
        stage: the step at which the record failed.
        reason: a part of the error's text, in any case of letters.
        fingerprint: of the cause.
        index: the index that the document was meant for; `*` stands for anything.
        partition: of the source topic.
        model: of the event; `*` stands for anything.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    stage: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    index: str | None = None
    partition: int | None = None
    model: str | None = None

    @property
    def is_time_only(self) -> bool:
        """Whether a letter's time alone decides, and not its headers."""
        return self == Filter(since_ms=self.since_ms, until_ms=self.until_ms)

    def matches_time(self, ms: int) -> bool:
        """Tell whether a letter of this time meets the conditions on time.

        Args:
            ms: epoch milliseconds of the letter.
        """
        return (self.since_ms is None or ms >= self.since_ms) and (
            self.until_ms is None or ms < self.until_ms
        )

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a letter meets every condition."""
        headers = letter.headers
        return (
            self.matches_time(letter.timestamp_ms)
            and (self.stage is None or headers.get("stage") == self.stage)
            and (self.fingerprint is None or letter.fingerprint == self.fingerprint)
            and (self.partition is None or headers.get("partition") == str(self.partition))
            and (self.index is None or fnmatchcase(headers.get("index", ""), self.index))
            and (self.model is None or fnmatchcase(headers.get("model", ""), self.model))
            and (self.reason is None or _mentions(headers, self.reason.casefold()))
        )


def _mentions(headers: Mapping[str, str], text: str) -> bool:
    return any(text in headers.get(name, "").casefold() for name in _REASON_HEADERS)

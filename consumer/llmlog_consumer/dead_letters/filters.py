"""Which letters somebody asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letters.letter import DeadLetter

_SAID = ("es.reason", "es.type", "es.caused_by", "exception")


@dataclass(frozen=True, slots=True)
class Filter:
    """Every condition that is set has to hold.

    Attributes:
        since_ms: epoch milliseconds; the letter was written then or later.
        until_ms: the letter was written before.
        stage: where it died.
        reason: a part of what was said of it, in any case of letters.
        fingerprint: its cause.
        index: where it was to go; `*` stands for anything.
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
    def of_time_alone(self) -> bool:
        """Tell whether a letter's headers have no say."""
        return self == Filter(since_ms=self.since_ms, until_ms=self.until_ms)

    def in_time(self, ms: int) -> bool:
        """Tell whether a letter of this time is asked for."""
        return (self.since_ms is None or ms >= self.since_ms) and (
            self.until_ms is None or ms < self.until_ms
        )

    def takes(self, letter: DeadLetter) -> bool:
        """Tell whether this letter is asked for."""
        headers = letter.headers
        return (
            self.in_time(letter.timestamp_ms)
            and (self.stage is None or headers.get("stage") == self.stage)
            and (self.fingerprint is None or letter.fingerprint == self.fingerprint)
            and (self.partition is None or headers.get("partition") == str(self.partition))
            and (self.index is None or fnmatchcase(headers.get("index", ""), self.index))
            and (self.model is None or fnmatchcase(headers.get("model", ""), self.model))
            and (self.reason is None or _said(headers, self.reason.casefold()))
        )


def _said(headers: Mapping[str, str], words: str) -> bool:
    return any(words in headers.get(name, "").casefold() for name in _SAID)

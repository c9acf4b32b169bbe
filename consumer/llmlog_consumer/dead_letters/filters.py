"""Owns the filter of the `pipeline dlq` commands. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.dead_letters.letter import DeadLetter

MAX_GROUPS: Final = 100
"""Other groups that are counted each by itself."""
_NAMED_GROUPS: Final = 3

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
        event_id: of the event that the letter holds.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    stage: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    index: str | None = None
    partition: int | None = None
    model: str | None = None
    event_id: str | None = None

    @property
    def is_time_only(self) -> bool:
        """Whether a letter's time alone decides, and not its headers."""
        return self == Filter(since_ms=self.since_ms, until_ms=self.until_ms)

    def describe(self) -> str:
        """Return the conditions in one line; `all letters` where there are none."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        words = [f"{name}={value}" for name, value in given.items() if value is not None]
        return " ".join(words) or "all letters"

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
            and (self.event_id is None or letter.event_id == self.event_id)
            and (self.partition is None or headers.get("partition") == str(self.partition))
            and (self.index is None or fnmatchcase(headers.get("index", ""), self.index))
            and (self.model is None or fnmatchcase(headers.get("model", ""), self.model))
            and (self.reason is None or _mentions(headers, self.reason.casefold()))
        )


def _mentions(headers: Mapping[str, str], text: str) -> bool:
    return any(text in headers.get(name, "").casefold() for name in _REASON_HEADERS)


@dataclass(slots=True)
class GroupFilter:
    """The letters of one consumer group: several groups may share a dead-letter topic.

    Letters that no worker of ours wrote name no group, and are taken by all.

    Attributes:
        group: whose letters are taken; None takes those of every group.
        others: letters of other groups, by group.
    """

    group: str | None = None
    others: Counter[str] = field(default_factory=Counter)

    def takes(self, group: str) -> bool:
        """Tell whether a letter of a group is taken; count it where it is not."""
        if self.group is None or not group or group == self.group:
            return True
        is_counted_alone = group in self.others or len(self.others) < MAX_GROUPS
        self.others[group if is_counted_alone else "other"] += 1
        return False

    def describe_others(self) -> str:
        """Return in one line how many letters were left out; empty for none."""
        number = self.others.total()
        if not number:
            return ""
        names = [name for name, _ in self.others.most_common(_NAMED_GROUPS)]
        more = len(self.others) - len(names)
        which = ", ".join(names) + (f" and {more} more" if more else "")
        letters = "1 letter" if number == 1 else f"{number} letters"
        return f"{letters} of other consumer groups left out: {which}"

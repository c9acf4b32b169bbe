"""Owns what goes to the journal instead of Kafka, or before it: when, with what, and its way back.

What Kafka cannot take now is written in bursts of a second: waking up for each event would cost a
busy gateway more than the event itself.
"""

from __future__ import annotations

import logging
import math
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from llmlog_producer.events.build import CapturedPayload, EncodedEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.journal import Journal
    from llmlog_producer.sending.queue import EventQueue

OVERDUE: Final = 0.8
"""Seconds after which an event goes to the journal: it is there before memory alone has held it
for 2. What has waited for half as long goes with it."""

_ADOPT_AGAIN: Final = 30.0
_TOGETHER: Final = 32
_TOGETHER_BYTES: Final = 256 * 1024
"""Events that are written by one call."""
_BACKLOG_BYTES: Final = 4 * 1024 * 1024


class Spill:
    """Writes events to the journal, and reads them back. Without a journal it takes none.

    Args:
        journal: None where there is none.
        stats: counted into.
        log: told what is lost, or may be.
        intake: asked whether it is about to be full.
    """

    def __init__(
        self, journal: Journal | None, stats: Stats, log: ThrottledLog, intake: EventQueue
    ) -> None:
        self._journal = journal
        self._stats = stats
        self._log = log
        self._intake = intake
        # To be written together; one by one while the journal is `_full`.
        self._kept: list[EncodedEvent] = []
        self._full = False
        self._going_on = False
        self._next_adoption = 0.0

    @property
    def possible(self) -> bool:
        """There is a journal."""
        return self._journal is not None

    @property
    def has_adopted(self) -> bool:
        """What dead processes have left was looked for."""
        return self._next_adoption > 0

    @property
    def has_backlog(self) -> bool:
        """The journal holds events that are not on their way."""
        return self._journal is not None and self._journal.unsent > 0

    def write(self, items: Iterable[EncodedEvent], *, taken: bool) -> bool:
        """Write those that are not written yet; False where the journal takes no more.

        Args:
            items: events.
            taken: they are on their way to Kafka; otherwise the journal hands them out later.
        """
        if self._journal is None:
            return False
        for some in _together(item for item in items if item.ref is None):
            refs = self._journal.append_all([item.body for item in some], taken=taken)
            for item, ref in zip(some, refs, strict=False):
                item.ref = ref
            self._stats.add("journaled", len(refs))
            if len(refs) < len(some):
                why = f"the journal takes no events: {self._journal.problem}"
                self._log(logging.ERROR, "journal", why)
                return False
        return True

    def is_due(self, entry: CapturedPayload | EncodedEvent, *, urgent: bool) -> bool:
        """Tell whether an event that Kafka cannot take now goes to the journal now."""
        if self._journal is None:
            return False
        if urgent or isinstance(entry, EncodedEvent):
            return True
        age = time.time() - entry.at
        self._going_on = age > (OVERDUE / 2 if self._going_on else OVERDUE)
        return self._going_on or self._intake.nearly_full

    def keep(self, item: EncodedEvent) -> bool:
        """Leave an event to the journal, to be sent later; False where that takes none."""
        if self._journal is None:
            return False
        if item.ref is not None:
            self._journal.give_back(item.ref)
        elif self._full:
            self._full = not self.write([item], taken=False)
            return not self._full
        else:
            self._kept.append(item)
        return True

    def write_kept(self) -> list[EncodedEvent]:
        """Write what was left to the journal; return what it does not take."""
        if not self._kept:
            return []
        self._full = not self.write(self._kept, taken=False)
        left = [item for item in self._kept if item.ref is None]
        self._kept.clear()
        return left

    def overdue(self, in_flight: Iterable[EncodedEvent], now: float) -> list[EncodedEvent]:
        """Write what Kafka has not answered for too long; return what the journal has now.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.
        """
        if self.overdue_in(in_flight, now) > 0:
            return []
        late = list(takewhile(lambda item: now - item.sent >= OVERDUE / 2, in_flight))
        self.write(late, taken=True)
        return [item for item in late if item.ref is not None]

    def overdue_in(self, in_flight: Iterable[EncodedEvent], now: float) -> float:
        """Return the seconds until the first of them is overdue; endless without a journal.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.
        """
        if self._journal is None:
            return math.inf
        return next((item.sent + OVERDUE - now for item in in_flight), math.inf)

    def backlog(self, number: int) -> Iterator[EncodedEvent]:
        """Yield the journal's oldest events, so many at most."""
        if self._journal is None or number <= 0:
            return
        taken = self._journal.take(number, _BACKLOG_BYTES)
        for ref, body in taken:
            yield EncodedEvent(body, ref)
        if lost := self._journal.lost:
            self._journal.lost = 0
            self._stats.add("journal_damaged", lost)
            self._stats.add("failed", lost)
            why = f"{lost} events cannot be read: {self._journal.problem}"
            self._log(logging.ERROR, "lost", why)
        elif not taken and self._journal.unsent:
            why = f"the journal cannot be read, for now: {self._journal.problem}"
            self._log(logging.ERROR, "unread", why)

    def replace(self, item: EncodedEvent, smaller: EncodedEvent) -> None:
        """Have an event's copy replaced by a smaller one, if there is one and room for another."""
        if item.ref is not None:
            if self.write([smaller], taken=True):
                self.settle(item)
            else:
                smaller.ref = item.ref

    def settle(self, item: EncodedEvent) -> None:
        """Have an event's copy forgotten, if there is one."""
        if item.ref is not None and self._journal is not None:
            self._journal.settle(item.ref)

    def adopt(self, now: float) -> None:
        """Take over what dead processes have left, once in a while."""
        if self._journal is None or now < self._next_adoption:
            return
        found = self._journal.adopt()
        self._stats.add("recovered", found.events)
        self._next_adoption = now + _ADOPT_AGAIN
        self._stats.add("journal_torn", found.torn)
        self._stats.add("journal_damaged", found.damaged)
        if found.events:
            self._log(
                logging.WARNING,
                "recovered",
                f"{found.events} events that an earlier process left are sent now",
            )
        if found.damaged:
            self._log(
                logging.ERROR,
                "damaged",
                f"the journal is damaged in {found.damaged} places: what can be read is sent, "
                f"the files are kept in {self._journal.folder} as *.damaged",
            )


def _together(items: Iterable[EncodedEvent]) -> Iterator[list[EncodedEvent]]:
    """Part events into what is written at once."""
    some: list[EncodedEvent] = []
    size = 0
    for item in items:
        some.append(item)
        size += item.size
        if len(some) == _TOGETHER or size > _TOGETHER_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some

"""Owns what goes to the journal instead of Kafka, or before it: when, with what, and its way back.

Events that Kafka cannot take now are written once a second, many at a time: to wake up for each
event would cost a busy gateway more than the event itself.
"""

from __future__ import annotations

import logging
import math
import time
from itertools import takewhile
from typing import TYPE_CHECKING

from llmlog_producer.events.build import CapturedPayload, EncodedEvent
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.sending.timing import LIMITS, TIMING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.sending.queue import EventQueue
    from llmlog_producer.sending.timing import Limits, Timing


def open_journal(settings: Settings, log: ThrottledLog) -> Journal | None:
    """Open this process's journal; None where it is off, or, with one line, where it cannot be."""
    if settings.journal == "off":
        return None
    try:
        return Journal(folder_of(settings), settings.journal_max_bytes)
    except (OSError, RuntimeError) as error:
        text = f"no journal, events are kept in memory alone: {error} (LLMLOG_JOURNAL_DIR)"
        log(logging.ERROR, "spool", text)
        return None


class Spill:
    """The way of events to the journal and back. Without a journal it takes none.

    Hooks call `write`; all else belongs to the sending thread.

    Args:
        journal: None where there is none.
        stats: counted into.
        log: told which events are lost, or may be.
        queue: asked whether it is nearly full.
        timing: of sending.
        limits: of sending.
    """

    def __init__(
        self,
        journal: Journal | None,
        stats: Stats,
        log: ThrottledLog,
        queue: EventQueue,
        *,
        timing: Timing = TIMING,
        limits: Limits = LIMITS,
    ) -> None:
        self._journal = journal
        self._stats = stats
        self._log = log
        self._queue = queue
        self._overdue_seconds = timing.overdue_seconds
        self._adopt_seconds = timing.adopt_seconds
        self._limits = limits
        # To be written by one call; written one by one while the journal is `_full`.
        self._to_write: list[EncodedEvent] = []
        self._full = False
        self._overdue_run = False  # the last event that was asked about was overdue
        self._next_adoption = 0.0  # written by the sending thread, read by all

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    @property
    def has_adopted(self) -> bool:
        """Whether the journals of dead processes were searched for."""
        return self._next_adoption > 0

    @property
    def has_backlog(self) -> bool:
        """Whether the journal holds events that are not on their way to Kafka."""
        return self._journal is not None and self._journal.unsent > 0

    def write(self, events: Iterable[EncodedEvent], *, taken: bool) -> bool:
        """Write the events that are not in the journal yet.

        Args:
            events: the events.
            taken: they are on their way to Kafka; otherwise the journal hands them out later.

        Returns:
            False if the journal takes no more.
        """
        if self._journal is None:
            return False
        for batch in self._batches(event for event in events if event.ref is None):
            refs = self._journal.append_all([event.body for event in batch], taken=taken)
            for event, ref in zip(batch, refs, strict=False):
                event.ref = ref
            self._stats.add("journaled", len(refs))
            if len(refs) < len(batch):
                why = f"the journal takes no events: {self._journal.problem}"
                self._log(logging.ERROR, "journal", why)
                return False
        return True

    def is_due(self, entry: CapturedPayload | EncodedEvent, *, urgent: bool) -> bool:
        """Tell whether an entry that Kafka cannot take now goes to the journal now."""
        if self._journal is None:
            return False
        if urgent or isinstance(entry, EncodedEvent):
            return True
        age = time.time() - entry.at
        bound = self._overdue_seconds / 2 if self._overdue_run else self._overdue_seconds
        self._overdue_run = age > bound
        return self._overdue_run or self._queue.nearly_full

    def keep(self, event: EncodedEvent) -> bool:
        """Leave an event to the journal, to be sent later; False if the journal takes none."""
        if self._journal is None:
            return False
        if event.ref is not None:
            self._journal.give_back(event.ref)
        elif self._full:
            self._full = not self.write([event], taken=False)
            return not self._full
        else:
            self._to_write.append(event)
        return True

    def write_kept(self) -> list[EncodedEvent]:
        """Write the events that `keep` was given; return those that the journal does not take."""
        if not self._to_write:
            return []
        self._full = not self.write(self._to_write, taken=False)
        left = [event for event in self._to_write if event.ref is None]
        self._to_write.clear()
        return left

    def write_overdue(self, in_flight: Iterable[EncodedEvent], now: float) -> list[EncodedEvent]:
        """Write the events that Kafka has not answered for too long.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.

        Returns:
            The overdue events that the journal has now.
        """
        if self.overdue_in(in_flight, now) > 0:
            return []
        half = self._overdue_seconds / 2
        late = list(takewhile(lambda event: now - event.sent >= half, in_flight))
        self.write(late, taken=True)
        return [event for event in late if event.ref is not None]

    def overdue_in(self, in_flight: Iterable[EncodedEvent], now: float) -> float:
        """Return the seconds until the first event is overdue; infinity without a journal.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.
        """
        if self._journal is None:
            return math.inf
        return next((event.sent + self._overdue_seconds - now for event in in_flight), math.inf)

    def read_backlog(self, max_events: int) -> Iterator[EncodedEvent]:
        """Yield the journal's oldest events, so many at most."""
        if self._journal is None or max_events <= 0:
            return
        taken = self._journal.take(max_events, self._limits.backlog_bytes)
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

    def replace(self, event: EncodedEvent, smaller: EncodedEvent) -> None:
        """Replace an event's copy by a smaller event's, if it has one and there is room."""
        if event.ref is not None:
            if self.write([smaller], taken=True):
                self.settle(event)
            else:
                smaller.ref = event.ref

    def settle(self, event: EncodedEvent) -> None:
        """Have the journal forget an event, if it has a copy."""
        if event.ref is not None and self._journal is not None:
            self._journal.settle(event.ref)

    def adopt(self, now: float) -> None:
        """Take over the journals of dead processes, if it is time to; `now`: monotonic seconds."""
        if self._journal is None or now < self._next_adoption:
            return
        recovered = self._journal.adopt()
        self._stats.add("recovered", recovered.events)
        self._next_adoption = now + self._adopt_seconds
        self._stats.add("journal_truncated_files", recovered.truncated)
        self._stats.add("journal_damaged", recovered.damaged)
        if recovered.events:
            self._log(
                logging.WARNING,
                "recovered",
                f"{recovered.events} events that an earlier process left are sent now",
            )
        if recovered.damaged:
            self._log(
                logging.ERROR,
                "damaged",
                f"the journal is damaged in {recovered.damaged} places: what can be read is sent, "
                f"the files are kept in {self._journal.folder} as *.damaged",
            )

    def _batches(self, events: Iterable[EncodedEvent]) -> Iterator[list[EncodedEvent]]:
        """Yield the events in lists that are written by one call each."""
        batch: list[EncodedEvent] = []
        size = 0
        for event in events:
            batch.append(event)
            size += event.size
            if len(batch) == self._limits.write_events or size > self._limits.write_bytes:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

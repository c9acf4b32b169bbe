"""Owns what goes to the journal instead of Kafka, or before it: when, with what, and its way back.

A disk may hang. So a thread of its own, `llmlog-journal`, makes every call into the journal, one
job at a time. What the sending thread has for it gathers meanwhile, within a bound; past it, and
while the journal is full, events stay in memory.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from llmlog_common.job_thread import JobThread
from llmlog_common.throttled_log import error_name
from llmlog_producer.events.build import CapturedPayload, EncodedEvent
from llmlog_producer.sending.timing import LIMITS, TIMING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.journal import Journal
    from llmlog_producer.journal.segment import Segment
    from llmlog_producer.sending.queue import EventQueue
    from llmlog_producer.sending.timing import Limits, Timing


@dataclass
class _Job:
    """What the journal's thread does at once.

    Attributes:
        copies: events to be written that are on their way to Kafka.
        kept: events to be written, and handed out later.
        settled: segments, once for each of their events that Kafka has.
        adopts: files of dead processes are looked for, or one of them is read.
        reads: the backlog is wanted.
        size: bytes of the events.
    """

    copies: list[EncodedEvent] = field(default_factory=list)
    kept: list[EncodedEvent] = field(default_factory=list)
    settled: list[Segment] = field(default_factory=list)
    adopts: bool = False
    reads: bool = False
    size: int = 0


class Spill:
    """The way of events to the journal and back. Without a journal it takes none.

    The sending thread calls all methods; those that begin with `_do` run in the journal's thread.
    Between the two pass jobs, `is_busy`, and what the journal's thread writes: `is_full`, `_ready`,
    and `_refused`, which is read between two jobs. `_lock` guards `ref` and `is_settled` of events,
    and is held for no longer than it takes to look at them.

    Args:
        journal: None where there is none.
        queue: asked whether it is nearly full.
        wake: ends the sending thread's idle wait.
        thread: does the jobs.

    Attributes:
        has_adopted: the journals of dead processes were searched for.
        is_busy: the journal's thread has a job.
        is_full: the journal has taken no event lately.
    """

    def __init__(
        self,
        journal: Journal | None,
        stats: Stats,
        log: ThrottledLog,
        queue: EventQueue,
        *,
        wake: Callable[[], None],
        thread: JobThread | None = None,
        timing: Timing = TIMING,
        limits: Limits = LIMITS,
    ) -> None:
        self._journal = journal
        self._stats = stats
        self._log = log
        self._queue = queue
        self._wake = wake
        self._thread = thread or JobThread("llmlog-journal")
        self._timing = timing
        self._limits = limits
        self._next = _Job()
        self._is_awaited = False  # the sending thread waits for the end of the job
        self._is_paused = False  # the journal was full, and it is too early to try again
        self._overdue_run = False  # the last event that was asked about was overdue
        self._next_adoption = 0.0
        self.is_busy = self.is_full = self._adopting = self.has_adopted = False
        self._refused: list[EncodedEvent] = []
        self._ready: deque[EncodedEvent] = deque()  # to be sent; the journal has them too
        self._lock = threading.Lock()

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None and self._journal.is_usable

    @property
    def has_backlog(self) -> bool:
        """Whether the journal holds events that are not on their way to Kafka."""
        return bool(self._ready) or (self._journal is not None and self._journal.unsent > 0)

    def has_all(self, in_flight: Iterable[EncodedEvent]) -> bool:
        """Tell whether the journal has what it was given, and these events, if it takes any."""
        if self.is_busy or self._next.kept or self._next.copies:
            return False
        takes_none = self.is_full or not self.has_journal
        return takes_none or all(event.ref is not None for event in in_flight)

    def is_due(self, entry: CapturedPayload | EncodedEvent, *, urgent: bool) -> bool:
        """Tell whether an entry that Kafka cannot take now goes to the journal now."""
        if isinstance(entry, EncodedEvent):
            return entry.ref is not None or self._takes_more
        if urgent or entry.written is not None or not self._takes_more:
            return self._takes_more
        age = time.monotonic() - entry.since
        bound = self._timing.overdue_seconds / (2 if self._overdue_run else 1)
        self._overdue_run = age > bound
        return self._overdue_run or self._queue.nearly_full

    @property
    def _takes_more(self) -> bool:
        """Whether an event may be added to the next job; to a full journal one, now and then."""
        if not self.has_journal or self._is_paused:
            return False
        return self._next.size < (1 if self.is_full else self._limits.write_bytes)

    def keep(self, event: EncodedEvent) -> bool:
        """Leave an event to the journal, to be sent later; False if the journal takes none."""
        if event.ref is not None:
            self._ready.append(event)
        elif self._takes_more:
            self._next.kept.append(event)
            self._next.size += event.size
        else:
            return False
        return True

    def copy(self, event: EncodedEvent) -> None:
        """Have an event written that is on its way to Kafka as well, if the journal takes more."""
        if event.ref is not None or event.is_given:
            return
        if self._takes_more:
            event.is_given = True
            self._next.copies.append(event)
            self._next.size += event.size
        elif event.written is not None:
            event.written.finish(is_written=False)

    def copy_all(self, events: Iterable[EncodedEvent]) -> None:
        """Have all of these written, one job after the other."""
        for event in events:
            self.copy(event)

    def copy_overdue(self, in_flight: Iterable[EncodedEvent], now: float) -> list[EncodedEvent]:
        """Have the events written that Kafka has not answered for too long.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.

        Returns:
            The overdue events that the journal has by now.
        """
        if self.overdue_in(in_flight, now) > 0:
            return []
        half = self._timing.overdue_seconds / 2
        late = list(takewhile(lambda event: now - event.sent >= half, in_flight))
        self.copy_all(late)
        return [event for event in late if event.ref is not None]

    def overdue_in(self, in_flight: Iterable[EncodedEvent], now: float) -> float:
        """Return the seconds until the first event is overdue; infinity without a journal.

        Args:
            in_flight: events, in the order in which they were sent.
            now: monotonic seconds.
        """
        if not self.has_journal:
            return math.inf
        overdue = self._timing.overdue_seconds
        return next((event.sent + overdue - now for event in in_flight), math.inf)

    def read_backlog(self, max_events: int) -> Iterator[EncodedEvent]:
        """Yield the journal's oldest events, so many at most; ask for more of them."""
        for _ in range(min(max_events, len(self._ready))):
            yield self._ready.popleft()
        self._next.reads = not self._ready and self.has_backlog

    def settle(self, event: EncodedEvent) -> None:
        """Have the journal forget an event, if it has a copy."""
        with self._lock:
            event.is_settled, ref = True, event.ref
        if ref is not None:
            self._stats.add("in_journal", -1)
            self._next.settled.append(ref)

    def keep_house(self, now: float) -> None:
        """Do what is done once in a while; `now`: monotonic seconds."""
        self._is_paused = False
        if now >= self._next_adoption:
            self._next.adopts = True
            self._next_adoption = now + self._timing.adopt_seconds

    def exchange(self, *, is_awaited: bool = False, urgent: bool = False) -> list[EncodedEvent]:
        """Hand over the next job, unless the journal's thread has one.

        Args:
            is_awaited: the sending thread waits for the end of this job.
            urgent: files of dead processes have to wait.

        Returns:
            Events that were to be kept, and that the journal did not take.
        """
        self._is_awaited = is_awaited
        if not self.has_journal:
            self._refused += self._next.kept
            self._do_finish(self._next)
            self._next = _Job()
        elif not self.is_busy:
            job = self._next
            job.adopts = (job.adopts or self._adopting) and not urgent
            if job.size or job.settled or job.adopts or job.reads:
                self._next, self.is_busy = _Job(), True
                self._thread.submit(lambda: self._do(job))
        if self.is_busy:
            return []
        self._is_paused |= self.is_full
        refused, self._refused = self._refused, []
        return refused

    def end(self, seconds: float) -> None:
        """Have all jobs done; wait for so many seconds at most."""
        self.exchange()
        self._thread.end(seconds)

    def release(self, seconds: float) -> None:
        """End the journal, after all jobs; wait for so many seconds at most."""
        if self._journal is not None:
            self._thread.submit(self._journal.release)
            self._thread.end(seconds)

    # What the journal's thread does.

    def _do(self, job: _Job) -> None:
        try:
            self._do_job(job, self._journal)  # type: ignore[arg-type]  # `exchange` has asked
        except Exception as error:  # noqa: BLE001 - no error may end the thread
            self.is_full = True
            why = str(error) if isinstance(error, OSError) else f"bug: {error_name(error)}"
            why = f"no journal, events are kept in memory alone: {why} (LLMLOG_JOURNAL_DIR)"
            self._log(logging.ERROR, "spool", why)
        finally:
            self._do_finish(job)
            self._refused += [e for e in job.kept if e.ref is None and not e.is_settled]
            self.is_busy = False
            if (
                self._adopting
                or (job.reads and self._ready)
                or (self._is_awaited and not self.is_full)
            ):
                self._wake()

    def _do_job(self, job: _Job, journal: Journal) -> None:
        if not journal.is_open:
            journal.open()
        self._do_write(journal, job.copies, taken=True)
        self._do_write(journal, job.kept, taken=False)
        self._do_finish(job)
        for segment in job.settled:
            journal.settle(segment)
        if job.adopts:
            self._do_adopt(journal)
        if job.reads:
            self._do_read(journal)

    def _do_write(self, journal: Journal, events: list[EncodedEvent], *, taken: bool) -> None:
        if not taken:  # some may have been copied meanwhile
            self._ready.extend(event for event in events if event.ref is not None)
        events = [event for event in events if event.ref is None and not event.is_settled]
        for begin in range(0, len(events), self._limits.write_events):
            batch = events[begin : begin + self._limits.write_events]
            refs = journal.append([event.body for event in batch], taken=taken)
            settled = []
            with self._lock:
                for event, ref in zip(batch, refs, strict=False):
                    if event.is_settled:
                        settled.append(ref)
                    else:
                        event.ref = ref
            self._stats.add("journaled", len(refs))
            self._stats.add("in_journal", len(refs) - len(settled))
            for ref in settled:
                journal.settle(ref)
            self.is_full = len(refs) < len(batch)
            if self.is_full:
                why = f"the journal takes no events: {journal.problem}"
                self._log(logging.ERROR, "journal", why)
                return

    def _do_finish(self, job: _Job) -> None:
        for event in (*job.copies, *job.kept):
            event.is_given = False
            if event.written is not None:
                event.written.finish(is_written=event.ref is not None or event.is_settled)

    def _do_adopt(self, journal: Journal) -> None:
        """Look for files of dead processes, and read one of them: writes go on in between."""
        if not self._adopting:
            journal.adopt()
        found = journal.read_adopted()
        self._adopting = found is not None
        if found is None:
            self.has_adopted = True
            return
        if events := len(found.bodies):
            self._stats.add("recovered", events)
            self._stats.add("in_journal", events)
            why = f"{events} events of a file that an earlier process left are sent now"
            self._log(logging.WARNING, "recovered", why)
        self._stats.add("journal_truncated_files", found.torn)
        self._stats.add("journal_damaged", found.damaged)
        if found.damaged:
            why = f"the journal is damaged in {found.damaged} places: what can be read is sent, "
            why += f"the file is kept in {journal.folder} as *.damaged"
            self._log(logging.ERROR, "damaged", why)

    def _do_read(self, journal: Journal) -> None:
        taken = journal.take()
        self._ready.extend(EncodedEvent(body, ref) for ref, body in taken)
        if lost := journal.lost:
            journal.lost = 0
            self._stats.add("in_journal", -lost)
            self._stats.add("journal_damaged", lost)
            self._stats.settle("failed", lost)
            why = f"{lost} events cannot be read: {journal.problem}"
            self._log(logging.ERROR, "lost", why)
        elif not taken and journal.unsent:
            why = f"the journal cannot be read, for now: {journal.problem}"
            self._log(logging.ERROR, "unread", why)

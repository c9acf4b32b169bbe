"""Owns the loop of one worker process, and the order of its work.

    consume -> register the span -> decode, batch -> index, dead-letter -> settle -> commit

A record's span is registered before anything is done with the record. Its offset is committed
after it, and every record before it, is settled.
"""

from __future__ import annotations

import math
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog

from llmlog_common.errors import CircuitOpenError
from llmlog_consumer.offset_tracker import OffsetTracker
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.worker import measures
from llmlog_consumer.worker.clients import Clients
from llmlog_consumer.worker.end_of_task import EndOfTask
from llmlog_consumer.worker.flow_control import FlowControl
from llmlog_consumer.worker.gap_lookup import GapLookup
from llmlog_consumer.worker.limits import Limits, Timing
from llmlog_consumer.worker.newest_index import NewestIndex
from llmlog_consumer.worker.notes import Memory, StatusNotes, encode
from llmlog_consumer.worker.runs import split_by_partition, split_by_weight
from llmlog_consumer.worker.unsettled_alarm import UnsettledAlarm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka_record import ConsumedRecord
    from llmlog_consumer.offset_tracker import Span
    from llmlog_consumer.worker.runs import Run
    from llmlog_consumer.worker.task import Task

log = structlog.get_logger("llmlog.worker")


class Worker:
    """One member of the consumer group.

    The main thread owns every field. Rebalance callbacks run in it too, inside `consume`. The one
    exception is the last revoke: `close` runs it in a thread of the client, while the main thread
    waits, for a bounded time. `_leaving` is set before that, so that the callback drains nothing.

    Args:
        settings: as loaded.
        task: what to do.
        stopping: asked on every turn; True ends the loop with a drain.
        number: of the worker.
        process_unhealthy: says what is wrong with the process around it; empty for nothing.
        clients: create the clients.
        timing: intervals and deadlines.
        limits: counts and bytes.
        clock: monotonic seconds.
        wall_clock: epoch seconds; the timestamps of records are held against it.
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        stopping: Callable[[], bool],
        number: int = 0,
        *,
        process_unhealthy: Callable[[], str] = str,
        clients: Clients | None = None,
        timing: Timing | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        clients = clients or Clients()
        self._task = task
        self._stopping = stopping
        self._process_unhealthy = process_unhealthy
        self._timing = timing = timing or Timing()
        self._limits = limits = limits or Limits()
        self._clock = clock
        self._wall_clock = wall_clock
        self.counts: Counter[str] = Counter()
        self._tracker = OffsetTracker()
        self._flow = FlowControl(limits.in_flight_bytes, limits.partition_bytes)
        self._elastic = clients.elastic(settings)
        self._newest = NewestIndex(settings.index)
        self._delivery = clients.delivery(
            settings,
            self._elastic,
            task.dlq_partitions,
            self._settle,
            accepted=task.accepted,
            limits=limits.delivery,
        )
        self._consumer = clients.consumer(settings, self, number)
        self._notes = StatusNotes(f"{socket.gethostname()}/{number}", timing.note_seconds, clock)
        self._alarm = UnsettledAlarm(settings.topic, timing.unsettled_seconds)
        self._gaps = GapLookup(
            self._consumer,
            self._tracker,
            lambda: clients.accepted_gaps(settings),
            timing.gap_seconds,
        )
        self._end = (
            EndOfTask(task.until, clients.places(settings), self._tracker, timing.end_seconds)
            if task.until is not None
            else None
        )
        self._leaving = False  # set by the main thread; the thread of the last revoke reads it
        self._started = self._last_commit = self._last_settled = clock()
        self._settled_since_commit = 0

    # The order

    def run(self) -> None:
        """Work until told to stop, or until the end of the task is reached.

        Raises:
            CircuitOpenError: the circuit is open, and the task ends before it may close.
        """
        while not self._stopping() and not self._is_finished():
            stop_polling = self._flow.stop_polling
            records = (
                []
                if stop_polling
                else self._consumer.consume(self._poll_seconds(), self._delivery.room)
            )
            spans = list(self._register(records))
            if spans:
                self._delivery.set_newest(self._newest.name)
            for span, of_span in spans:
                self._delivery.accept(span, of_span)
            self._delivery.step(self._timing.step_seconds if stop_polling else 0.0)
            self._consumer.pause_only(self._partitions_to_pause())
            self._commit()
        circuit_open = self._delivery.circuit_open
        self._leave()
        if circuit_open and self._end is not None:
            raise CircuitOpenError(circuit_open)

    def _register(
        self, records: Sequence[ConsumedRecord]
    ) -> Iterable[tuple[Span, list[ConsumedRecord]]]:
        """Register a span for each run of records; leave out records seen before."""
        for partition, fetched in split_by_partition(records).items():
            # After a pause, records that are in flight already are fetched again.
            new = fetched
            if new[0].offset() < (expected := self._tracker.expected(partition)):
                new = [record for record in fetched if record.offset() >= expected]
            for run in split_by_weight(new) if new else ():
                if (span := self._register_run(partition, run)) is not None:
                    yield span, run.records

    def _register_run(self, partition: int, run: Run) -> Span | None:
        first, last = run.records[0], run.records[-1]
        span = self._tracker.register(
            partition,
            first.offset(),
            last.offset(),
            epoch=_leader_epoch(last),
            records=len(run.records),
            size=run.value_bytes,
            now=self._clock(),
            beside_bytes=run.beside_bytes,
        )
        if span is not None:
            span.written_ms = measures.read_timestamps(first, last)
            self.counts["consumed"] += len(run.records)
            self._newest.record(last.timestamp()[1], len(run.records))
            if run.is_heavy_beside:
                self._flow.forbid_braking(self._clock())
        return span

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        if self._tracker.settle(span, records, size):
            self.counts[outcome] += records
            self._settled_since_commit += records
            self._last_settled = self._clock()
            now_ms = self._wall_clock() * 1000
            measures.observe_outcome(self.counts, span, outcome, records, now_ms)
        else:
            self.counts["late"] += records

    def _commit(self) -> None:
        """Commit the watermarks, if it is time."""
        now = self._clock()
        is_early = now - self._last_commit < self._timing.commit_seconds
        if is_early and self._settled_since_commit < self._limits.commit_records:
            return
        self._last_commit, self._settled_since_commit = now, 0
        self._follow_positions()
        self._delivery.give_up_behind(
            {p: self._tracker.expected(p) for p in self._tracker.assigned}
        )
        unhealthy = self.unhealthy
        is_due = self._notes.is_due(now, unhealthy)
        commits = self._tracker.all_commits() if is_due else self._tracker.commits()
        # Each commit, because one without a note would erase the note before.
        self._consumer.commit(commits, self._write_notes(now, unhealthy))
        self._tracker.record_commits(commits)
        self._gaps.run(now)
        idle = (p for p in self._tracker.assigned if not self._tracker.in_flight_records(p))
        self._consumer.watch(self._tracker.assigned, {p: self._tracker.expected(p) for p in idle})
        self._alarm.check(self._tracker.oldest(), now, unhealthy)

    def _leave(self) -> None:
        """Stop intake, drain, commit and leave the group, within the task's deadline."""
        deadline = self._clock() + self._task.drain_seconds
        self._leaving = True
        self._consumer.pause_only(set(self._tracker.assigned))
        self._drain(deadline, self._tracker.assigned)
        self._follow_positions()
        # Every partition: the broker may have refused what was handed over a moment ago.
        commits = self._tracker.all_commits()
        notes = self._write_memory(self._tracker.assigned)
        if self._consumer.commit_within(commits, self._seconds_left(deadline), notes):
            self._tracker.record_commits(commits)
        self._consumer.close(self._seconds_left(deadline))
        for partition in self._tracker.assigned:
            self.counts["released"] += self._tracker.release(partition)
        self._delivery.close()
        self._elastic.close()

    def _drain(self, deadline: float, partitions: Sequence[int]) -> None:
        """Work until these partitions are settled, or the deadline is over.

        What waits for a paused index is left to the next owner, and so is what waits for its next
        attempt where the partition is revoked. It is consumed again; where it was indexed
        meanwhile, Elasticsearch says so.
        """
        self._delivery.flush()
        while self._is_under_way(partitions):
            if self._clock() >= deadline or self._delivery.is_stuck:
                log.warning(
                    "drain ended before everything was settled", unsettled=self._tracker.unsettled
                )
                return
            self._delivery.step(wait=self._timing.step_seconds)

    def _is_under_way(self, partitions: Sequence[int]) -> bool:
        """Tell whether a record of these partitions may settle without waiting."""
        if not any(self._tracker.in_flight_records(p) for p in partitions):
            return False
        waiting = self._delivery.waiting(for_time=not self._leaving)
        return any(self._tracker.in_flight_records(p) > waiting[p] for p in partitions)

    # Rebalances: `kafka.consumer.Listener`, called from within `consume` and `close`

    def on_assigned(self, offsets: Mapping[int, int], notes: Mapping[int, Memory]) -> Iterable[int]:
        """Begin generations; see `Listener`."""
        for partition, offset in offsets.items():
            # One that is assigned twice without a revoke between is a new generation all the same.
            self.counts["released"] += self._tracker.release(partition)
            self._tracker.assign(partition, offset)
            self._delivery.restore(partition, notes.get(partition, {}))
        log.info("assigned", partitions=sorted(offsets))
        # The call that runs this callback may return records, and was told no bound for them.
        is_bounded = self._delivery.room is not None
        return self._tracker.assigned if is_bounded else self._partitions_to_pause()

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Settle, commit and end generations within one deadline; see `Listener`."""
        if not self._leaving:  # else `_leave` has drained already, and waits for this thread
            deadline = self._clock() + self._timing.revoke_seconds
            self._drain(deadline, [p for p in partitions if p in self._tracker.assigned])
        self._follow_positions()
        commits = [c for c in self._tracker.all_commits() if c.partition in set(partitions)]
        # Not waited for: inside this callback the client lets no other thread commit. The commit
        # leaves before the partitions do, and where it fails the next owner starts earlier.
        self._consumer.commit(commits, self._write_memory(partitions))
        self.on_lost(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """End generations and commit nothing; see `Listener`."""
        for partition in partitions:
            self.counts["released"] += self._tracker.release(partition)
        self._delivery.drop_released()
        if not self._tracker.assigned:
            self._delivery.forget_circuit()  # the next owners read it in the notes
        log.info("released", partitions=sorted(partitions))

    def on_commit_failed(self, partitions: Sequence[int]) -> None:
        """Hand these to the broker again; see `Listener`."""
        self._tracker.commit_failed(partitions)

    # State

    @property
    def has_joined(self) -> bool:
        """Tell whether the group has given this worker an assignment, if an empty one."""
        return self._consumer.joined

    @property
    def fault(self) -> str:
        """Say what keeps records from being settled, or will if it lasts; empty for nothing."""
        return (
            self._consumer.unhealthy
            or self._delivery.unhealthy
            or self._elastic.silence
            or self._elastic.notice
            or self._process_unhealthy()
        )

    @property
    def unhealthy(self) -> str:
        """Say the same, and for a while why the last process of this worker ended."""
        return self.fault or self._restarted

    @property
    def _restarted(self) -> str:
        """Say for a while why the last process of this worker ended: `status` has to name it."""
        seconds = self._clock() - self._started
        if not self._task.last_end or seconds >= self._timing.restarted_seconds:
            return ""
        return f"started again {seconds:.0f} s ago; before that: {self._task.last_end}"

    def report(self) -> dict[str, Any]:
        """Return the counts, the records in flight, the fault if there is one, and the gauges."""
        now = self._clock()
        return {
            **self.counts,
            **self._delivery.counts,
            **measures.read_state(self._delivery, self._tracker, self._consumer, now),
            "in_flight": self._tracker.unsettled,
            "unhealthy": self.unhealthy,
            "fault": self.fault,
            "dead_letters": self._delivery.dead_letters,
            "idle_seconds": now - self._last_settled,
        }

    def _is_finished(self) -> bool:
        """Tell whether the whole group has committed every record of the task."""
        if self._end is None:
            return False
        if self._tracker.unsettled or not self._consumer.joined:
            return bool(self._delivery.circuit_open) and not self._delivery.is_probing
        if not self._end.is_due(self._clock()):
            return False
        self._follow_positions()
        if not self._end.is_settled():
            return False
        self._last_commit = -math.inf  # the broker is asked for what it has: it gets all before
        self._commit()
        return self._end.is_committed()

    def _partitions_to_pause(self) -> set[int]:
        # What waits for a paused index has a bound of its own: it does not stop the others.
        waiting = self._delivery.waiting_bytes()
        in_flight = {
            p: self._tracker.in_flight(p) - waiting.get(p, 0) for p in self._tracker.assigned
        }
        draining = self._leaving or self._delivery.is_blocked
        paused = self._flow.decide(
            in_flight, self._clock(), draining=draining, letter_bytes=self._delivery.letter_bytes
        )
        return paused | (self._delivery.full_partitions & set(in_flight))

    def _poll_seconds(self) -> float:
        is_busy = self._tracker.unsettled
        return self._timing.busy_poll_seconds if is_busy else self._timing.idle_poll_seconds

    def _seconds_left(self, deadline: float) -> float:
        return max(deadline - self._clock(), self._timing.leave_seconds)

    def _follow_positions(self) -> None:
        """Move the watermark of idle partitions over offsets that hold no record."""
        idle = [p for p in self._tracker.assigned if not self._tracker.in_flight_records(p)]
        if idle:
            for partition, position in self._consumer.positions(idle).items():
                self._tracker.advance(partition, position)

    def _write_notes(self, now: float, unhealthy: str) -> dict[int, str]:
        settled = sum(self.counts[outcome] for outcome in Outcome)
        in_flight = {p: self._tracker.in_flight_records(p) for p in self._tracker.assigned}
        memory = {p: self._delivery.memory(p) for p in self._tracker.assigned}
        return self._notes.write(now, settled, in_flight, unhealthy, memory)

    def _write_memory(self, partitions: Iterable[int]) -> dict[int, str]:
        """Return the notes of partitions that this worker gives away."""
        return {p: encode({}, self._delivery.memory(p)) for p in partitions}


def _leader_epoch(record: ConsumedRecord) -> int:
    epoch = record.leader_epoch()
    return -1 if epoch is None else int(epoch)

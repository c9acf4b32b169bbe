"""The loop of one worker process, and the one owner of its order.

    consume -> register the span -> decode, batch -> index, dead-letter -> settle -> commit

A record's span is registered before anything is done with it; its offset is committed after
it, and everything before it, is settled.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from confluent_kafka import KafkaException

from llmlog_common.errors import CircuitOpenError, PipelineError, Unreachable
from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.consumer import GroupConsumer
from llmlog_consumer.kafka.gaps import AcceptedGaps
from llmlog_consumer.offset_tracker import OffsetTracker
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.worker.flow_control import FlowControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.worker")

COMMIT_SECONDS: Final = 1.0
COMMIT_RECORDS: Final = 10_000
NOTE_SECONDS: Final = 3.0
"""How often every partition is committed with a note on its worker's state."""
GAP_SECONDS: Final = 5.0
"""How often a partition that stands still is looked up among the accepted gaps."""
BLOCKED_SECONDS: Final = 60.0
REVOKE_SECONDS: Final = 15.0
"""Shared by all revoked partitions: to finish open bulks, letters and the commit."""

_POLL: Final = 0.1
_BUSY_POLL: Final = 0.005
_BRAKED_WAIT: Final = 0.02


@dataclass(frozen=True)
class Task:
    """What a worker is to do beyond its settings.

    Attributes:
        dlq_partitions: of the dead-letter topic.
        until: next offsets after the last record to settle, by partition; None to go on.
        accepted: fingerprints that the circuit_open breaker lets through as letters.
        drain_seconds: for the drain at the end.
    """

    dlq_partitions: int
    until: Mapping[int, int] | None = None
    accepted: frozenset[str] = frozenset()
    drain_seconds: float = 20.0


class Worker:
    """One group member.

    Args:
        settings: as loaded.
        task: what to do.
        stopping: asked on every turn; True ends the loop with a drain.
        number: of the worker.
    """

    def __init__(
        self, settings: Settings, task: Task, stopping: Callable[[], bool], number: int = 0
    ) -> None:
        self._settings = settings
        self._task = task
        self._name = f"{socket.gethostname()}/{number}"
        self._stopping = stopping
        self.counts: Counter[str] = Counter()
        self._tracker = OffsetTracker()
        self._elastic = Elastic(settings)
        self._delivery = Delivery.from_settings(
            settings, self._elastic, task.dlq_partitions, self._settle, task.accepted
        )
        self._source = GroupConsumer(settings, self, number)
        self._intake = FlowControl()
        self._ending = False
        self._last_commit = time.monotonic()
        self._settled_since = 0
        self._next_look = 0.0
        self._next_note = 0.0
        self._next_gap = 0.0
        self._next_alarm = 0.0
        self._noted = (time.monotonic(), 0)

    # The order

    def run(self) -> None:
        """Work until told to stop, or until everything that was to be settled is.

        Raises:
            CircuitOpenError: the breaker is open, and nobody waits for it to close.
        """
        while not self._stopping() and not self._finished():
            stop_polling = self._intake.stop_polling
            records = () if stop_polling else self._source.consume(self._patience())
            for span, of_span in self._register(records):
                self._delivery.accept(span, of_span)
            self._delivery.step(_BRAKED_WAIT if stop_polling else 0.0)
            self._source.pause_only(self._gate())
            self._commit()
        circuit_open = self._delivery.circuit_open
        self._end()
        if circuit_open and self._task.until is not None:
            raise CircuitOpenError(circuit_open)

    def _register(self, records: Sequence[Any]) -> Iterable[tuple[Span, list[Any]]]:
        by_partition: dict[int, list[Any]] = {}
        for record in records:
            by_partition.setdefault(record.partition(), []).append(record)
        for partition, whole in by_partition.items():
            # What was fetched again after a pause is in flight already.
            run = whole
            if run[0].offset() < (expected := self._tracker.expected(partition)):
                run = [record for record in whole if record.offset() >= expected]
            if not run:
                continue
            size = sum(map(_size, run))
            span = self._tracker.register(
                partition,
                run[0].offset(),
                run[-1].offset(),
                epoch=_epoch(run[-1]),
                records=len(run),
                size=size,
                now=time.monotonic(),
            )
            if span is not None:
                self.counts["consumed"] += len(run)
                yield span, run

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        if self._tracker.settle(span, records, size):
            self.counts[outcome] += records
            self._settled_since += records
        else:
            self.counts["late"] += records

    def _commit(self) -> None:
        now = time.monotonic()
        if now - self._last_commit < COMMIT_SECONDS and self._settled_since < COMMIT_RECORDS:
            return
        self._last_commit, self._settled_since = now, 0
        self._follow_positions()
        noting = now >= self._next_note
        commits = self._tracker.all_commits() if noting else self._tracker.commits()
        self._source.commit(commits, self._notes(now) if noting else None)
        self._tracker.committed(commits)
        self._look_for_gaps(now)
        self._alarm(now)

    def _end(self) -> None:
        """Stop intake, drain, commit, leave; within the task's deadline."""
        deadline = time.monotonic() + self._task.drain_seconds
        self._ending = True
        self._source.pause_only(set(self._tracker.assigned))
        self._drain(deadline, self._tracker.assigned)
        self._follow_positions()
        # All of them: what was handed over a moment ago may have been refused since.
        commits = self._tracker.all_commits()
        left = max(deadline - time.monotonic(), 2.0)
        if self._source.commit_within(commits, left):
            self._tracker.committed(commits)
        self._source.close(max(deadline - time.monotonic(), 2.0))
        for partition in self._tracker.assigned:
            self.counts["released"] += self._tracker.release(partition)
        self._delivery.close()
        self._elastic.close()

    def _drain(self, deadline: float, partitions: Sequence[int]) -> None:
        """Hurry until these partitions are settled or time is up."""
        self._delivery.flush()
        while any(self._tracker.in_flight_records(p) for p in partitions):
            if time.monotonic() >= deadline or self._delivery.stuck:
                log.warning("drain ended unfinished", unsettled=self._tracker.unsettled)
                return
            self._delivery.step(wait=0.02)

    # Rebalances, called by the source from within `consume`

    def on_assigned(self, offsets: Mapping[int, int]) -> Iterable[int]:
        """Begin generations; see `source.Listener`."""
        for partition, offset in offsets.items():
            self._tracker.assign(partition, offset)
        log.info("assigned", partitions=sorted(offsets))
        return self._gate()

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Settle, commit and end generations within one deadline; see `source.Listener`."""
        if not self._ending:  # else that is done, as far as it can be, and nobody waits for more
            deadline = time.monotonic() + REVOKE_SECONDS
            self._drain(deadline, [p for p in partitions if p in self._tracker.assigned])
        self._follow_positions()
        commits = [c for c in self._tracker.all_commits() if c.partition in set(partitions)]
        # Not waited for: inside this callback the client lets no other thread commit. The commit
        # leaves before the partitions do, and where it fails the next owner starts earlier.
        self._source.commit(commits)
        self.on_lost(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """End generations, commit nothing; see `source.Listener`."""
        for partition in partitions:
            self.counts["released"] += self._tracker.release(partition)
        log.info("released", partitions=sorted(partitions))

    def on_commit_failed(self, partitions: Sequence[int]) -> None:
        """Hand these to the broker again; see `source.Listener`."""
        self._tracker.commit_failed(partitions)

    # State

    @property
    def unhealthy(self) -> str:
        """Say what keeps records from being settled; empty while all is well."""
        if self._source.out_of_range:
            numbers = ", ".join(map(str, sorted(self._source.out_of_range)))
            return (
                f"the log has not what partition {numbers} was to read next: "
                "see `pipeline offsets show`"
            )
        return self._source.refusal or self._delivery.unhealthy

    def report(self) -> dict[str, Any]:
        """Return the counts, what is in flight, and what is wrong."""
        return {
            **self.counts,
            **self._delivery.counts,
            "in_flight": self._tracker.unsettled,
            "unhealthy": self.unhealthy,
            "deaths": self._delivery.deaths,
        }

    def _gate(self) -> set[int]:
        """Return the partitions to pause."""
        in_flight = {p: self._tracker.in_flight(p) for p in self._tracker.assigned}
        draining = self._ending or self._delivery.closed
        return self._intake.decide(in_flight, time.monotonic(), draining=draining)

    def _patience(self) -> float:
        return _BUSY_POLL if self._tracker.unsettled else _POLL

    def _follow_positions(self) -> None:
        idle = [p for p in self._tracker.assigned if not self._tracker.in_flight_records(p)]
        if idle:
            for partition, position in self._source.positions(idle).items():
                self._tracker.advance(partition, position)

    def _notes(self, now: float) -> dict[int, str]:
        """Return what `pipeline status` reads beside each partition's offset."""
        since, before = self._noted
        done = sum(self.counts[outcome] for outcome in Outcome)
        self._noted, self._next_note = (now, done), now + NOTE_SECONDS
        note: dict[str, Any] = {
            "at": int(time.time() * 1000),
            "worker": self._name,
            "rate": round((done - before) / max(now - since, 0.001), 1),
        }
        if why := self.unhealthy:
            note["unhealthy"] = why[:400]
        return {
            p: orjson.dumps(note | {"in_flight": self._tracker.in_flight_records(p)}).decode()
            for p in self._tracker.assigned
        }

    def _look_for_gaps(self, now: float) -> None:
        """Move on over what somebody accepted as gone."""
        if not self._source.out_of_range or now < self._next_gap:
            return
        self._next_gap = now + GAP_SECONDS
        try:
            gaps = AcceptedGaps(KafkaAdmin(self._settings)).of_topic(self._settings.topic)
        except (PipelineError, Unreachable) as error:
            log.warning("cannot look for accepted gaps", why=str(error))
            return
        for partition in list(self._source.out_of_range):
            expected = self._tracker.expected(partition)
            accepted = [gap for gap in gaps.get(partition, ()) if gap.first == expected]
            if accepted and not self._tracker.in_flight_records(partition):
                log.warning("gap accepted, moving on", partition=partition,
                            was=expected, now=accepted[-1].next)  # fmt: skip
                self._tracker.skip_gap(partition, accepted[-1].next)
                self._source.skip_gap(partition, accepted[-1].next)

    def _alarm(self, now: float) -> None:
        """Name the record that has held its partition up for too long."""
        oldest = self._tracker.oldest()
        if oldest is None or now - oldest.since < BLOCKED_SECONDS or now < self._next_alarm:
            return
        self._next_alarm = now + BLOCKED_SECONDS
        log.warning(
            "unsettled for long",
            record=f"{self._settings.topic}/{oldest.partition}/{oldest.first}",
            seconds=round(now - oldest.since),
            why=self.unhealthy or "Elasticsearch or the dead-letter topic takes nothing",
        )

    def _finished(self) -> bool:
        """Tell whether the whole group has committed everything it was to settle."""
        until = self._task.until
        if until is None:
            return False
        if self._tracker.unsettled or not self._source.joined:
            return bool(self._delivery.circuit_open)
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + 0.5
        mine = set(self._tracker.assigned)
        self._follow_positions()
        if any(self._tracker.watermark(p) < end for p, end in until.items() if p in mine):
            return False
        others = {p: end for p, end in until.items() if p not in mine}
        try:
            committed = self._source.committed(others, timeout=5.0) if others else {}
        except KafkaException:
            return False
        return all(committed.get(p, -1) >= end for p, end in others.items())


def _size(record: Any) -> int:
    return len(record)


def _epoch(record: Any) -> int:
    epoch = record.leader_epoch()
    return -1 if epoch is None else int(epoch)

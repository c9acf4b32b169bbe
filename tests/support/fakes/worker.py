"""Fakes around the worker: a delivery and a member of the consumer group."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

from llmlog_common.settings import load
from llmlog_consumer.kafka.places import Log, Place
from llmlog_consumer.kafka.watch.standstill import Standstills
from llmlog_consumer.offset_tracker import Commit, Span
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.worker.clients import Clients
from llmlog_consumer.worker.limits import Limits, Timing
from llmlog_consumer.worker.task import Task
from llmlog_consumer.worker.worker import Worker
from support.fakes.delivery import FakeClock, FakeRecord


class FakeDelivery:
    """A delivery that settles what it has when `step` is called, once `settles` is set.

    Args:
        settle: called with the outcomes.
        clock: moved on by the waits of `step`.
    """

    unhealthy = circuit_open = ""
    is_blocked = is_stuck = is_probing = False
    letter_bytes = 0
    room: int | None = None
    full_partitions: frozenset[int] = frozenset()
    gauges: Mapping[str, float] = MappingProxyType({})
    paused_scopes: Mapping[str, int] = MappingProxyType({})

    def __init__(self, settle: Any, clock: FakeClock) -> None:
        self._settle = settle
        self._clock = clock
        self.settles = False
        self.counts: Counter[str] = Counter()
        self.dead_letters: Counter[Any] = Counter()
        self.accepted: list[tuple[Span, list[Any]]] = []
        self.flushed = 0
        self.closed = False
        self.forgotten = self.dropped = 0
        self.memories: dict[int, dict[str, Any]] = {}
        self.restored: dict[int, Mapping[str, Any]] = {}
        self.newest = ""
        self.held: Counter[int] = Counter()
        self.held_bytes: Counter[int] = Counter()
        self.waiting_for_time: Counter[int] = Counter()
        self.next_offsets: dict[int, int] = {}
        self.stepped_by: set[threading.Thread] = set()

    def accept(self, span: Span, records: Iterable[Any]) -> None:
        self.accepted.append((span, list(records)))

    def step(self, wait: float = 0.0) -> None:
        self.stepped_by.add(threading.current_thread())
        self._clock.now += wait
        if self.settles:
            self.settle_all()

    def settle_all(self, outcome: Outcome = Outcome.INDEXED) -> None:
        """Settle every accepted record."""
        accepted, self.accepted = self.accepted, []
        for span, records in accepted:
            self._settle(span, outcome, len(records), sum(map(len, records)))

    def flush(self) -> None:
        self.flushed += 1

    def memory(self, partition: int) -> dict[str, Any]:
        return self.memories.get(partition, {})

    def forget_circuit(self) -> None:
        self.forgotten += 1

    def drop_released(self) -> None:
        self.dropped += 1

    def restore(self, partition: int, note: Mapping[str, Any]) -> None:
        self.restored[partition] = note

    def set_newest(self, index: str) -> None:
        self.newest = index

    def waiting(self, *, for_time: bool) -> Counter[int]:
        return self.held + self.waiting_for_time if for_time else self.held

    def waiting_bytes(self) -> Counter[int]:
        return self.held_bytes

    def give_up_behind(self, next_offsets: Mapping[int, int]) -> None:
        self.next_offsets = dict(next_offsets)

    def close(self) -> None:
        self.closed = True


class FakeConsumer:
    """A group member whose partitions and records a test sets.

    `close` revokes from a thread of its own, as librdkafka does.

    Args:
        listener: the worker.
    """

    unhealthy = ""
    committed_at = 0.0

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self.joined = True
        self.standstills = Standstills("t")
        self.chunks: list[list[FakeRecord]] = []
        self.assign: dict[int, int] = {}
        self.assigned_notes: dict[int, Mapping[str, Any]] = {}
        self.group_offsets: dict[int, int] = {}
        self.refuses_commits = False
        self.next_offsets: dict[int, int] = {}
        self.paused: set[int] = set()
        self.commits: list[dict[int, int]] = []
        self.notes: list[Mapping[int, str]] = []
        self.skipped: list[tuple[int, int]] = []
        self.asked_for: list[int | None] = []
        self.read_from: list[tuple[int, int]] = []
        self.watched: dict[int, int] = {}
        self.closed = False

    def consume(self, timeout: float, at_most: int | None = None) -> list[FakeRecord]:
        self.asked_for.append(at_most)
        if self.assign:
            assign, self.assign = self.assign, {}
            self._listener.on_assigned(assign, self.assigned_notes)
        return self.chunks.pop(0) if self.chunks else []

    def pause_only(self, paused: set[int]) -> None:
        self.paused = set(paused)

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        return {p: self.next_offsets[p] for p in partitions if p in self.next_offsets}

    def skip_gap(self, partition: int, offset: int) -> None:
        self.standstills.forget([partition])
        self.skipped.append((partition, offset))

    def read_again(self, partition: int, offset: int) -> None:
        self.standstills.probe(partition)
        self.read_from.append((partition, offset))

    def watch(self, assigned: Iterable[int], expected: Mapping[int, int]) -> None:
        self.watched = dict(expected)

    def commit(self, commits: Sequence[Commit], notes: Mapping[int, str] | None = None) -> None:
        self.commits.append({commit.partition: commit.offset for commit in commits})
        if not self.refuses_commits:
            self.group_offsets |= self.commits[-1]
        if notes is not None:
            self.notes.append(notes)

    def commit_within(
        self, commits: Sequence[Commit], timeout: float, notes: Mapping[int, str] | None = None
    ) -> bool:
        self.commit(commits, notes)
        return True

    def close(self, timeout: float) -> None:
        thread = threading.Thread(target=self._listener.on_revoked, args=([0],), daemon=True)
        thread.start()
        thread.join(timeout)
        self.closed = not thread.is_alive()


class WorkerRig:
    """A worker with fakes around it, whose loop a test turns by `run`.

    Args:
        task: of the worker.
        timing: of the worker; by default no wait is longer than a turn.
        turn_seconds: what passes on each turn of the loop.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        timing: Timing | None = None,
        limits: Limits | None = None,
        turn_seconds: float = 0.5,
    ) -> None:
        self.clock = FakeClock()
        self.wall_clock = FakeClock(1_800_000_000.0)
        self.gaps: dict[int, list[Any]] = {}
        self.find_gaps: Callable[[], Mapping[int, list[Any]]] = lambda: self.gaps
        self.process_unhealthy = ""
        self.elastic = SimpleNamespace(silence="", notice="", close=lambda: None)
        self.delivery: Any = None
        self.consumer: Any = None
        self.logs: dict[int, Log | None] = {}
        self.find_places: Callable[[Iterable[int]], Mapping[int, Place]] = self._places
        self.on_turn: Callable[[int], None] = lambda _: None
        self._turns = self._max_turns = 0
        self._turn_seconds = turn_seconds

        def new_delivery(_settings: Any, _elastic: Any, _dlq: int, settle: Any, **_: Any) -> Any:
            self.delivery = FakeDelivery(settle, self.clock)
            return self.delivery

        def new_consumer(_settings: Any, listener: Any, _number: int) -> Any:
            self.consumer = FakeConsumer(listener)
            return self.consumer

        self.worker = Worker(
            load(environ={}),
            task or Task(1),
            self._stopping,
            clients=Clients(
                elastic=lambda _: self.elastic,  # type: ignore[arg-type,return-value]
                delivery=new_delivery,
                consumer=new_consumer,
                accepted_gaps=lambda _: self.find_gaps(),
                places=lambda _: self._find_places,
            ),
            process_unhealthy=lambda: self.process_unhealthy,
            timing=timing,
            limits=limits,
            clock=self.clock,
            wall_clock=self.wall_clock,
        )

    def _find_places(self, partitions: Iterable[int]) -> Mapping[int, Place]:
        return self.find_places(partitions)

    def _places(self, partitions: Iterable[int]) -> dict[int, Place]:
        committed, long = self.consumer.group_offsets, Log(0, 1000, 1000)
        return {p: Place("t", p, committed.get(p), self.logs.get(p, long)) for p in partitions}

    def run(self, turns: int, on_turn: Callable[[int], None] = lambda _: None) -> int:
        """Run the worker's loop so many turns at most, then let it leave; return the turns.

        Args:
            turns: at most.
            on_turn: called before each turn with its number (0, 1, …), and before it leaves.
        """
        self._turns, self._max_turns, self.on_turn = 0, turns, on_turn
        self.worker.run()
        return self._turns

    def _stopping(self) -> bool:
        self.clock.now += self._turn_seconds
        self.on_turn(self._turns)
        if self._turns >= self._max_turns:
            return True
        self._turns += 1
        return False

"""Fakes around the delivery and the worker: a clock, records, letters, requests, a group member.

Nothing here sleeps, starts a thread or opens a connection, unless its docstring says so.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from llmlog_common.settings import load
from llmlog_consumer.delivery.bulk_sender import ConcurrencyLimit
from llmlog_consumer.delivery.circuit_breaker import CircuitBreaker
from llmlog_consumer.delivery.pipeline import Delivery, DeliveryLimits
from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    judge_item,
    judge_request,
)
from llmlog_consumer.offset_tracker import Commit, Span
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.worker.limits import Limits, Timing
from llmlog_consumer.worker.worker import Clients, Task, Worker
from llmlog_schemas.codec import Decoder

Answer = tuple[int, Any]
"""A status and an error object."""


class FakeClock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeRecord:
    """A Kafka record of the topic `t`."""

    def __init__(self, offset: int, value: bytes | None = b"", partition: int = 0) -> None:
        self._offset, self._value, self._partition = offset, value, partition

    def __len__(self) -> int:
        return len(self._value or b"")

    def value(self) -> bytes | None:
        return self._value

    def offset(self) -> int:
        return self._offset

    def partition(self) -> int:
        return self._partition

    def topic(self) -> str:
        return "t"

    def leader_epoch(self) -> int | None:
        return None


class FakeLetters:
    """A writer of dead letters that delivers at the next poll, unless `deliver` is False."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.open: list[Any] = []
        self.refusal = ""
        self.deliver = True

    @property
    def pending(self) -> int:
        return len(self.open)

    def write(self, letter: Any) -> None:
        self.letters.append(letter)
        self.open.append(letter)

    def poll(self) -> None:
        if self.deliver:
            delivered, self.open = self.open, []
            for letter in delivered:
                letter.on_delivered()


class FakeElasticsearch:
    """A bulk client that answers from a script.

    Args:
        script: the answers to the attempts of one document, by offset; the last one stays.
        whole: the answers to the first requests as a whole; None for one that is answered item by
            item. Status 200 is an answer without all its items, 0 a connection that was cut off.

    Attributes:
        whole_by_offsets: the answer to each later request as a whole, from the offsets in it.
        retry_after: seconds that each answer asks for.
        failure_store: items of each answer that went to the failure store.
    """

    def __init__(
        self, script: Callable[[int], list[Answer]], whole: Iterable[Answer | None] = ()
    ) -> None:
        self._script = script
        self._whole = list(whole)
        self.whole_by_offsets: Callable[[list[int]], Answer | None] = lambda _: None
        self.retry_after = 0.0
        self.failure_store = 0
        self.requests: list[list[int]] = []
        self.request_bytes: list[int] = []
        self.forgotten: list[str] = []
        self.stored: Counter[int] = Counter()

    def send(self, batch: Any) -> BulkResponse:
        self.requests.append([op.record.offset() for op in batch.operations])
        self.request_bytes.append(len(batch.body()))
        answer = self._whole.pop(0) if self._whole else self.whole_by_offsets(self.requests[-1])
        if answer is not None:
            status, error = answer
            if status == 200:
                return BulkResponse(batch, verdict=BROKEN_ANSWER, detail="cut short")
            if status == 0:
                return BulkResponse(batch, verdict=CUT_OFF, detail="closed")
            return BulkResponse(
                batch,
                verdict=judge_request(status, error),
                status=status,
                detail=f"{status} {error.get('reason', '')}",
                retry_after=self.retry_after,
            )
        response = BulkResponse(batch, status=200, failure_store=self.failure_store)
        for op in batch.operations:
            answers = self._script(op.record.offset())
            status, error = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 201:
                self.stored[op.record.offset()] += 1
            response.items.append(ItemResult(op, judge_item(status, error), status, error))
        if all(item.status == 201 for item in response.items) and not self.failure_store:
            return BulkResponse(batch, all_created=True, status=200)
        return response

    def forget(self, index: str) -> None:
        self.forgotten.append(index)


def always(*answers: Answer) -> Callable[[int], list[Answer]]:
    """Return a script that answers every document alike."""
    scripts: dict[int, list[Answer]] = {}
    return lambda offset: scripts.setdefault(offset, list(answers))


class ManualExecutor(Executor):
    """An executor whose requests are under way until a test finishes them."""

    def __init__(self) -> None:
        self._open: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.closed = False

    @property
    def under_way(self) -> int:
        return len(self._open)

    def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._open.append((future, function, arguments))
        return future

    def finish(self, number: int | None = None, pick: Callable[[int], int] = lambda _: 0) -> None:
        """Finish so many requests, in the order that `pick` chooses; None for all of them."""
        for _ in range(len(self._open) if number is None else min(number, len(self._open))):
            future, function, arguments = self._open.pop(pick(len(self._open)))
            future.set_result(function(*arguments))

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.closed = True


class ExpiringDocuments(Documents):
    """Documents of which every one is expired once `expired` is set."""

    expired = False

    def make(self, event: Any, now_ms: float) -> tuple[str, str, bytes]:
        if self.expired:
            raise ExpiredError
        return super().make(event, now_ms)


class DeliveryRig:
    """A delivery with fakes around it, and one span of all its values.

    Args:
        script: see `FakeElasticsearch`.
        values: of the records; the offset is the place in the list.
        whole: see `FakeElasticsearch`.
        decoder: values to events.
        limits: of the delivery.
        pick: chooses the request that is finished next, of so many.
    """

    def __init__(
        self,
        script: Callable[[int], list[Answer]],
        values: Sequence[bytes | None],
        whole: Iterable[Answer | None] = (),
        *,
        decoder: Any = None,
        limits: DeliveryLimits | None = None,
        pick: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self.clock = FakeClock()
        self.executor = ManualExecutor()
        self.letters = FakeLetters()
        self.elasticsearch = FakeElasticsearch(script, whole)
        self.breaker: CircuitBreaker[Any] = CircuitBreaker()
        self.concurrency = ConcurrencyLimit()
        self.documents = ExpiringDocuments("logs", timedelta(days=400))
        self.counts: Counter[Outcome] = Counter()
        self.bytes = 0
        self.values = values
        self.span = Span(0, 1, 0, len(values) - 1, 0, len(values), 0.0)
        self._pick = pick
        self.delivery = Delivery(
            decoder=decoder or Decoder(),
            documents=self.documents,
            client=self.elasticsearch,  # type: ignore[arg-type]
            letters=self.letters,  # type: ignore[arg-type]
            settle=self._settle,
            breaker=self.breaker,
            limits=limits,
            concurrency=self.concurrency,
            executor=self.executor,
            clock=self.clock,
        )

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        assert span is self.span
        self.counts[outcome] += records
        self.bytes += size

    def accept_all(self, step: int = 0) -> None:
        """Bring every record, `step` of them at a time."""
        records = [FakeRecord(offset, value) for offset, value in enumerate(self.values)]
        for start in range(0, len(records), step or len(records)):
            self.delivery.accept(self.span, records[start : start + (step or len(records))])  # type: ignore[arg-type]

    def turn(self, seconds: float = 400.0) -> None:
        """Let time pass, finish the requests under way, and step."""
        self.clock.now += seconds
        self.executor.finish(pick=self._pick)
        self.delivery.step()

    def until(self, condition: Callable[[], Any], max_turns: int = 3000) -> None:
        """Turn until the condition holds."""
        for _ in range(max_turns):
            if condition():
                return
            self.turn()
        raise AssertionError(f"never: {self.counts}")

    def until_settled(self) -> None:
        """Turn until every record has an outcome; check that each has one and no more."""
        self.until(lambda: sum(self.counts.values()) >= len(self.values))
        for _ in range(3):
            self.turn()
        assert sum(self.counts.values()) == len(self.values)
        assert self.bytes == sum(len(value or b"") for value in self.values)
        self.delivery.close()


class FakeDelivery:
    """A delivery that settles what it has when `step` is called, once `settles` is set.

    Args:
        settle: called with the outcomes.
        clock: moved on by the waits of `step`.
    """

    unhealthy = circuit_open = ""
    is_blocked = is_stuck = False

    def __init__(self, settle: Any, clock: FakeClock) -> None:
        self._settle = settle
        self._clock = clock
        self.settles = False
        self.counts: Counter[str] = Counter()
        self.dead_letters: Counter[Any] = Counter()
        self.accepted: list[tuple[Span, list[Any]]] = []
        self.flushed = 0
        self.closed = False
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

    def close(self) -> None:
        self.closed = True


class FakeConsumer:
    """A group member whose partitions and records a test sets.

    `close` revokes from a thread of its own, as librdkafka does.

    Args:
        listener: the worker.
    """

    refusal = ""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self.joined = True
        self.out_of_range: set[int] = set()
        self.chunks: list[list[FakeRecord]] = []
        self.assign: dict[int, int] = {}
        self.group_offsets: dict[int, int] = {}
        self.next_offsets: dict[int, int] = {}
        self.paused: set[int] = set()
        self.commits: list[dict[int, int]] = []
        self.notes: list[Mapping[int, str]] = []
        self.skipped: list[tuple[int, int]] = []
        self.closed = False

    def consume(self, timeout: float) -> list[FakeRecord]:
        if self.assign:
            assign, self.assign = self.assign, {}
            self._listener.on_assigned(assign)
        return self.chunks.pop(0) if self.chunks else []

    def pause_only(self, paused: set[int]) -> None:
        self.paused = set(paused)

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        return {p: self.next_offsets[p] for p in partitions if p in self.next_offsets}

    def committed(self, partitions: Iterable[int], timeout: float) -> dict[int, int]:
        return {p: self.group_offsets[p] for p in partitions if p in self.group_offsets}

    def skip_gap(self, partition: int, offset: int) -> None:
        self.out_of_range.discard(partition)
        self.skipped.append((partition, offset))

    def commit(self, commits: Sequence[Commit], notes: Mapping[int, str] | None = None) -> None:
        self.commits.append({commit.partition: commit.offset for commit in commits})
        if notes is not None:
            self.notes.append(notes)

    def commit_within(self, commits: Sequence[Commit], timeout: float) -> bool:
        self.commit(commits)
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
        self.gaps: dict[int, list[Any]] = {}
        self.find_gaps: Callable[[], Mapping[int, list[Any]]] = lambda: self.gaps
        self.delivery: Any = None
        self.consumer: Any = None
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
                elastic=lambda _: SimpleNamespace(close=lambda: None),  # type: ignore[arg-type,return-value]
                delivery=new_delivery,
                consumer=new_consumer,
                accepted_gaps=lambda _: self.find_gaps(),
            ),
            timing=timing,
            limits=limits,
            clock=self.clock,
        )

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

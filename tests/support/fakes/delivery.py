"""Fakes around the delivery: a clock, records, letters, requests.

Nothing here sleeps, starts a thread or opens a connection, unless its docstring says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from datetime import timedelta
from typing import Any

from llmlog_consumer.delivery.bulk_sender import BulkSender, ConcurrencyLimit
from llmlog_consumer.delivery.circuit_breaker import CircuitBreaker
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.delivery.pauses.schema_scopes import SchemaScopes
from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.delivery.rejects import Rejects
from llmlog_consumer.delivery.results import BulkResults
from llmlog_consumer.elasticsearch.batch import Batch, BatchBuilder
from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    judge_item,
    judge_request,
)
from llmlog_consumer.offset_tracker import Span
from llmlog_consumer.outcomes import Outcome
from llmlog_schemas.codec import Decoder, UnknownSchemaError

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

    def __init__(
        self,
        offset: int,
        value: bytes | None = b"",
        partition: int = 0,
        *,
        written_ms: int = 0,
        key: bytes | None = None,
        headers: list[tuple[str, Any]] | None = None,
    ) -> None:
        self._offset, self._value, self._partition = offset, value, partition
        self.timestamp_ms, self._key, self._headers = written_ms, key, headers

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

    def timestamp(self) -> tuple[int, int]:
        return 1, self.timestamp_ms

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, Any]] | None:
        return self._headers


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
        script: as given.
        whole_by_offsets: the answer to each later request as a whole, from the offsets in it.
        retry_after: seconds that each answer asks for.
        failure_store: items of each answer that went to the failure store.
        requests: the offsets in each request, in their order.
        answered: the status of the answer to each of them.
    """

    def __init__(
        self, script: Callable[[int], list[Answer]], whole: Iterable[Answer | None] = ()
    ) -> None:
        self.script = script
        self._whole = list(whole)
        self.whole_by_offsets: Callable[[list[int]], Answer | None] = lambda _: None
        self.retry_after = 0.0
        self.failure_store = 0
        self.newest = ""
        self.requests: list[list[int]] = []
        self.answered: list[int] = []
        self.request_bytes: list[int] = []
        self.forgotten: list[str] = []
        self.stored: Counter[int] = Counter()

    def send(self, batch: Any) -> BulkResponse:
        self.requests.append([op.record.offset() for op in batch.operations])
        self.request_bytes.append(len(batch.body()))
        answer = self._whole.pop(0) if self._whole else self.whole_by_offsets(self.requests[-1])
        if answer is not None:
            status, error = answer
            self.answered.append(status)
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
        self.answered.append(200)
        response = BulkResponse(batch, status=200, failure_store=self.failure_store)
        for op in batch.operations:
            answers = self.script(op.record.offset())
            status, error = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 201 and self.stored[op.record.offset()]:
                status, error = 409, {"type": "version_conflict_engine_exception", "reason": "x"}
            if status == 201:
                self.stored[op.record.offset()] += 1
            response.items.append(ItemResult(op, judge_item(status, error), status, error))
        if all(item.status == 201 for item in response.items) and not self.failure_store:
            return BulkResponse(batch, all_created=True, status=200)
        return response

    def forget(self, index: str) -> None:
        self.forgotten.append(index)

    def set_newest(self, index: str) -> None:
        self.newest = index


def always(*answers: Answer) -> Callable[[int], list[Answer]]:
    """Return a script that answers every document alike."""
    scripts: dict[int, list[Answer]] = {}
    return lambda offset: scripts.setdefault(offset, list(answers))


class ManualExecutor(Executor):
    """An executor whose requests are under way until a test finishes them."""

    def __init__(self) -> None:
        self._open: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.closed = False
        self.cancelled = 0

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

    def shutdown(  # the signature of Executor
        self,
        wait: bool = True,  # noqa: FBT001, FBT002
        *,
        cancel_futures: bool = False,
    ) -> None:
        assert not (wait and self._open), "it would wait for the server"
        self.closed = True
        if cancel_futures:
            self.cancelled = len(self._open)


class InlineExecutor(Executor):
    """An executor that runs each call at once, on the caller's thread."""

    closed = False

    def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def shutdown(  # the signature of Executor
        self,
        wait: bool = True,  # noqa: FBT001, FBT002
        *,
        cancel_futures: bool = False,
    ) -> None:
        self.closed = True


class FakeRegistry:
    """A Schema Registry whose answers a test sets; an id without one is unknown to it.

    Attributes:
        answers: by id: the schema as text, or the error that is raised.
        asked: ids, in the order of the questions.
    """

    def __init__(self) -> None:
        self.answers: dict[int, str | Exception] = {}
        self.asked: list[int] = []

    def schema_text(self, schema_id: int) -> str:
        self.asked.append(schema_id)
        answer = self.answers.get(schema_id, UnknownSchemaError(f"knows no schema {schema_id}"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class ExpiringDocuments(Documents):
    """Documents of which every one is expired once `expired` is set."""

    expired = False

    def make(self, event: Any, now_ms: float) -> tuple[str, str, bytes]:
        if self.expired:
            raise ExpiredError(now_ms, timedelta(days=400))
        return super().make(event, now_ms)


class ResultsRig:
    """The step after an answer, with a real sender: a test gives the answers itself.

    Args:
        values: of the records; the offset is the place in the list.
    """

    def __init__(self, values: Sequence[bytes]) -> None:
        self.clock = FakeClock()
        self.executor = ManualExecutor()
        self.letters = FakeLetters()
        self.elasticsearch = FakeElasticsearch(always((201, None)))
        self.counts: Counter[Outcome] = Counter()
        self.builder = BatchBuilder()
        self.sender = BulkSender(
            self.elasticsearch,  # type: ignore[arg-type]
            lambda _span, _record: None,
            concurrency=ConcurrencyLimit(max_requests=4, size=4.0),
            executor=self.executor,
            clock=self.clock,
        )
        rejects = Rejects(self.letters, self._settle, CircuitBreaker(), self.clock)  # type: ignore[arg-type]
        self.results = BulkResults(
            self.sender, rejects, self._settle, Decoder(), self.builder, clock=self.clock
        )
        self._values = values
        self._span = Span(0, 1, 0, len(values) - 1, 0, len(values), 0.0)

    def _settle(self, _span: Span, outcome: Outcome, records: int, _size: int) -> None:
        self.counts[outcome] += records

    def batch(
        self,
        *offsets: int,
        document: bytes = b"{}",
        sent: int = 1,
        index: str = "logs-1",
        indices: Sequence[str] = (),
    ) -> Batch:
        """Return a batch of these records that was sent so often, into one index or several."""
        builder = BatchBuilder()
        names = indices or [index] * len(offsets)
        for offset, name in zip(offsets, names, strict=True):
            record: Any = FakeRecord(offset, self._values[offset])
            builder.add(self._span, record, len(record), name, f"id{offset}", document, 0.0)
        batch = builder.take()
        for _ in range(sent):
            batch.retry.record_sent()
        return batch

    def answer(self, batch: Batch, *answers: Answer) -> None:
        """Answer a batch item by item, or all of its items alike."""
        each = answers * len(batch.operations) if len(answers) == 1 else answers
        items = [
            ItemResult(op, judge_item(status, error), status, error)
            for op, (status, error) in zip(batch.operations, each, strict=True)
        ]
        self.results.handle(BulkResponse(batch, items=items, status=200))

    def refuse(self, batch: Batch, status: int, error: Any = None, detail: str = "") -> None:
        """Answer a batch as a whole."""
        verdict = judge_request(status, error)
        self.results.handle(BulkResponse(batch, verdict=verdict, status=status, detail=detail))

    def create(self, batch: Batch) -> None:
        """Answer that every document of a batch was created."""
        self.results.handle(BulkResponse(batch, all_created=True, status=200))

    def send(self) -> list[Batch]:
        """Send what is due, and return it without handling the answers."""
        self.sender.send()
        self.executor.finish()
        return [response.batch for response in self.sender.answers(0.0)]


class DeliveryRig:
    """A delivery with fakes around it, and one span of all its values.

    Args:
        script: see `FakeElasticsearch`.
        values: of the records; the offset is the place in the list.
        whole: see `FakeElasticsearch`.
        decoder: values to events.
        registry: returns the schemas of Confluent-framed values; "unset" for no registry.
        limits: of the delivery.
        pick: chooses the request that is finished next, of so many.
        is_drop_declared: of the delivery.
    """

    def __init__(
        self,
        script: Callable[[int], list[Answer]],
        values: Sequence[bytes | None],
        whole: Iterable[Answer | None] = (),
        *,
        decoder: Any = None,
        registry: Any = None,
        limits: DeliveryLimits | None = None,
        pick: Callable[[int], int] = lambda _: 0,
        is_drop_declared: bool = False,
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
        self.schemas = SchemaScopes(
            None if registry == "unset" else registry,
            executor=InlineExecutor(),
            clock=self.clock,
        )
        self.delivery = Delivery(
            decoder=decoder or Decoder(self.schemas if registry else None),
            schemas=self.schemas,
            documents=self.documents,
            client=self.elasticsearch,  # type: ignore[arg-type]
            letters=self.letters,  # type: ignore[arg-type]
            settle=self._settle,
            breaker=self.breaker,
            is_drop_declared=is_drop_declared,
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

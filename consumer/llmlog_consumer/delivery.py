"""Records in, outcomes out: decode, batch, index, dead-letter. Shared by worker and replay.

One thread owns everything here; bulk threads only send a batch and hand back its answer.
Every record ends in exactly one outcome, told by `settle`; until then it is in flight.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_consumer.batch import Batch, BatchBuilder, Operation
from llmlog_consumer.concurrency import Window
from llmlog_consumer.dead_letters.letter import Cause, Ending, Stage, es_cause
from llmlog_consumer.dead_letters.writer import Letter
from llmlog_consumer.document import ExpiredError, TransformError, check_parts
from llmlog_consumer.outcome import Disposition, Verdict
from llmlog_consumer.retry import Backoff
from llmlog_schemas.codec import DecodeError
from llmlog_schemas.errors import ConfigurationError, Unreachable

if TYPE_CHECKING:
    from llmlog_consumer.dead_letters.writer import LetterWriter
    from llmlog_consumer.document import Documents
    from llmlog_consumer.indexer import Answered, Indexer, Judged
    from llmlog_consumer.tracker import Span
    from llmlog_schemas.codec import Decoder

log = structlog.get_logger("llmlog.delivery")

MAX_REFUSALS: Final = 6
"""Attempts that end in an answer which a retry rarely mends, before the next measure."""

_RETRY: Final = Backoff(first=0.25, longest=30.0)
_PROBE: Final = Backoff(first=1.0, longest=15.0)
_SAY_AGAIN: Final = 60.0
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429


class Outcome(StrEnum):
    """How a record ended."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    DEAD = "dead"
    EXPIRED = "expired"


Settle = Callable[["Span", Outcome, int], None]
"""Called once for each record: its span, its outcome, its size in bytes."""


@dataclass(slots=True)
class Hold:
    """The deployment is wrong: nothing but probes is sent until it is mended."""

    why: str
    probes: int = 0
    next_probe: float = 0.0


class Delivery:
    """The way of records from Kafka to their outcome.

    Args:
        decoder: values to events.
        documents: events to documents.
        indexer: sends batches.
        letters: writes dead letters.
        settle: told every outcome.
        window: how many bulks may be in flight.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        documents: Documents,
        indexer: Indexer,
        letters: LetterWriter,
        settle: Settle,
        window: Window | None = None,
    ) -> None:
        self._decoder = decoder
        self._documents = documents
        self._indexer = indexer
        self._letters = letters
        self._settle = settle
        self._window = window or Window()
        self._builder = BatchBuilder()
        self._incoming: deque[tuple[Span, Sequence[Any]]] = deque()
        self._decode_not_before = 0.0
        self._ready: deque[Batch] = deque()
        self._held: deque[Batch] = deque()
        self._sending = 0
        self._answers: queue.SimpleQueue[Future[Answered]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self._window.most, "llmlog-bulk")
        self._said: dict[str, float] = {}
        self.hold: Hold | None = None
        self.retries = 0
        self.unclassified = 0
        self.failure_store = 0

    @property
    def unhealthy(self) -> str:
        """Say what keeps records from being settled; empty while all is well."""
        return self.hold.why if self.hold else self._letters.refusal

    def accept(self, span: Span, records: Sequence[Any]) -> None:
        """Take records in; their span is registered already."""
        self._incoming.append((span, records))
        self._decode_incoming()

    def step(self, wait: float = 0.0) -> None:
        """Take answers, send what may be sent; waits `wait` seconds at most for an answer."""
        self._take_answers(wait)
        self._letters.poll()
        if self._incoming:
            self._decode_incoming()
        if self._builder.due(time.monotonic()):
            self._ready.append(self._builder.take())
        self._send()

    def hurry(self) -> None:
        """Send what is gathered without waiting for more."""
        if len(self._builder):
            self._ready.append(self._builder.take())
        self._send()

    def close(self) -> None:
        """Let the bulk threads go; what they still send is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Records to operations

    def _decode_incoming(self) -> None:
        if time.monotonic() < self._decode_not_before:
            return
        while self._incoming:
            span, records = self._incoming.popleft()
            if span.released:
                continue
            for position, record in enumerate(records):
                try:
                    self._prepare(span, record)
                except (Unreachable, ConfigurationError) as error:
                    self._incoming.appendleft((span, records[position:]))
                    self._decode_not_before = time.monotonic() + _PROBE.first
                    self._say("registry", "waiting for the Schema Registry", why=str(error))
                    return

    def _prepare(self, span: Span, record: Any) -> None:
        value = record.value()
        size = len(value) if value is not None else 0
        model = ""
        try:
            event = self._decoder.decode(value)
            model = event["model"]
            index, document_id, document = self._documents.make(event, time.time() * 1000)
        except DecodeError as error:
            cause = Cause(Stage.DECODE, Ending.POISON, _named(error))
            self._bury(span, record, size, cause)
        except TransformError as error:
            cause = Cause(Stage.TRANSFORM, Ending.POISON, _named(error), model=model)
            self._bury(span, record, size, cause)
        except ExpiredError:
            self._settle(span, Outcome.EXPIRED, size)
        else:
            now = time.monotonic()
            full = self._builder.add(span, record, size, index, document_id, document, now)
            if full is not None:
                self._ready.append(full)

    # Operations to Elasticsearch

    def _send(self) -> None:
        now = time.monotonic()
        if self.hold is not None:
            if self._held and self._sending == 0 and now >= self.hold.next_probe:
                self._submit(self._held.popleft())
            elif not self._held and self._sending == 0:
                self._mended()  # what was held is no longer ours
            return
        waiting = len(self._ready)
        while waiting and self._sending < self._window.limit:
            batch = self._ready.popleft()
            waiting -= 1
            if batch.not_before > now:
                self._ready.append(batch)
            else:
                self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        if batch.attempts:
            batch.operations = [op for op in batch.operations if not op.span.released]
        if not batch.operations:
            return
        batch.attempts += 1
        self._sending += 1
        future = self._threads.submit(self._indexer.send, batch)
        future.add_done_callback(self._answers.put)

    def _take_answers(self, wait: float) -> None:
        try:
            future = self._answers.get(timeout=wait) if wait > 0 else self._answers.get_nowait()
            while True:
                self._sending -= 1
                self._judge(future.result())
                future = self._answers.get_nowait()
        except queue.Empty:
            return

    def _judge(self, answered: Answered) -> None:
        """Settle every item that is settled, then queue the remainder again."""
        if answered.verdict is not None:
            self._whole(answered, answered.verdict)
            return
        again: dict[Disposition, list[Operation]] = {}
        pushed_back = False
        for judged in answered.items:
            verdict = judged.verdict
            self.unclassified += verdict.unclassified
            pushed_back |= verdict.pushed_back
            if verdict.disposition is Disposition.INDEXED:
                self._settle(judged.operation.span, Outcome.INDEXED, judged.operation.size)
            elif verdict.disposition is Disposition.DUPLICATE:
                self._settle(judged.operation.span, Outcome.DUPLICATE, judged.operation.size)
            elif verdict.disposition is Disposition.PERMANENT:
                self._refused(answered.batch, judged)
            elif verdict.bounded:
                self._alone(answered.batch, judged)
            else:
                again.setdefault(verdict.disposition, []).append(judged.operation)
                detail = f"{judged.status} {(judged.error or {}).get('type')}"
                answered.detail = f"{detail}: {(judged.error or {}).get('reason')}"[:300]
                answered.verdict = verdict
        self.failure_store += answered.failure_store
        self._learn(pushed_back=pushed_back)
        if Disposition.CONFIGURATION not in again:
            self._mended()
        for disposition, operations in again.items():
            part = answered.batch.part(operations)
            self._queue_again(part, disposition, answered)

    def _whole(self, answered: Answered, verdict: Verdict) -> None:
        """One verdict for a whole request."""
        batch = answered.batch
        self.unclassified += verdict.unclassified
        self._learn(pushed_back=verdict.pushed_back)
        disposition = verdict.disposition
        if verdict.bounded:
            batch.refusals += 1
            if batch.refusals >= MAX_REFUSALS:
                disposition = Disposition.BISECT
                batch.refusals = 0
        if disposition is Disposition.BISECT and answered.status == _TOO_LARGE:
            self._builder.max_bytes = max(1, min(self._builder.max_bytes, batch.size // 2))
        self._queue_again(batch, disposition, answered)

    def _queue_again(self, batch: Batch, disposition: Disposition, answered: Answered) -> None:
        now = time.monotonic()
        if disposition is Disposition.CONFIGURATION:
            advice = answered.verdict.advice if answered.verdict else ""
            self._hold(batch, f"{answered.detail} ({advice})" if advice else answered.detail)
        elif disposition is Disposition.BISECT and len(batch.operations) > 1:
            self._ready.extend(batch.halves())
        elif disposition is Disposition.BISECT:
            self._unsendable(batch, answered)
        else:
            self.retries += 1
            delay = _RETRY.delay(batch.attempts, at_least=answered.retry_after)
            batch.not_before = now + delay
            self._ready.append(batch)
            self._say("retry", "waiting for Elasticsearch", why=answered.detail)

    def _alone(self, batch: Batch, judged: Judged) -> None:
        """Try a document by itself that fails in a way that may be its own fault."""
        part = batch.part([judged.operation])
        part.refusals += 1
        if part.refusals < MAX_REFUSALS:
            part.not_before = time.monotonic() + _RETRY.delay(part.refusals)
            self._ready.append(part)
        else:
            self._refused(part, judged, Ending.EXHAUSTED)

    # Holding

    def _hold(self, batch: Batch, why: str) -> None:
        self._held.append(batch)
        if self.hold is None:
            self.hold = Hold(why)
            log.error("held: the deployment is wrong, nothing is lost", why=why)
        self.hold.probes += 1
        self.hold.why = why
        self.hold.next_probe = time.monotonic() + _PROBE.delay(self.hold.probes)
        for index in batch.indices:
            self._indexer.forget(index)

    def _mended(self) -> None:
        if self.hold is not None:
            log.info("resumed", after_probes=self.hold.probes)
            self.hold = None
            self._ready.extendleft(reversed(self._held))
            self._held.clear()

    def _learn(self, *, pushed_back: bool) -> None:
        if pushed_back:
            self._window.pushed_back()
        else:
            self._window.succeeded()

    # Dead letters

    def _refused(self, batch: Batch, judged: Judged, ending: Ending = Ending.PERMANENT) -> None:
        """Bury a document that Elasticsearch refuses; blame our own part where it is at fault."""
        operation, error = judged.operation, judged.error or {}
        model, broken = self._second_look(operation)
        if broken is not None:
            cause = Cause(Stage.TRANSFORM, Ending.POISON, _named(broken), model=model)
        else:
            cause = Cause(
                Stage.INDEX,
                ending,
                **es_cause(error),
                es_status=judged.status,
                index=operation.index_name,
                document_id=operation.document_id,
                model=model,
                attempts=batch.attempts,
            )
        self._bury(operation.span, operation.record, operation.size, cause)

    def _unsendable(self, batch: Batch, answered: Answered) -> None:
        """Bury the one document of a request that no server takes."""
        (operation,) = batch.operations
        too_large = answered.status in (_TOO_LARGE, _TOO_MANY)
        cause = Cause(
            Stage.OVERSIZE if too_large else Stage.INDEX,
            Ending.PERMANENT if too_large else Ending.EXHAUSTED,
            reason=answered.detail or f"{batch.size} bytes are more than the server takes",
            es_status=answered.status,
            index=operation.index_name,
            document_id=operation.document_id,
            attempts=batch.attempts,
        )
        self._bury(operation.span, operation.record, operation.size, cause)

    def _second_look(self, operation: Operation) -> tuple[str, TransformError | None]:
        event = self._decoder.decode(operation.record.value())
        try:
            check_parts(event)
        except TransformError as error:
            return event["model"], error
        return event["model"], None

    def _bury(self, span: Span, record: Any, size: int, cause: Cause) -> None:
        def settled() -> None:
            self._settle(span, Outcome.DEAD, size)

        self._letters.write(Letter(record, cause, settled))
        self._say(
            f"letter {cause.fingerprint}",
            "dead letter",
            stage=str(cause.stage),
            fingerprint=cause.fingerprint,
            why=cause.said[:300],
            record=f"{record.topic()}/{record.partition()}/{record.offset()}",
        )

    def _say(self, cause: str, event: str, **details: str) -> None:
        """Log a cause at once, then at most once a minute."""
        now = time.monotonic()
        if now - self._said.get(cause, -_SAY_AGAIN) >= _SAY_AGAIN:
            self._said[cause] = now
            log.warning(event, **details)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

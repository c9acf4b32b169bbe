"""Owns the consequences of an answer of Elasticsearch for the records of its request.

Each record is settled, rejected, or sent again. What an answer means stands in
`elasticsearch.error_rules`; this module carries the verdict out.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import structlog

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage, read_es_error
from llmlog_consumer.dead_letters.reasons import redact
from llmlog_consumer.delivery.circuit_breaker import Phase
from llmlog_consumer.delivery.pauses.index_pause import Refusal
from llmlog_consumer.delivery.request_answers import RequestAnswers
from llmlog_consumer.delivery.transform import describe, model_of
from llmlog_consumer.elasticsearch.document import TransformError, check
from llmlog_consumer.elasticsearch.error_rules import DROPPED_ERROR, Disposition, Verdict
from llmlog_consumer.outcomes import Outcome, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmlog_consumer.delivery.bulk_sender import BulkSender
    from llmlog_consumer.delivery.pauses.index_pause import GivenUp
    from llmlog_consumer.delivery.rejects import Rejects
    from llmlog_consumer.elasticsearch.batch import Batch, BatchBuilder, Operation
    from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
    from llmlog_schemas.codec import Decoder

log = structlog.get_logger("llmlog.delivery")

MAX_REFUSED_ATTEMPTS: Final = 6
"""Attempts with an answer that a retry rarely changes, before the next step is taken."""
MAX_PUSHED_BACK_ATTEMPTS: Final = 4
"""Attempts that are pushed back before a request is halved: it may be too large for any node.
Elasticsearch 9 does not say so, because it counts a request piece by piece."""
SMALL_BATCH_BYTES: Final = 64 * 1024
"""Size up to which a request that is pushed back is not halved."""
_RETRY_BACKOFF: Final = Backoff(first_seconds=0.25, max_seconds=30.0)

_SETTLED_AS: Final[Mapping[Disposition, Outcome]] = {
    Disposition.INDEXED: Outcome.INDEXED,
    Disposition.DUPLICATE: Outcome.DUPLICATE,
}
"""The dispositions that settle a record, and as what."""

_REJECTED: Final = frozenset({Disposition.PERMANENT, Disposition.DROPPED})

_span_of = attrgetter("span")


class BulkResults:
    """The step after each answer. The thread that runs the delivery owns it.

    Args:
        sender: sends batches again, and holds those that wait for a person.
        rejects: takes records that cannot be indexed.
        settle: called for records whose document exists.
        decoder: values to events, to find the fault of a refused document.
        builder: learns what size of body the server takes.
        is_drop_declared: a document that an ingest pipeline drops is no fault.
        clock: monotonic seconds.

    Attributes:
        counts: `retries` of requests; `unclassified` answers; documents that went to a
            `failure_store`, where no search finds them; documents that an ingest pipeline
            `rerouted` to another index.
    """

    def __init__(
        self,
        sender: BulkSender,
        rejects: Rejects,
        settle: Settle,
        decoder: Decoder,
        builder: BatchBuilder,
        *,
        is_drop_declared: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        dropped = {Disposition.DROPPED: Outcome.DROPPED} if is_drop_declared else {}
        self._settled_as = {**_SETTLED_AS, **dropped}
        self._sender = sender
        self._rejects = rejects
        self._settle = settle
        self._decoder = decoder
        self._clock = clock
        self._throttled = ThrottledLog(log, clock)
        self._passed: Counter[str] = Counter()  # by index: documents, or batches of them
        self._requests = RequestAnswers(sender, rejects, builder, self._retry, clock=clock)
        self._next_steps = {
            Disposition.RETRY: self._retry,
            Disposition.BISECT: self._requests.handle,
            Disposition.CHECK: self._requests.handle,
            Disposition.CONFIGURATION: self._hold,
        }
        self.counts: Counter[str] = Counter()

    def handle(self, response: BulkResponse) -> None:
        """Settle, reject or send again every record of an answered request."""
        if self._requests.handle_control(response):
            return
        if response.verdict is not None:
            self._handle_request(response.batch, response.verdict, response)
            self._sender.drop_index_probe(response.batch)
        else:
            self._requests.record_answer(response)
            if response.all_created:
                self._settle_all(response.batch)
            else:
                self._handle_items(response)
        self._sender.end_probe(response.batch)

    @property
    def waits_for(self) -> str:
        """Say why documents that are refused alone become no letters; empty where none waits."""
        return self._requests.waits_for

    @property
    def waiting_alone(self) -> int:
        """Count the documents that a few attempts more will not carry through."""
        return self._requests.waiting_alone

    # Answers

    def _settle_all(self, batch: Batch) -> None:
        """Settle a whole batch, span by span: the usual case."""
        for span, of_span in groupby(batch.operations, _span_of):
            sizes = [operation.size for operation in of_span]
            self._settle(span, Outcome.INDEXED, len(sizes), sum(sizes))
        if self._rejects.circuit:
            for op in batch.operations:
                self._rejects.record_indexed(op.span, op.record)
        self._rejects.record_success(Phase.INDEX, len(batch.operations))
        self._passed.update(batch.indices)
        self._sender.record_success()

    def _handle_items(self, response: BulkResponse) -> None:
        """Carry out the verdict of each item."""
        again: dict[tuple[Verdict, str], list[ItemResult]] = {}
        passed = 0
        for item in response.items:
            disposition = item.verdict.disposition
            if (outcome := self._settled_as.get(disposition)) is not None:
                passed += 1
                self._passed[item.operation.index_name] += 1
                self._settle_one(item.operation, outcome)
                continue
            self.counts["unclassified"] += item.verdict.unclassified
            if disposition in _REJECTED:
                self._rejects.record_success(Phase.INDEX, passed)
                passed = 0
                self._reject_item(response.batch, item)
            else:
                index = "" if item.verdict.pushed_back else item.operation.index_name
                again.setdefault((item.verdict, index), []).append(item)
        self._rejects.record_success(Phase.INDEX, passed)
        self.counts["failure_store"] += response.failure_store
        if response.rerouted:
            self._count_rerouted(response)
        if any(verdict.pushed_back for verdict, _ in again):
            self._sender.record_pushback()
        elif sum(map(len, again.values())) < len(response.items):
            self._sender.record_success()
        for (verdict, _), items in again.items():
            # Over bytes of its own: what is sent again keeps no larger body alive.
            part = response.batch.part([item.operation for item in items]).compact()
            self._send_items_again(part, verdict, items, response)
        if response.unsent is not None:
            self._sender.put(response.unsent)

    def _send_items_again(
        self, part: Batch, verdict: Verdict, items: Sequence[ItemResult], response: BulkResponse
    ) -> None:
        """Take the next step of items with one verdict; their first answer stands for all."""
        first = items[0]
        if verdict.bounded:
            self._retry_failing(part, items, response.batch)
        elif verdict.pushed_back or verdict.disposition is Disposition.BISECT:
            # The request's own status is 200.
            of_items = replace(response, status=first.status, detail=_message(first))
            self._take_next_step(part, verdict, _public_message(first), of_items)
        else:
            self._sender.hold_index(part, _refusal(first), response.batch)

    def _handle_request(self, batch: Batch, verdict: Verdict, response: BulkResponse) -> None:
        """Carry out the one verdict of a whole request."""
        self.counts["unclassified"] += verdict.unclassified
        if verdict.pushed_back:  # no other answer here tells how much the cluster takes
            self._sender.record_pushback()
        if verdict.disposition not in {Disposition.CHECK, Disposition.BISECT}:
            batch.retry.is_proven = False
        # A proxy in Elasticsearch's place may quote the request.
        message = redact(response.detail) if response.status else response.detail
        self._take_next_step(batch, verdict, message, response)

    # The next step of records that are not settled

    def _take_next_step(
        self, batch: Batch, verdict: Verdict, message: str, response: BulkResponse
    ) -> None:
        message += f" ({verdict.advice})" if verdict.advice else ""
        self._next_steps[verdict.disposition](batch, verdict, message, response)

    def _hold(self, batch: Batch, _verdict: Verdict, message: str, _response: BulkResponse) -> None:
        """Hold a batch until a person has fixed the deployment."""
        self._sender.hold(batch, message)

    def _retry(self, batch: Batch, verdict: Verdict, message: str, response: BulkResponse) -> None:
        """Send a batch again after a wait; in halves where it may be too large for any node."""
        self.counts["retries"] += 1
        may_halve = (
            verdict.pushed_back and batch.size > SMALL_BATCH_BYTES and len(batch.operations) > 1
        )
        is_checked = verdict.disposition is Disposition.CHECK
        attempt = batch.retry.refusals if is_checked else batch.retry.attempts
        if may_halve:  # after each halving the waits start again from the shortest
            attempt = (attempt - 1) % MAX_PUSHED_BACK_ATTEMPTS + 1
        delay = _RETRY_BACKOFF.delay(attempt, at_least=response.retry_after)
        batch.retry.wait_until(self._clock() + delay)
        if self._sender.keep_probe(response.batch, batch):
            pass
        elif may_halve and attempt == MAX_PUSHED_BACK_ATTEMPTS:
            self._sender.put(*batch.halves())
        else:
            self._sender.put(batch)
        self._throttled(
            logging.WARNING, Disposition.RETRY, "waiting for Elasticsearch", why=message
        )

    def _retry_failing(self, part: Batch, items: Sequence[ItemResult], sent: Batch) -> None:
        """Send documents of one index again that fail by an error of the server.

        Where the index takes other documents meanwhile, these are at fault, and are rejected in
        the end. Otherwise the index waits.
        """
        (index,) = part.indices
        others_pass = part.retry.record_failure(self._passed[index])
        if not part.retry.record_refusal(MAX_REFUSED_ATTEMPTS):
            part.retry.wait_until(self._clock() + _RETRY_BACKOFF.delay(part.retry.refusals))
            if not self._sender.keep_probe(sent, part):
                self._sender.put(part)
        elif others_pass:
            for item in items:
                self._reject_item(part, item, Ending.EXHAUSTED)
        else:
            advice = "no document passes; see Elasticsearch's log"
            self._sender.hold_index(part, _refusal(items[0], advice), sent)

    def give_up(self, waiting: Iterable[GivenUp]) -> None:
        """Reject documents that have waited for their index for long enough."""
        for one in waiting:
            (operation,) = one.batch.operations
            error = read_es_error(one.refusal.error)
            if one.why:
                error["reason"] = f"{one.why}: {error['reason']}"
            cause = Cause(
                Stage.INDEX,
                Ending.EXHAUSTED,
                **error,
                es_status=one.refusal.status,
                index=operation.index_name,
                document_id=operation.document_id,
                model=model_of(self._decoder, operation.record.value()),
                attempts=one.batch.retry.attempts,
            )
            # One index tells nothing about the deployment as a whole.
            self._reject(operation, cause, in_row=False)

    def _count_rerouted(self, response: BulkResponse) -> None:
        self.counts["rerouted"] += response.rerouted.total()
        index, _ = response.rerouted.most_common(1)[0]
        self._throttled(
            logging.WARNING, "rerouted",
            "an ingest pipeline sends documents to another index: the alias may not find them",
            index=index, meant_for=sorted(response.batch.indices),
        )  # fmt: skip

    def _settle_one(self, operation: Operation, outcome: Outcome) -> None:
        self._settle(operation.span, outcome, 1, operation.size)
        self._rejects.record_indexed(operation.span, operation.record)

    # Rejects

    def _reject_item(
        self, batch: Batch, item: ItemResult, ending: Ending = Ending.PERMANENT
    ) -> None:
        """Reject a document that Elasticsearch refuses; name our own part where it is at fault."""
        is_dropped = item.verdict.disposition is Disposition.DROPPED
        operation, error = item.operation, DROPPED_ERROR if is_dropped else item.error or {}
        model, invalid = self._find_fault(operation)
        if invalid is not None:
            cause = Cause(Stage.TRANSFORM, Ending.POISON, describe(invalid), model=model)
        else:
            cause = Cause(
                Stage.INDEX,
                ending,
                **read_es_error(error),
                es_status=item.status,
                index=operation.index_name,
                document_id=operation.document_id,
                model=model,
                attempts=batch.retry.attempts,
            )
        self._reject(operation, cause)

    def _reject(self, operation: Operation, cause: Cause, *, in_row: bool = True) -> None:
        self._requests.forget(operation)
        span, record, size = operation.span, operation.record, operation.size
        self._rejects.reject(Phase.INDEX, span, record, size, cause, in_row=in_row)

    def _find_fault(self, operation: Operation) -> tuple[str, TransformError | None]:
        """Return the document's model, and the error that makes it no valid JSON."""
        value = operation.record.value()
        model = model_of(self._decoder, value)
        try:
            check(self._decoder.head(value)["document"])
        except TransformError as error:
            return model, error
        return model, None


def _refusal(item: ItemResult, advice: str = "") -> Refusal:
    verdict = item.verdict
    advice = advice or verdict.advice
    return Refusal(
        _public_message(item) + (f" ({advice})" if advice else ""),
        item.status,
        item.error or {},
        needs_person=verdict.disposition is Disposition.CONFIGURATION,
        is_final=verdict.is_final,
    )


def _message(item: ItemResult) -> str:
    error = item.error or {}
    if not item.status:  # our own words
        return str(error.get("reason"))
    return f"{item.status} {error.get('type')}: {error.get('reason')}"


def _public_message(item: ItemResult) -> str:
    return redact(_message(item))[:300]

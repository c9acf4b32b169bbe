"""What an answer of Elasticsearch does to the records of its request.

Of each record: it is settled, buried, or on its way again. One thread owns everything here.
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
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage, es_cause
from llmlog_consumer.dead_letters.reasons import redacted
from llmlog_consumer.delivery.circuit_breaker import Phase
from llmlog_consumer.delivery.transform import model_of, named
from llmlog_consumer.elasticsearch.document import TransformError, check
from llmlog_consumer.elasticsearch.error_rules import CUT_OFF, Disposition, Verdict
from llmlog_consumer.outcomes import Outcome, Settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.delivery.bulk_sender import BulkSender
    from llmlog_consumer.delivery.rejects import Rejects
    from llmlog_consumer.elasticsearch.batch import Batch, BatchBuilder, Operation
    from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
    from llmlog_schemas.codec import Decoder

log = structlog.get_logger("llmlog.delivery")

MAX_REFUSALS: Final = 6
"""Attempts that end in an answer which a retry rarely mends, before the next measure."""
MAX_PUSH_BACKS: Final = 4
"""Attempts that are pushed back before a request is halved: it may be too much for any node,
which 9.x does not tell, as it counts a request piece by piece."""
SMALL: Final = 64 * 1024
"""Bytes of a request that is not halved for being pushed back."""
MOST_FAILING: Final = 0.01
FEW_FAILING: Final = 10
"""More documents than both, failing with a 5xx of their own: the server's fault, not theirs."""

_RETRY: Final = Backoff(first_seconds=0.25, max_seconds=30.0)
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429

_span_of = attrgetter("span")


class BulkResults:
    """What is done after each answer.

    Args:
        sending: takes what is to be sent again, and holds what waits for a person.
        rejects: takes what cannot be indexed.
        settle: told of each record whose document is there.
        decoder: values to events, for a second look at what is refused.
        builder: of batches, told what size the server takes.

    Attributes:
        counts: `retries` of requests; `unclassified` answers; documents that went to a
            `failure_store`, where no search finds them.
    """

    def __init__(
        self,
        sending: BulkSender,
        rejects: Rejects,
        settle: Settle,
        decoder: Decoder,
        builder: BatchBuilder,
    ) -> None:
        self._sending = sending
        self._rejects = rejects
        self._settle = settle
        self._decoder = decoder
        self._builder = builder
        self._throttled = ThrottledLog(log)
        self._good = 0  # requests that were answered item by item
        self.counts: Counter[str] = Counter()

    def handle(self, answered: BulkResponse) -> None:
        """Settle every item that is settled, then queue the remainder again."""
        if answered.all_created:
            self._all_created(answered.batch)
            return
        if answered.verdict is not None:
            self._whole(answered.batch, answered.verdict, answered)
            return
        again: dict[Verdict, list[ItemResult]] = {}
        passed = 0
        for judged in answered.items:
            disposition = judged.verdict.disposition
            if disposition is Disposition.INDEXED or disposition is Disposition.DUPLICATE:
                passed += 1
                self._settle_indexed(judged.operation, disposition)
            elif disposition is Disposition.PERMANENT:
                self.counts["unclassified"] += judged.verdict.unclassified
                self._rejects.record_success(Phase.INDEX, passed)
                self._sending.failing.good(passed + 1)
                passed = 0
                self._refused(answered.batch, judged)
            else:
                self.counts["unclassified"] += judged.verdict.unclassified
                again.setdefault(judged.verdict, []).append(judged)
        self._rejects.record_success(Phase.INDEX, passed)
        self._sending.failing.good(passed)
        self._good += 1
        self.counts["failure_store"] += answered.failure_store
        pushed_back = any(verdict.pushed_back for verdict in again)
        if pushed_back or sum(map(len, again.values())) < len(answered.items):
            self._sending.record_pushback(pushed_back=pushed_back)
        for verdict, of_verdict in again.items():
            part = answered.batch.part([judged.operation for judged in of_verdict])
            if verdict.bounded:
                self._one_by_one(part, of_verdict)
            else:
                first = of_verdict[0]  # which speaks for all: the request's own status is good
                of_items = replace(answered, status=first.status, detail=_said(first))
                self._queue_again(part, verdict, _detail(first), of_items)

    def _all_created(self, batch: Batch) -> None:
        """Settle a whole batch, span by span: the usual end."""
        for span, of_span in groupby(batch.operations, _span_of):
            sizes = [operation.size for operation in of_span]
            self._settle(span, Outcome.INDEXED, len(sizes), sum(sizes))
        if self._rejects.circuit_open:
            for op in batch.operations:
                self._rejects.record_indexed(op.span, op.record)
        self._rejects.record_success(Phase.INDEX, len(batch.operations))
        self._sending.failing.good(len(batch.operations))
        self._good += 1
        self._sending.record_pushback(pushed_back=False)

    def _whole(self, batch: Batch, verdict: Verdict, answered: BulkResponse) -> None:
        """One verdict for a whole request."""
        self.counts["unclassified"] += verdict.unclassified
        if verdict.pushed_back:  # nothing else here says how much the cluster takes
            self._sending.record_pushback(pushed_back=True)
        if batch.good_before < 0:
            batch.good_before = self._good
        if verdict.bounded:
            batch.refusals += 1
            if batch.refusals >= MAX_REFUSALS:
                batch.refusals = 0
                if verdict is not CUT_OFF or len(batch.operations) > 1:
                    verdict = replace(verdict, disposition=verdict.then)
        if verdict.disposition is Disposition.BISECT and answered.status == _TOO_LARGE:
            self._builder.max_bytes = max(1, min(self._builder.max_bytes, batch.size // 2))
        # Whoever answers in Elasticsearch's place may quote the request.
        said = redacted(answered.detail) if answered.status else answered.detail
        self._queue_again(batch, verdict, said, answered)

    def _queue_again(
        self, batch: Batch, verdict: Verdict, said: str, answered: BulkResponse
    ) -> None:
        said += f" ({verdict.advice})" if verdict.advice else ""
        if verdict.disposition is Disposition.CONFIGURATION:
            self._sending.hold_back(batch, said)
        elif verdict.disposition is Disposition.BISECT and len(batch.operations) > 1:
            self._sending.put(*batch.halves())
        elif verdict.disposition is Disposition.BISECT:
            self._unsendable(batch, said, answered)
        else:
            self.counts["retries"] += 1
            too_much = verdict.pushed_back and batch.size > SMALL and len(batch.operations) > 1
            # What is to be halved soon begins its waits anew with each halving.
            attempt = (batch.attempts - 1) % MAX_PUSH_BACKS + 1 if too_much else batch.attempts
            delay = _RETRY.delay(attempt, at_least=answered.retry_after)
            batch.not_before = time.monotonic() + delay
            if self._sending.keep_probing(answered.batch, batch):
                pass
            elif too_much and attempt == MAX_PUSH_BACKS:
                self._sending.put(*batch.halves())
            else:
                self._sending.put(batch)
            self._throttled(logging.WARNING, "retry", "waiting for Elasticsearch", why=said)

    def _one_by_one(self, part: Batch, failed: Sequence[ItemResult]) -> None:
        """Try documents alone that fail in a way that may be their own fault, or the server's."""
        for judged in failed:
            if len(part.operations) > 1 or part.refusals == 0:
                self._sending.failing.bad(judged.operation.index_name)
        failing = self._sending.failing
        if failing.died > FEW_FAILING and failing.died > MOST_FAILING * failing.seen:
            share = f"{failing.died / failing.seen:.0%}"
            why = f"{share} of documents fail in a way that is the server's: {_detail(failed[0])}"
            self._sending.hold_back(part, f"{why} (see Elasticsearch's log)")
            return
        for judged in failed:
            alone = part.part([judged.operation])
            alone.refusals += 1
            if alone.refusals < MAX_REFUSALS:
                alone.not_before = time.monotonic() + _RETRY.delay(alone.refusals)
                self._sending.put(alone)
            else:
                self._refused(alone, judged, Ending.EXHAUSTED)

    def _settle_indexed(self, operation: Operation, disposition: Disposition) -> None:
        outcome = Outcome.INDEXED if disposition is Disposition.INDEXED else Outcome.DUPLICATE
        self._settle(operation.span, outcome, 1, operation.size)
        self._rejects.record_indexed(operation.span, operation.record)

    # Dead letters

    def _refused(self, batch: Batch, judged: ItemResult, ending: Ending = Ending.PERMANENT) -> None:
        """Bury a document that Elasticsearch refuses; blame our own part where it is at fault."""
        operation, error = judged.operation, judged.error or {}
        model, broken = self._second_look(operation)
        if broken is not None:
            cause = Cause(Stage.TRANSFORM, Ending.POISON, named(broken), model=model)
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
        self._rejects.reject(Phase.INDEX, operation.span, operation.record, operation.size, cause)

    def _unsendable(self, batch: Batch, said: str, answered: BulkResponse) -> None:
        """Bury the one document of a request that no server takes.

        But where no other request was taken meanwhile either, the server is at fault.
        """
        (operation,), status = batch.operations, answered.status
        too_large = status in (_TOO_LARGE, _TOO_MANY)
        if not too_large and batch.good_before == self._good:
            self._sending.hold_back(
                batch, f"{said} (every request is refused: see what answers there)"
            )
            return
        cause = Cause(
            Stage.OVERSIZE if too_large else Stage.INDEX,
            Ending.PERMANENT if too_large else Ending.EXHAUSTED,
            reason=answered.detail or said or f"{batch.size} bytes are more than the server takes",
            es_status=status,
            index=operation.index_name,
            document_id=operation.document_id,
            attempts=batch.attempts,
        )
        self._rejects.reject(Phase.INDEX, operation.span, operation.record, operation.size, cause)

    def _second_look(self, operation: Operation) -> tuple[str, TransformError | None]:
        value = operation.record.value()
        model = model_of(self._decoder, value)
        try:
            check(self._decoder.head(value)["document"])
        except TransformError as error:
            return model, error
        return model, None


def _said(judged: ItemResult) -> str:
    error = judged.error or {}
    return f"{judged.status} {error.get('type')}: {error.get('reason')}"


def _detail(judged: ItemResult) -> str:
    return redacted(_said(judged))[:300]

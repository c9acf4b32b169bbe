"""Records in, outcomes out: decode, batch, index, dead-letter. Shared by worker and replay.

One thread owns everything here; bulk threads only send a batch and hand back its answer.
Every record ends in exactly one outcome, told by `settle`; until then it is in flight.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_consumer.breaker import Phase
from llmlog_consumer.burial import Burial
from llmlog_consumer.dead_letters.letter import Cause, Ending, Stage, es_cause
from llmlog_consumer.dead_letters.reasons import redacted
from llmlog_consumer.dead_letters.writer import LetterWriter
from llmlog_consumer.document import Documents, TransformError, check
from llmlog_consumer.hot_path import HotPath, model_of, named
from llmlog_consumer.indexer import Indexer
from llmlog_consumer.outcome import CUT_OFF, Disposition, Outcome, Settle, Verdict
from llmlog_consumer.retry import Backoff
from llmlog_consumer.say import Say
from llmlog_consumer.sending import Hold, Sending
from llmlog_schemas.codec import Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.batch import Batch, Operation
    from llmlog_consumer.deaths import Kind
    from llmlog_consumer.elastic import Elastic
    from llmlog_consumer.indexer import Answered, Judged
    from llmlog_consumer.tracker import Span
    from llmlog_schemas.settings import Settings

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

_RETRY: Final = Backoff(first=0.25, longest=30.0)
_REGISTRY_AGAIN: Final = 1.0
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429

_span_of = attrgetter("span")


class Delivery:
    """The way of records from Kafka to their outcome.

    Args:
        decoder: values to events.
        documents: events to documents.
        indexer: sends batches.
        letters: writes dead letters.
        settle: told every outcome.
        accepted: fingerprints that the flood breaker lets through.

    Attributes:
        counts: `retries` of requests; `unclassified` answers; documents that went to a
            `failure_store`, where no search finds them.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        documents: Documents,
        indexer: Indexer,
        letters: LetterWriter,
        settle: Settle,
        accepted: frozenset[str] = frozenset(),
    ) -> None:
        self._decoder = decoder
        self._hot_path = HotPath(decoder, documents)
        self._settle = settle
        self._burial = Burial(letters, settle, accepted)
        self._sending = Sending(indexer, self._burial.gone)
        self._builder = self._hot_path.gathered
        self._incoming: deque[tuple[Span, Sequence[Any]]] = deque()
        self._decode_not_before = 0.0
        self._say = Say(log)
        self._good = 0  # requests that were answered item by item
        self._registry_away = ""
        self.counts: Counter[str] = Counter()

    @classmethod
    def wired(
        cls, settings: Settings, elastic: Elastic, dlq_partitions: int, settle: Settle,
        accepted: frozenset[str] = frozenset(),
    ) -> Delivery:  # fmt: skip
        """Make one with all its parts.

        Args:
            settings: as loaded.
            elastic: the connection.
            dlq_partitions: of the dead-letter topic.
            settle: told every outcome.
            accepted: fingerprints that the flood breaker lets through.
        """
        return cls(
            decoder=Decoder(Registry.of_settings(settings)),
            documents=Documents(settings.index, settings.max_event_age),
            indexer=Indexer(elastic, settings.index),
            letters=LetterWriter(settings, dlq_partitions),
            settle=settle,
            accepted=accepted,
        )

    @property
    def hold(self) -> Hold | None:
        """Why nothing but probes is sent; None while all is well."""
        return self._sending.hold

    @property
    def flood(self) -> str:
        """Say why the breaker is open, and what to do; empty while it is closed."""
        return self._burial.flood

    @property
    def deaths(self) -> Counter[Kind]:
        """Letters delivered, by fingerprint and stage."""
        return self._burial.deaths

    @property
    def unhealthy(self) -> str:
        """Say what a person has to mend before records settle; empty while all is well."""
        hold = self._sending.hold
        return (
            (hold.why if hold else "")
            or self._burial.flood
            or self._burial.refusal
            or self._registry_away
        )

    @property
    def closed(self) -> bool:
        """Tell whether nothing more should be taken in."""
        return self._sending.hold is not None or bool(self._burial.flood)

    @property
    def stuck(self) -> bool:
        """Tell whether nothing that is here can settle until somebody mends something."""
        gathered = self._sending.hold is None and len(self._builder)
        return self.closed and not (self._sending.waiting or gathered or self._burial.pending)

    def accept(self, span: Span, records: Sequence[Any]) -> None:
        """Take records in; their span is registered already."""
        self._incoming.append((span, records))
        self._decode_incoming()

    def step(self, wait: float = 0.0) -> None:
        """Take answers, send what may be sent; waits `wait` seconds at most for an answer."""
        for answered in self._sending.answers(wait):
            self._judge(answered)
            self._sending.answered(answered.batch)
        self._burial.poll()
        if self._incoming:
            self._decode_incoming()
        self._try_withheld()
        if self._builder.due(time.monotonic()):
            self._sending.put(self._builder.take())
        self._sending.send()

    def hurry(self) -> None:
        """Send what is gathered without waiting for more."""
        if len(self._builder):
            self._sending.put(self._builder.take())
        self._sending.send()

    def close(self) -> None:
        """Let the bulk threads go; what they still send is not waited for."""
        self._sending.close()

    # Records to operations

    def _decode_incoming(self) -> None:
        if time.monotonic() < self._decode_not_before:
            return
        while self._incoming:
            span, records = self._incoming.popleft()
            if span.released:
                for record in records:
                    self._burial.gone(span, record)
                continue
            taken = self._hot_path.take(span, records)
            self._sending.put(*taken.full)
            for record, size, cause in taken.dead:
                self._burial.bury(Phase.READ, span, record, size, cause)
            for record, size in taken.expired:
                self._settle(span, Outcome.EXPIRED, 1, size)
                self._burial.gone(span, record)
            self._burial.spared(Phase.READ, taken.number - len(taken.dead))
            if taken.away:
                self._registry_away = f"Schema Registry: {taken.away}"
                self._incoming.appendleft((span, records[taken.number :]))
                self._decode_not_before = time.monotonic() + _REGISTRY_AGAIN
                self._say("registry", "waiting for the Schema Registry", why=taken.away)
                return
        self._registry_away = ""

    # What Elasticsearch answers

    def _judge(self, answered: Answered) -> None:
        """Settle every item that is settled, then queue the remainder again."""
        if answered.all_created:
            self._all_created(answered.batch)
            return
        if answered.verdict is not None:
            self._whole(answered.batch, answered.verdict, answered)
            return
        again: dict[Verdict, list[Judged]] = {}
        passed = 0
        for judged in answered.items:
            disposition = judged.verdict.disposition
            if disposition is Disposition.INDEXED or disposition is Disposition.DUPLICATE:
                passed += 1
                self._went_in(judged.operation, disposition)
            elif disposition is Disposition.PERMANENT:
                self.counts["unclassified"] += judged.verdict.unclassified
                self._burial.spared(Phase.INDEX, passed)
                self._sending.failing.good(passed + 1)
                passed = 0
                self._refused(answered.batch, judged)
            else:
                self.counts["unclassified"] += judged.verdict.unclassified
                again.setdefault(judged.verdict, []).append(judged)
        self._burial.spared(Phase.INDEX, passed)
        self._sending.failing.good(passed)
        self._good += 1
        self.counts["failure_store"] += answered.failure_store
        self._sending.learn(pushed_back=any(verdict.pushed_back for verdict in again))
        for verdict, of_verdict in again.items():
            part = answered.batch.part([judged.operation for judged in of_verdict])
            if verdict.bounded:
                self._one_by_one(part, of_verdict)
            else:
                self._queue_again(part, verdict, _detail(of_verdict[0]), answered)

    def _all_created(self, batch: Batch) -> None:
        """Settle a whole batch, span by span: the usual end."""
        for span, of_span in groupby(batch.operations, _span_of):
            sizes = [operation.size for operation in of_span]
            self._settle(span, Outcome.INDEXED, len(sizes), sum(sizes))
        if self._burial.flood:
            for op in batch.operations:
                self._burial.went_in(op.span, op.record)
        self._burial.spared(Phase.INDEX, len(batch.operations))
        self._sending.failing.good(len(batch.operations))
        self._good += 1
        self._sending.learn(pushed_back=False)

    def _whole(self, batch: Batch, verdict: Verdict, answered: Answered) -> None:
        """One verdict for a whole request."""
        self.counts["unclassified"] += verdict.unclassified
        if verdict.pushed_back:  # nothing else here says how much the cluster takes
            self._sending.learn(pushed_back=True)
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

    def _queue_again(self, batch: Batch, verdict: Verdict, said: str, answered: Answered) -> None:
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
            self._say("retry", "waiting for Elasticsearch", why=said)

    def _one_by_one(self, part: Batch, failed: Sequence[Judged]) -> None:
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

    def _went_in(self, operation: Operation, disposition: Disposition) -> None:
        outcome = Outcome.INDEXED if disposition is Disposition.INDEXED else Outcome.DUPLICATE
        self._settle(operation.span, outcome, 1, operation.size)
        self._burial.went_in(operation.span, operation.record)

    # Dead letters

    def _try_withheld(self) -> None:
        """Put what the breaker gives back on its way again."""
        was_open, back = bool(self._burial.flood), self._burial.due()
        self._incoming.extend((span, [record]) for span, record in back)
        if was_open and self._incoming:
            self._decode_incoming()
            self.hurry()

    def _refused(self, batch: Batch, judged: Judged, ending: Ending = Ending.PERMANENT) -> None:
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
        self._burial.bury(Phase.INDEX, operation.span, operation.record, operation.size, cause)

    def _unsendable(self, batch: Batch, said: str, answered: Answered) -> None:
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
        self._burial.bury(Phase.INDEX, operation.span, operation.record, operation.size, cause)

    def _second_look(self, operation: Operation) -> tuple[str, TransformError | None]:
        value = operation.record.value()
        model = model_of(self._decoder, value)
        try:
            check(self._decoder.head(value)["document"])
        except TransformError as error:
            return model, error
        return model, None


def _detail(judged: Judged) -> str:
    error = judged.error or {}
    return redacted(f"{judged.status} {error.get('type')}: {error.get('reason')}")[:300]

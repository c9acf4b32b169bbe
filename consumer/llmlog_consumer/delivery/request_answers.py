"""Owns the consequences of an answer to a whole request, where no item has an answer of its own.

A request that is refused is halved until the document that it is refused for is alone, as long as
others pass; `controls` says whether they do. A document that is alone becomes a letter only after
it was refused, a control has passed, and it was refused again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.reasons import redact
from llmlog_consumer.delivery.circuit_breaker import Phase
from llmlog_consumer.delivery.controls import LETTERS_SECONDS, MAX_LETTERS, Controls
from llmlog_consumer.elasticsearch.batch import Batch, BodyBound
from llmlog_consumer.elasticsearch.error_rules import MANY, Disposition, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_consumer.delivery.bulk_sender import BulkSender
    from llmlog_consumer.delivery.rejects import Rejects
    from llmlog_consumer.elasticsearch.batch import BatchBuilder, Operation
    from llmlog_consumer.elasticsearch.bulk import BulkResponse

    Retry = Callable[[Batch, Verdict, str, BulkResponse], None]

log = structlog.get_logger("llmlog.delivery")

_ALONE_BACKOFF: Final = Backoff(first_seconds=0.5, max_seconds=30.0)
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429
_CONFLICT: Final = 409
_EXISTS: Final = frozenset({Disposition.INDEXED, Disposition.DUPLICATE})

_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Refused:
    """A refused request, and the answer to it."""

    batch: Batch
    verdict: Verdict
    message: str
    response: BulkResponse


class RequestAnswers:
    """The step after a request that was refused as a whole. One thread owns it.

    Args:
        sender: sends batches again, and holds those that wait for a person.
        rejects: takes documents that no request carries through.
        builder: learns what size of body passes.
        retry: sends a batch again after a wait.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sender: BulkSender,
        rejects: Rejects,
        builder: BatchBuilder,
        retry: Retry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._rejects = rejects
        self._builder = builder
        self._retry = retry
        self._clock = clock
        self._throttled = ThrottledLog(log, clock)
        self._bound = BodyBound.of(builder.max_bytes)
        self._controls: Controls[_Refused, Batch] = Controls()
        self._under_way: list[tuple[str, Batch]] = []  # controls, each with its index
        self._alone: dict[_Key, tuple[Batch, str]] = {}
        self._unproven: tuple[int, str] | None = None
        self._is_size_said = False

    @property
    def waits_for(self) -> str:
        """Say why documents that are refused alone become no letters; empty where none waits."""
        if not (waiting := self._waiting_alone()):
            return ""
        batch, why = waiting[0]
        record = batch.operations[0].record
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        others = f" (and {len(waiting) - 1} others)" if len(waiting) > 1 else ""
        return f"the document of {place}{others} is refused alone, and waits: {why}"

    @property
    def waiting_alone(self) -> int:
        """Count the documents that a few attempts more will not carry through."""
        return sum(batch.retry.attempts >= MANY for batch, _ in self._waiting_alone())

    def _waiting_alone(self) -> list[tuple[Batch, str]]:
        self._forget_alone()
        return list(self._alone.values())

    def _forget_alone(self) -> None:
        """Forget the documents that were given away, or wait for their index instead."""
        names = self._sender.index_pauses.names
        self._alone = {
            key: (batch, why)
            for key, (batch, why) in self._alone.items()
            if batch.operations
            and not batch.operations[0].span.released
            and batch.operations[0].index_name not in names
        }

    # Answers

    def handle_control(self, response: BulkResponse) -> bool:
        """Carry out what the answer to a control means; False where it is no control's answer."""
        found = next((one for one in self._under_way if one[1] is response.batch), None)
        if found is None:
            return False
        self._under_way.remove(found)
        name = found[0]
        if response.verdict is not None:
            for refused in self._controls.end(name):
                self._end_unproven(refused, response)
        elif [item.status for item in response.items] == [_CONFLICT]:
            self._controls.record_passed()
            for refused in self._controls.end(name):
                self._carry_on(refused)
        else:
            for refused in self._controls.forget(name):
                self._check(refused)
        self._send_controls()
        return True

    def record_answer(self, response: BulkResponse) -> None:
        """Learn from a request that was answered item by item: others are not refused."""
        batch = response.batch
        self._controls.record_passed()
        if batch.retry.is_proven:  # alone; it may be above a limit of Elasticsearch's own
            batch.retry.is_proven = [one.verdict.disposition for one in response.items] == [
                Disposition.BISECT
            ]
        if self._alone:  # one may have joined others meanwhile
            for operation in batch.operations:
                self._alone.pop(_key(operation), None)
        if self._unproven is not None:
            (size, message), self._unproven = self._unproven, None
            self._lower(size, message)
        if self._bound.is_lowered:
            self._raise(batch.size)
        if batch.operations and self._controls.wants(batch.operations[0].index_name):
            self._remember_control(response)

    def handle(self, batch: Batch, verdict: Verdict, message: str, response: BulkResponse) -> None:
        """Carry out CHECK or BISECT, of a request or of items that are too large together."""
        refused = _Refused(batch, verdict, message, response)
        is_alone = len(batch.operations) == 1
        is_bisected = verdict.disposition is Disposition.BISECT
        if is_bisected and not is_alone:
            self._split(refused)
        elif is_alone and batch.retry.is_proven and not self._sender.paused:
            self._end_alone(refused)
        else:
            batch.retry.is_proven = False
            batch.retry.refusals += 1
            is_waited_for = verdict.then is Disposition.RETRY
            is_repeated = is_alone and is_waited_for and not is_bisected
            patience = MANY if is_repeated else verdict.patience
            if batch.retry.refusals < patience:
                self._retry(batch, verdict, message, response)
            else:
                self._check(refused)

    def forget(self, operation: Operation) -> None:
        """Forget a document that waits alone: it has ended."""
        self._alone.pop(_key(operation), None)

    # Steps

    def _check(self, refused: _Refused) -> None:
        """Wait for a control; where none is known, halve, or wait alone, a few times."""
        batch, verdict = refused.batch, refused.verdict
        is_alone = len(batch.operations) == 1
        # A size limit is not that of one index, and does not end like an outage.
        is_of_index = (
            is_alone
            and verdict.then is Disposition.RETRY
            and verdict.disposition is not Disposition.BISECT
        )
        if self._sender.paused:
            self._hold_or_retry(refused)
        elif self._controls.wait(refused, batch.operations[0].index_name, same_index=is_of_index):
            self._throttled(
                logging.WARNING, "refused", "a bulk request is refused: looking for the reason",
                why=refused.message, operations=len(batch.operations),
            )  # fmt: skip
            self._send_controls()
        elif is_of_index:
            self._hold_or_retry(refused)
        elif not self._counts_as_unproven(batch):
            self._unproven = None
            self._hold_or_retry(refused)
        elif is_alone:
            self._wait_alone(refused, f"{refused.message}; no other document has passed since")
        else:
            if refused.verdict.of_size:
                self._unproven = batch.size, refused.message
            self._split(refused)

    def _counts_as_unproven(self, batch: Batch) -> bool:
        is_known = len(batch.operations) == 1 and _key(batch.operations[0]) in self._alone
        return is_known or self._controls.may_go_unproven()

    def _carry_on(self, refused: _Refused) -> None:
        """Take the next step with a request that is itself at fault: a control has passed."""
        batch = refused.batch
        if len(batch.operations) > 1:
            if refused.verdict.of_size:
                self._lower(batch.size, refused.message)
            self._split(refused)
        else:
            batch.retry.is_proven = True
            batch.retry.wait_until(0.0)
            self._sender.put(batch)

    def _end_unproven(self, refused: _Refused, control: BulkResponse) -> None:
        """Take the next step with a request where the control was refused too."""
        verdict = control.verdict
        if verdict is not None and Disposition.RETRY in {verdict.disposition, verdict.then}:
            self._retry(refused.batch, refused.verdict, refused.message, refused.response)
        elif verdict is not None and verdict.disposition is Disposition.CONFIGURATION:
            self._hold(refused.batch, f"{redact(control.detail)} ({verdict.advice})")
        else:
            self._hold_or_retry(refused)

    def _end_alone(self, refused: _Refused) -> None:
        """Reject a document that is refused again after a control has passed."""
        is_bisected = refused.verdict.disposition is Disposition.BISECT
        names_limit = is_bisected and refused.response.status == _TOO_MANY
        if names_limit or self._controls.may_write_letter(self._clock()):
            self._reject(refused)
            return
        refused.batch.retry.start_again()
        self._wait_alone(
            refused,
            f"{refused.message}; more than {MAX_LETTERS} in {LETTERS_SECONDS:.0f} s are refused: "
            "mend what refuses them",
        )

    def _wait_alone(self, refused: _Refused, why: str) -> None:
        """Send one document again after a wait; all others go on."""
        batch = refused.batch
        self._forget_alone()
        self._alone[_key(batch.operations[0])] = batch, why
        delay = _ALONE_BACKOFF.delay(batch.retry.attempts, at_least=refused.response.retry_after)
        batch.retry.wait_until(self._clock() + delay)
        self._sender.put(batch)
        self._throttled(logging.ERROR, "alone", "a document waits", why=why)

    def _hold_or_retry(self, refused: _Refused) -> None:
        batch, verdict = refused.batch, refused.verdict
        if verdict.then is Disposition.RETRY:
            self._retry(batch, verdict, refused.message, refused.response)
            return
        self._hold(
            batch,
            f"{refused.message} (the server refuses every request: check what answers at this URL)",
        )

    def _hold(self, batch: Batch, why: str) -> None:
        batch.retry.start_again()
        parts = _parts(batch) if self._sender.paused else (batch,)
        for part in parts:  # a smaller probe is more likely to hold no document of that kind
            self._sender.hold(part, why)

    def _split(self, refused: _Refused) -> None:
        self._sender.put(*_parts(refused.batch))

    def _reject(self, refused: _Refused) -> None:
        (operation,), status = refused.batch.operations, refused.response.status
        is_too_large = status in (_TOO_LARGE, _TOO_MANY)
        is_waited_for = refused.verdict.then is Disposition.RETRY
        advice = refused.verdict.advice
        cause = Cause(
            Stage.OVERSIZE if is_too_large else Stage.INDEX,
            Ending.EXHAUSTED if is_waited_for and not is_too_large else Ending.PERMANENT,
            reason=refused.response.detail + (f" ({advice})" if advice else ""),
            es_status=status,
            index=operation.index_name,
            document_id=operation.document_id,
            attempts=refused.batch.retry.attempts,
        )
        self.forget(operation)
        self._rejects.reject(Phase.INDEX, operation.span, operation.record, operation.size, cause)

    # Controls

    def _send_controls(self) -> None:
        for name, known in self._controls.take():
            # No index to look at first: that would create one that was deleted meanwhile.
            control = Batch(known.source, known.operations, frozenset(), 1)
            self._under_way.append((name, control))
            self._sender.put_first(control)

    def _remember_control(self, response: BulkResponse) -> None:
        exists = [item.operation for item in response.items if item.verdict.disposition in _EXISTS]
        if response.all_created:
            exists = list(response.batch.operations)
        if exists:
            smallest = min(exists, key=lambda operation: operation.end - operation.start)
            control = response.batch.alone(smallest)
            self._controls.remember(smallest.index_name, control, control.size)

    # The size of requests

    def _lower(self, size: int, why: str) -> None:
        begins = self._bound.record_refusal(size)
        self._builder.max_bytes = self._bound.bytes
        if begins and self._throttled.is_due("size"):
            self._is_size_said = True
            self._throttled(
                logging.WARNING, "size", "bulk requests are made smaller until larger ones pass",
                refused_bytes=size, max_bytes=self._bound.bytes, why=redact(why),
            )  # fmt: skip

    def _raise(self, size: int) -> None:
        if self._bound.record_success(size) and self._is_size_said:
            self._is_size_said = False
            log.info("bulk requests have their full size again", max_bytes=self._bound.bytes)
        self._builder.max_bytes = self._bound.bytes


def _key(operation: Operation) -> _Key:
    span = operation.span
    return span.generation, span.partition, operation.record.offset()


def _parts(batch: Batch) -> tuple[Batch, ...]:
    """Return a batch in halves; a document that is alone has bytes of its own."""
    if len(batch.operations) == 1:
        return (batch,)
    parts = []
    for half in batch.halves():
        part = half if len(half.operations) > 1 else half.alone(half.operations[0])
        if len(part.operations) == 1:
            part.retry.start_again()
        parts.append(part)
    return tuple(parts)

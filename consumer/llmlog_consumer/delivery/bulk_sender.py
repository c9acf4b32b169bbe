"""Owns batches on their way to Elasticsearch: ready, held by a pause, or with a bulk thread.

`ConcurrencyLimit` learns from the answers how many requests the cluster takes at once. While the
deployment is wrong, `Pause` lets one batch at a time through. While single indices take nothing,
`IndexPauses` holds their documents.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from llmlog_consumer.delivery.pauses.index_pauses import HoldLimits, IndexPauses
from llmlog_consumer.delivery.pauses.pause import Pause
from llmlog_consumer.metric_list import BULK_ATTEMPTS, BULK_BYTES, BULK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor, Future

    from llmlog_consumer.delivery.pauses.index_pause import Refusal
    from llmlog_consumer.elasticsearch.batch import Batch
    from llmlog_consumer.elasticsearch.bulk import BulkClient, BulkResponse
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")


@dataclass(slots=True)
class ConcurrencyLimit:
    """The number of requests that the cluster takes at once.

    It grows by one a round of answers, and halves on a push-back (AIMD).

    Attributes:
        max_requests: upper bound.
        size: requests that may be under way now, with its fraction.
    """

    max_requests: int = 4
    size: float = 2.0

    @property
    def limit(self) -> int:
        """Requests that may be under way now, at least one."""
        return max(1, int(self.size))

    def record_success(self) -> None:
        """Grow by one for each round of answers without a push-back."""
        self.size = min(float(self.max_requests), self.size + 1.0 / max(self.size, 1.0))

    def record_pushback(self) -> None:
        """Halve, on a 429 of a request or of an item."""
        self.size = max(1.0, self.size / 2.0)


class BulkSender:
    """The queue of batches, and the bulk threads that send them.

    The thread that runs the delivery calls every method and owns every field. A bulk thread runs
    `_send` and puts its future into `_answers`, and touches nothing else.

    Args:
        client: sends a batch, in a bulk thread.
        on_released: called with each record that is not sent again because its partition was
            released.
        concurrency: how many requests may be under way.
        executor: runs the requests; by default as many threads as `concurrency` and `hold` allow.
        hold: bounds of what waits for single indices.
        clock: monotonic seconds.

    Attributes:
        under_way: requests that are with a bulk thread.
        counts: `pushbacks`, and the histograms of requests.
        index_pauses: the indices that take nothing now, and their documents.
    """

    def __init__(
        self,
        client: BulkClient,
        on_released: Callable[[Span, KafkaRecord], None],
        *,
        concurrency: ConcurrencyLimit | None = None,
        executor: Executor | None = None,
        hold: HoldLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._on_released = on_released
        self._concurrency = concurrency or ConcurrencyLimit()
        hold = hold or HoldLimits()
        threads = self._concurrency.max_requests + hold.max_probes
        self._executor = executor or ThreadPoolExecutor(threads, "llmlog-bulk")
        self._clock = clock
        self._ready: deque[Batch] = deque()
        self._pause: Pause[Batch] = Pause()
        self.index_pauses = IndexPauses(hold, lambda op: on_released(op.span, op.record))
        self._answers: queue.SimpleQueue[Future[BulkResponse]] = queue.SimpleQueue()
        self.under_way = 0
        self.counts: Counter[str] = Counter()

    @property
    def paused(self) -> bool:
        """Tell whether nothing but probes is sent, because the deployment is wrong."""
        return self._pause.active

    @property
    def pause_reason(self) -> str:
        """Say why nothing but probes is sent, and what to do; empty while nothing is paused."""
        return self._pause.why

    @property
    def wants_probe(self) -> bool:
        """Tell whether all that a pause holds was refused document by document.

        Each of these may be refused for itself. Then another one, if none is left to try, has to
        come and tell.
        """
        is_tried = self._pause.refusals > 1 and not (self._ready or self.under_way)
        return is_tried and all(len(batch.operations) == 1 for batch in self._pause)

    @property
    def has_work(self) -> bool:
        """Tell whether a request is under way, or will be sent without a person's help."""
        return self.has_work_beside(0)

    def has_work_beside(self, waiting: int) -> bool:
        """Tell the same where so many batches of those that are ready do not count."""
        return bool(self.under_way or (len(self._ready) > waiting and not self._pause.active))

    def put(self, *batches: Batch) -> None:
        """Queue batches; each is sent once its time has come."""
        self._ready.extend(batches)

    def put_first(self, batch: Batch) -> None:
        """Queue a batch before all others."""
        self._ready.appendleft(batch)

    def send(self) -> None:
        """Hand the batches that may be sent now to bulk threads."""
        now = self._clock()
        if self._pause.active:
            self._send_probe(now)
            return
        if self.index_pauses:
            for probe in self.index_pauses.take_probes(now):
                self._submit(probe, is_probe=True)
        waiting = len(self._ready)
        probing = self.index_pauses.probing if self.index_pauses else 0
        while waiting and self.under_way - probing < self._concurrency.limit:
            batch = self._ready.popleft()
            waiting -= 1
            if batch.retry.not_before > now:
                self._ready.append(batch)
            else:
                self._submit(batch)

    def answers(self, wait: float) -> Iterator[BulkResponse]:
        """Yield the answers that have arrived; wait `wait` seconds at most for the first.

        Raises:
            Exception: a bulk thread failed with an error that no server's answer can cause.
        """
        try:
            future = self._answers.get(timeout=wait)
            while True:
                self.under_way -= 1
                response = future.result()
                self._count(response)
                yield response
                future = self._answers.get_nowait()
        except queue.Empty:
            return

    def record_success(self) -> None:
        """Let more requests be under way at once."""
        self._concurrency.record_success()

    def record_pushback(self) -> None:
        """Let fewer requests be under way at once."""
        self.counts["pushbacks"] += 1
        self._concurrency.record_pushback()

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return self._concurrency.limit

    def hold(self, batch: Batch, why: str) -> None:
        """Hold a batch until the deployment is fixed; send nothing but probes from now on."""
        if self._pause.is_probing and len(batch.operations) == 1:
            self._hold_next()
        if self._pause.hold(batch, why, self._clock()):
            log.error("indexing paused: the deployment is wrong, nothing is lost", why=why)
        self.index_pauses.drop_probe(batch, self._clock())
        for index in batch.indices:
            self._client.forget(index)

    def _hold_next(self) -> None:
        """Let a batch that is ready be a probe too: all that are held may be at fault."""
        for _ in range(len(self._ready)):
            batch = self._ready.popleft()
            if batch.indices:
                self._pause.add(batch)
                return
            self._ready.append(batch)  # a control, which is no probe

    def hold_index(self, batch: Batch, refusal: Refusal, probe: Batch) -> None:
        """Hold documents of one index until it takes them; see `IndexPauses.hold`."""
        (index,) = batch.indices
        if self.index_pauses.hold(batch, refusal, self._clock(), probe=probe):
            is_newest = self.index_pauses.is_protected(index)
            level = logging.ERROR if is_newest else logging.WARNING
            log.log(level, "an index takes no document", index=index, why=refusal.message)
        self._client.forget(index)

    def set_newest(self, index: str) -> None:
        """Say which index is the newest: it may be created, and never loses what waits for it."""
        self.index_pauses.newest = index
        self._client.set_newest(index)

    def keep_probe(self, probe: Batch, remainder: Batch) -> bool:
        """Hold the remainder of a probe, to be sent again later; False where it was no probe."""
        not_before = remainder.retry.not_before
        return self._pause.keep_probe(probe, remainder, not_before) or self.index_pauses.keep_probe(
            probe, remainder, not_before
        )

    def drop_index_probe(self, batch: Batch) -> None:
        """Go on with an index's pause whose probe was refused by something else on the way."""
        self.index_pauses.drop_probe(batch, self._clock())

    def end_probe(self, batch: Batch) -> None:
        """End the pause, where this batch was its probe and no part of it is held again."""
        if self._pause.is_probe(batch):
            self._resume()
        elif (resumed := self.index_pauses.end_probe(batch)) is not None:
            index, batches = resumed
            log.info("an index takes documents again", index=index)
            self._ready.extendleft(reversed(batches))

    def close(self) -> None:
        """Stop the bulk threads without waiting for the requests that are under way."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _send_probe(self, now: float) -> None:
        if self.under_way:
            return
        if not self._pause.held:
            self._resume()  # every held batch belonged to released partitions
        elif (probe := self._pause.take_probe(now)) is not None:
            self._submit(probe)

    def _resume(self) -> None:
        log.info("indexing resumed", after_refusals=self._pause.refusals)
        self._ready.extendleft(reversed(self._pause.resume()))

    def waiting_for_time(self) -> Counter[int]:
        """Return how many records wait for their next attempt, by partition."""
        now = self._clock()
        waiting: Counter[int] = Counter()
        for batch in self._ready:
            if batch.retry.not_before > now:
                waiting.update([operation.span.partition for operation in batch.operations])
        return waiting

    def _submit(self, batch: Batch, *, is_probe: bool = False) -> None:
        if batch.retry.attempts:
            for op in batch.operations:
                if op.span.released:
                    self._on_released(op.span, op.record)
            batch.operations = [op for op in batch.operations if not op.span.released]
        if not is_probe and not batch.indices.isdisjoint(self.index_pauses.names):
            others = self.index_pauses.keep(batch)
            if others is None:
                return
            batch = others
        if not batch.operations:
            self.index_pauses.drop_probe(batch, self._clock())
            return
        batch.retry.record_sent()
        self.under_way += 1
        future = self._executor.submit(self._send, batch)
        future.add_done_callback(self._answers.put)

    def _send(self, batch: Batch) -> BulkResponse:
        began = self._clock()
        response = self._client.send(batch)
        response.seconds = self._clock() - began
        return response

    def _count(self, response: BulkResponse) -> None:
        batch = response.batch
        BULK_SECONDS.observe(self.counts, response.seconds)
        BULK_BYTES.observe(self.counts, batch.body_bytes)
        BULK_ATTEMPTS.observe(self.counts, batch.retry.attempts)

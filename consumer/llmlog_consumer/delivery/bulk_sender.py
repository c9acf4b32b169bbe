"""Owns batches on their way to Elasticsearch: waiting, held back, or with a bulk thread.

How many are under way at once is found by asking. While the deployment is wrong, one batch at a
time is sent as a probe; only its answer lifts the hold.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_consumer.backoff import Backoff
from llmlog_consumer.delivery.circuit_breaker import FailureRate
from llmlog_consumer.delivery.concurrency import ConcurrencyLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_consumer.elasticsearch.batch import Batch
    from llmlog_consumer.elasticsearch.bulk import BulkResponse, BulkClient
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")

_PROBE: Final = Backoff(first_seconds=1.0, max_seconds=15.0)


@dataclass(slots=True)
class Pause:
    """The deployment is wrong: nothing but probes is sent until it is mended.

    Attributes:
        why: Elasticsearch's answer, and what to do.
        probes: how often the answer came again.
        next_probe: monotonic seconds.
        probe: the batch that was sent to see; only its answer lifts the hold.
    """

    why: str
    probes: int = 0
    next_probe: float = 0.0
    probe: Batch | None = None


class BulkSender:
    """What is sent, when, and how much of it at once.

    Args:
        indexer: sends a batch, in a bulk thread.
        released: told of each record that is no longer ours and is not sent again.

    Attributes:
        under_way: batches that are with a bulk thread.
        hold: why nothing but probes is sent; None while all is well.
        failing: share of documents that fail in a way which may be the server's, since the last
            hold.
    """

    def __init__(self, indexer: BulkClient, released: Callable[[Span, Any], None]) -> None:
        self._indexer = indexer
        self._released = released
        self._window = ConcurrencyLimit()
        self._ready: deque[Batch] = deque()
        self._held: deque[Batch] = deque()
        self._answers: queue.SimpleQueue[Future[BulkResponse]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self._window.most, "llmlog-bulk")
        self.under_way = 0
        self.hold: Pause | None = None
        self.failing = FailureRate()

    @property
    def waiting(self) -> bool:
        """Tell whether there is anything that is sent as soon as it may be."""
        return bool(self.under_way or (self._ready and self.hold is None))

    def put(self, *batches: Batch) -> None:
        """Have batches sent, when their time has come."""
        self._ready.extend(batches)

    def send(self) -> None:
        """Hand over to bulk threads what may be sent now."""
        now = time.monotonic()
        if self.hold is not None:
            if self._held and self.under_way == 0 and now >= self.hold.next_probe:
                self.hold.probe = self._held.popleft()
                self._submit(self.hold.probe)
            elif not self._held and self.under_way == 0:
                self._lift()  # what was held is no longer ours
            return
        waiting = len(self._ready)
        while waiting and self.under_way < self._window.limit:
            batch = self._ready.popleft()
            waiting -= 1
            if batch.not_before > now:
                self._ready.append(batch)
            else:
                self._submit(batch)

    def answers(self, wait: float) -> Iterator[BulkResponse]:
        """Yield the answers that are there; wait `wait` seconds at most for the first.

        Raises:
            Exception: a bulk thread failed in a way that nobody foresaw.
        """
        try:
            future = self._answers.get(timeout=wait) if wait > 0 else self._answers.get_nowait()
            while True:
                self.under_way -= 1
                yield future.result()
                future = self._answers.get_nowait()
        except queue.Empty:
            return

    def record_pushback(self, *, pushed_back: bool) -> None:
        """Send more at once, or less."""
        if pushed_back:
            self._window.pushed_back()
        else:
            self._window.succeeded()

    def close(self) -> None:
        """Let the bulk threads go; what they still send is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Holding

    def hold_back(self, batch: Batch, why: str) -> None:
        """Keep a batch, and send nothing but probes from now on."""
        if self.hold is None:
            self.hold = Pause(why)
            log.error("held: the deployment is wrong, nothing is lost", why=why)
        if self.hold.probe is not None or not self.hold.probes:
            self.hold.probes += 1
        self.hold.why = why
        self._keep(batch, time.monotonic() + _PROBE.delay(self.hold.probes))
        for index in batch.indices:
            self._indexer.forget(index)

    def keep_probing(self, probe: Batch, remainder: Batch) -> bool:
        """Keep what is left of a probe, to be sent again later; False where it was none."""
        if self.hold is None or self.hold.probe is not probe:
            return False
        self._keep(remainder, remainder.not_before)
        return True

    def answered(self, batch: Batch) -> None:
        """Lift the hold, where this answered batch was its probe and was not kept again."""
        if self.hold is not None and self.hold.probe is batch:
            self._lift()

    def _keep(self, batch: Batch, until: float) -> None:
        assert self.hold is not None  # noqa: S101 - asked of a hold alone
        self._held.append(batch)
        self.hold.probe, self.hold.next_probe = None, until

    def _lift(self) -> None:
        assert self.hold is not None  # noqa: S101 - asked of a hold alone
        log.info("resumed", after_probes=self.hold.probes)
        self.hold = None
        self.failing = FailureRate()
        self._ready.extendleft(reversed(self._held))
        self._held.clear()

    def _submit(self, batch: Batch) -> None:
        if batch.attempts:
            for op in batch.operations:
                if op.span.released:
                    self._released(op.span, op.record)
            batch.operations = [op for op in batch.operations if not op.span.released]
        if not batch.operations:
            return
        batch.attempts += 1
        self.under_way += 1
        future = self._threads.submit(self._indexer.send, batch)
        future.add_done_callback(self._answers.put)

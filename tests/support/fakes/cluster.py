"""A fake Elasticsearch with indices that break, and the whole delivery before it.

Nothing here sleeps, starts a thread or opens a connection.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from llmlog_common.errors import (
    ElasticsearchCutOff,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
)
from llmlog_consumer.delivery.circuit_breaker import CircuitBreaker
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.delivery.pauses.schema_scopes import SchemaScopes
from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.offset_tracker import OffsetTracker, Span
from llmlog_consumer.outcomes import Outcome
from llmlog_schemas.codec import Decoder
from support.fakes.delivery import (
    FakeClock,
    FakeLetters,
    FakeRecord,
    FakeRegistry,
    InlineExecutor,
    ManualExecutor,
)

HTML = "<html><title>Forbidden</title></html>"

ITEM_ERRORS = {
    "closed": (400, "index_closed_exception", "closed"),
    "blocked": (
        403,
        "cluster_block_exception",
        "index [x] blocked by: [FORBIDDEN/8/index write (api)];",
    ),
    "full": (
        429,
        "cluster_block_exception",
        "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded];",
    ),
    "unassigned": (503, "unavailable_shards_exception", "primary shard is not active"),
    "failing": (500, "null_pointer_exception", "oops"),
    "busy": (429, "es_rejected_execution_exception", "queue full"),
    "denied": (403, "security_exception", "action is unauthorized on indices [x]"),
}
"""What an index in each state says of every document."""


def _error(status: int, kind: str, reason: str) -> Answer:
    return Answer(status, {"error": {"type": kind, "reason": reason}, "status": status})


class FakeCluster:
    """Elasticsearch behind a proxy, as `Elastic` shows it.

    Attributes:
        documents: ids, by index.
        states: what is wrong with an index; see `ITEM_ERRORS`.
        deleted: names of indices that were deleted.
        has_template: the index template is there.
        refused: ids of documents that no mapping takes.
        failing: ids of documents that Elasticsearch always fails.
        disliked: ids of documents that the proxy refuses, with a page and this status.
        max_bytes: a larger body is answered with 413 by the proxy.
        faults: what answers the next requests; see `FAULTS`.
        outage: a fault of every request; empty for none.
        unsure: ids of documents that were created by a request without an answer.
        created: how often each id was created.
    """

    def __init__(self) -> None:
        self.documents: dict[str, set[str]] = {}
        self.states: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.has_template = True
        self.refused: set[str] = set()
        self.failing: set[str] = set()
        self.disliked: dict[str, int] = {}
        self.max_bytes = 1 << 30
        self.faults: list[str] = []
        self.outage = ""
        self.unsure: set[str] = set()
        self.created: Counter[str] = Counter()

    def delete(self, index: str) -> None:
        if self.documents.pop(index, None) is not None:
            self.deleted.add(index)
            self.states.pop(index, None)

    def request(
        self, method: str, path: str, *, body: Any = None, params: Any = None, **_: Any
    ) -> Answer:
        """Answer as `Elastic.request` does."""
        del params
        if fault := self.outage or (self.faults.pop(0) if self.faults else ""):
            return self._fail(fault, path, body)
        if path == "/_bulk":
            return self._refused_between(body) or self._bulk(body)
        return self._answer(method, path)

    def _fail(self, fault: str, path: str, body: Any) -> Answer:
        if fault.startswith("after ") and path == "/_bulk":
            before = self.created.copy()
            self._bulk(body)
            self.unsure |= set(self.created - before)
        return _FAULTS[fault.removeprefix("after ")]()

    def _answer(self, method: str, path: str) -> Answer:
        name = path.split("/")[1]
        if path.endswith("/_mapping"):
            if name not in self.documents:
                return _error(404, "index_not_found_exception", "no such index")
            return Answer(200, {name: {"mappings": {"_meta": {"llmlog_version": 1}}}})
        if name == "_index_template":
            return Answer(200, {}) if self.has_template else _error(404, "x", "no template")
        if name == "_cluster":
            tombstones = [{"index": {"index_name": index}} for index in self.deleted]
            return Answer(200, {"metadata": {"index-graveyard": {"tombstones": tombstones}}})
        assert method == "PUT", path
        assert self.has_template, "no template, no index"
        self.documents[name] = set()
        return Answer(200, {})

    def _refused_between(self, body: bytes) -> Answer | None:
        if len(body) > self.max_bytes:
            return Answer(413, HTML)
        ids = [json.loads(action)["create"]["_id"] for action in body.split(b"\n")[0:-1:2]]
        statuses = [self.disliked[one] for one in ids if one in self.disliked]
        return Answer(statuses[0], HTML) if statuses else None

    def _bulk(self, body: bytes) -> Answer:
        lines = body.split(b"\n")
        items = []
        for action in lines[0:-1:2]:
            create = json.loads(action)["create"]
            index, document_id = create["_index"], create["_id"]
            item: dict[str, Any] = {"_index": index, "_id": document_id}
            error = self._item_error(index, document_id)
            if error is None:
                item["status"] = 201
                self.documents[index].add(document_id)
                self.created[document_id] += 1
            else:
                status, kind, reason = error
                item |= {"status": status, "error": {"type": kind, "reason": reason}}
            items.append({"create": item})
        return Answer(200, {"items": items})

    def _item_error(self, index: str, document_id: str) -> tuple[int, str, str] | None:
        if index not in self.documents:
            return 404, "index_not_found_exception", "no such index"
        if state := self.states.get(index):
            return ITEM_ERRORS[state]
        if document_id in self.documents[index]:
            return 409, "version_conflict_engine_exception", "exists"
        if document_id in self.refused:
            return 400, "document_parsing_exception", "failed to parse field [a]"
        if document_id in self.failing:
            return ITEM_ERRORS["failing"]
        return None


def _raise(error: Exception) -> Answer:
    raise error


_FAULTS: dict[str, Callable[[], Answer]] = {
    "403 page": lambda: Answer(403, HTML),
    "404 page": lambda: Answer(404, HTML),
    "413 page": lambda: Answer(413, HTML),
    "429 page": lambda: Answer(429, HTML),
    "500 page": lambda: Answer(500, HTML),
    "502 page": lambda: Answer(502, HTML),
    "503": lambda: _error(503, "cluster_block_exception", "no master"),
    "504 page": lambda: Answer(504, HTML),
    "401": lambda: _error(401, "security_exception", "missing credentials"),
    "400": lambda: _error(400, "illegal_argument_exception", "odd"),
    "500": lambda: _error(500, "null_pointer_exception", "odd"),
    "200 page": lambda: Answer(200, HTML),
    "200 short": lambda: Answer(200, {"items": []}),
    "cut": lambda: _raise(ElasticsearchCutOff("cut off")),
    "timeout": lambda: _raise(ElasticsearchTimedOut("timed out")),
    "away": lambda: _raise(ElasticsearchUnreachable("refused")),
}
FAULTS: Sequence[str] = (*_FAULTS, "after 504 page", "after cut", "after timeout")
"""Answers of what is between; `after` means that Elasticsearch has carried the request out."""

_Place = tuple[int, int]


@dataclass
class Partition:
    """One partition: its log, and what its owner has committed."""

    log: list[bytes | None]
    next: int = 0
    note: dict[str, Any] = field(default_factory=dict)
    committed: int = 0


class WholeRig:
    """A delivery, its tracker and a topic before it, a fake cluster behind it.

    It does what the worker does: it registers, honours the bounds of intake, commits, and gives
    partitions away.

    Args:
        logs: the values of each partition.
        newest: the newest index.
        seed: of the order in which requests end.
        limits: of the delivery.
    """

    def __init__(
        self,
        logs: Sequence[list[bytes | None]],
        newest: str,
        seed: int = 0,
        limits: DeliveryLimits | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.executor = ManualExecutor()
        self.letters = FakeLetters()
        self.registry = FakeRegistry()
        self.cluster = FakeCluster()
        self.tracker = OffsetTracker()
        self.newest = newest
        self.partitions = [Partition(log) for log in logs]
        self.outcomes: Counter[Outcome] = Counter()
        self.released: set[_Place] = set()
        self.late = 0
        self._pick = random.Random(seed)
        self.schemas = SchemaScopes(
            self.registry,  # type: ignore[arg-type]
            executor=InlineExecutor(),
            clock=self.clock,
        )
        self.breaker: CircuitBreaker[Any] = CircuitBreaker()
        self.delivery = Delivery(
            decoder=Decoder(self.schemas),
            schemas=self.schemas,
            documents=Documents("logs", timedelta(days=30)),
            client=BulkClient(self.cluster, "logs"),  # type: ignore[arg-type]
            letters=self.letters,  # type: ignore[arg-type]
            settle=self._settle,
            breaker=self.breaker,
            limits=limits,
            executor=self.executor,
            clock=self.clock,
        )
        for number in range(len(logs)):
            self.assign(number)

    def _settle(self, span: Span, outcome: Outcome, records: int, size: int) -> None:
        if self.tracker.settle(span, records, size):
            self.outcomes[outcome] += records
        else:
            self.late += records

    def assign(self, number: int) -> None:
        """Begin a generation where the last owner has committed."""
        if number in self.tracker.assigned:
            return
        partition = self.partitions[number]
        partition.next = partition.committed
        self.tracker.assign(number, partition.committed)
        self.delivery.restore(number, partition.note)

    def release(self, *numbers: int, is_drained: bool = True) -> None:
        """Give partitions away; the next owner begins at the watermark."""
        for number in numbers:
            if number not in self.tracker.assigned:
                continue
            partition, start = self.partitions[number], self.tracker.watermark(number)
            if is_drained:
                partition.committed = start
                partition.note = json.loads(json.dumps(self.delivery.memory(number)))
            self.released |= {(number, o) for o in range(partition.committed, partition.next)}
            self.tracker.release(number)
        self.delivery.drop_released()
        if not self.tracker.assigned:
            self.delivery.forget_circuit()

    def consume(self, number: int, records: int) -> None:
        """Take in records of a partition, if the worker would."""
        partition = self.partitions[number]
        is_paused = number in self.delivery.full_partitions or self.delivery.is_blocked
        if is_paused or number not in self.tracker.assigned:
            return
        records = min(records, self.delivery.room or records, len(partition.log) - partition.next)
        # Small spans: so a record that settles twice is not taken for its neighbour.
        while records > 0:
            run = [
                FakeRecord(o, partition.log[o], number)
                for o in range(partition.next, partition.next + min(records, 2))
            ]
            records -= len(run)
            span = self.tracker.register(
                number,
                run[0].offset(),
                run[-1].offset(),
                epoch=-1,
                records=len(run),
                size=sum(map(len, run)),
                now=self.clock(),
            )
            assert span is not None
            partition.next = run[-1].offset() + 1
            self.delivery.set_newest(self.newest)
            self.delivery.accept(span, run)  # type: ignore[arg-type]

    def turn(self, seconds: float, requests: int | None = None) -> None:
        """Let time pass, finish requests, step and commit."""
        self.clock.now += seconds
        self.executor.finish(requests, pick=self._pick.randrange)
        self.delivery.step()
        self.delivery.give_up_behind({p: self.tracker.expected(p) for p in self.tracker.assigned})
        for number in self.tracker.assigned:
            self.partitions[number].committed = self.tracker.watermark(number)
            self.partitions[number].note = json.loads(json.dumps(self.delivery.memory(number)))

    def mend(self) -> None:
        """Mend all that is wrong beside the documents themselves."""
        cluster = self.cluster
        cluster.states.clear()
        cluster.faults.clear()
        cluster.outage, cluster.has_template, cluster.max_bytes = "", True, 1 << 30
        self.letters.deliver = True
        for number in range(len(self.partitions)):
            self.assign(number)

    @property
    def is_done(self) -> bool:
        """Tell whether all of the topic is read and settled."""
        return not self.tracker.unsettled and all(p.next == len(p.log) for p in self.partitions)

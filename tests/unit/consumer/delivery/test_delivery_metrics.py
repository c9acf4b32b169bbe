"""What the delivery tells the metrics: requests, push-backs, and which scopes are paused."""

from __future__ import annotations

import types

import pytest

from llmlog_consumer.delivery.bulk_sender import BulkSender, ConcurrencyLimit
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.metric_list import BULK_ATTEMPTS, BULK_BYTES, BULK_SECONDS, PausedKind
from llmlog_consumer.offset_tracker import Span
from llmlog_schemas.codec import Encoder
from support.fakes.delivery import (
    DeliveryRig,
    FakeClock,
    FakeElasticsearch,
    FakeRecord,
    ManualExecutor,
    always,
)
from support.payloads import encoded, event

BUSY = (429, {"type": "es_rejected_execution_exception", "reason": "queue full"})
MAPPING = (400, {"type": "document_parsing_exception", "reason": "failed to parse field [a]"})
CLOSED = (400, {"type": "index_closed_exception", "reason": "closed"})
DENIED = (401, {"type": "security_exception", "reason": "missing credentials"})
GOOD = (201, None)


@pytest.fixture(scope="module")
def values():
    return [encoded(seed) for seed in range(20)]


def paused(rig):
    return {kind: number for kind, number in rig.delivery.paused_scopes.items() if number}


class SlowElasticsearch(FakeElasticsearch):
    def __init__(self, clock, seconds):
        super().__init__(always(GOOD))
        self._clock, self._seconds = clock, seconds

    def send(self, batch):
        self._clock.now += self._seconds
        return super().send(batch)


def test_each_request_is_counted_with_its_time_its_size_and_its_attempt():
    clock, executor = FakeClock(), ManualExecutor()
    sender = BulkSender(
        SlowElasticsearch(clock, 0.4),
        lambda *_: None,
        concurrency=ConcurrencyLimit(),
        executor=executor,
        clock=clock,
    )
    builder = BatchBuilder()
    for offset in range(3):
        span = Span(0, 1, offset, offset, 0, 1, 0.0)
        builder.add(span, FakeRecord(offset), 0, "logs-1", f"id{offset}", b"x" * 400, 0.0)
    batch = builder.take()
    for _ in range(2):
        sender.put(batch)
        sender.send()
        executor.finish()
        assert [response.batch for response in sender.answers(0.0)] == [batch]
    part = batch.part(batch.operations[:1])
    sender.put(part)
    sender.send()
    executor.finish()
    list(sender.answers(0.0))
    counts = sender.counts
    seconds = dict(BULK_SECONDS.buckets(counts))
    assert (seconds["0.25"], seconds["0.5"], seconds["+Inf"]) == (0, 3, 3)
    assert BULK_SECONDS.sum(counts) == pytest.approx(1.2)
    assert BULK_BYTES.sum(counts) == 2 * batch.size + part.size
    assert BULK_ATTEMPTS.buckets(counts)[:3] == [("1", 1), ("2", 2), ("3", 3)]


def test_push_backs_are_counted_and_lower_the_limit(values):
    rig = DeliveryRig(always(BUSY, BUSY, GOOD), values)
    before = rig.delivery.gauges["concurrency_limit"]
    rig.accept_all()
    rig.until(lambda: rig.delivery.counts["pushbacks"])
    assert rig.delivery.gauges["concurrency_limit"] < before
    rig.until_settled()
    assert rig.delivery.counts["pushbacks"] == 2
    assert rig.delivery.counts["retries"] == 2


def test_requests_and_letters_that_are_under_way_are_gauges(values):
    rig = DeliveryRig(always(MAPPING), values[:3])
    rig.letters.deliver = False
    rig.accept_all()
    rig.delivery.flush()
    assert rig.delivery.gauges["requests_under_way"] == 1
    rig.until(lambda: rig.letters.letters)
    assert rig.delivery.gauges["requests_under_way"] == 0
    assert rig.delivery.gauges["pending_letters"] == 3


def test_a_refused_deployment_is_a_paused_scope_until_it_is_mended(values):
    refuses = types.SimpleNamespace(now=True)
    rig = DeliveryRig(always(GOOD), values)
    rig.elasticsearch.whole_by_offsets = lambda _: DENIED if refuses.now else None
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason)
    assert paused(rig) == {PausedKind.DEPLOYMENT: 1}
    refuses.now = False
    rig.until_settled()
    assert paused(rig) == {}


def test_a_closed_index_is_a_paused_scope(values):
    closed = types.SimpleNamespace(now=True)
    rig = DeliveryRig(lambda _: [CLOSED] if closed.now else [GOOD], values)
    rig.accept_all()
    rig.until(lambda: paused(rig))
    assert paused(rig) == {PausedKind.INDEX: 1}
    closed.now = False
    rig.until_settled()
    assert paused(rig) == {}


def test_an_open_circuit_and_each_schema_that_is_waited_for_is_a_paused_scope():
    rig = DeliveryRig(always(MAPPING), [encoded(seed) for seed in range(1500)])
    rig.accept_all(step=500)
    rig.until(lambda: rig.delivery.circuit_open)
    assert paused(rig) == {PausedKind.CIRCUIT: 1}

    framed = [Encoder(number % 2 + 40).encode(event(number)) for number in range(6)]
    rig = DeliveryRig(always(GOOD), framed, registry="unset")
    rig.accept_all()
    assert paused(rig) == {PausedKind.SCHEMA: 2}


def test_a_dead_letter_topic_that_refuses_is_a_paused_scope(values):
    rig = DeliveryRig(always(GOOD), values)
    rig.letters.refusal = "t.dlq: not authorized"
    assert paused(rig) == {PausedKind.DEAD_LETTERS: 1}

"""Batches: bounds, slices of one body, and what is sent again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.backoff import RetryState
from llmlog_consumer.elasticsearch.batch import (
    MAX_PASSED_REQUESTS,
    MIN_PASSED_REQUESTS,
    Batch,
    BatchBuilder,
    BodyBound,
)

ACTION = '{"create":{"_index":"logs-1","_id":"%s"}}\n'


def add(builder, document_id, document=b"{}", now=0.0):
    return builder.add(None, f"record {document_id}", 7, "logs-1", document_id, document, now)


def batch_of(*document_ids):
    builder = BatchBuilder()
    for document_id in document_ids:
        add(builder, document_id, json.dumps({"n": document_id}).encode())
    return builder.take()


def ids_in(body):
    lines = body.splitlines()
    actions, documents = lines[::2], lines[1::2]
    ids = [json.loads(action)["create"]["_id"] for action in actions]
    assert [json.loads(document)["n"] for document in documents] == ids
    return ids


def test_the_body_is_two_lines_for_each_operation():
    body = batch_of("a", "b").body()
    assert body.decode() == ACTION % "a" + '{"n": "a"}\n' + ACTION % "b" + '{"n": "b"}\n'


def test_an_operation_knows_its_record_and_its_slice():
    batch = batch_of("a", "b")
    assert [op.record for op in batch.operations] == ["record a", "record b"]
    assert [op.document_id for op in batch.operations] == ["a", "b"]
    assert {op.index_name for op in batch.operations} == batch.indices == {"logs-1"}
    for operation in batch.operations:
        assert ids_in(batch.source[operation.start : operation.end]) == [operation.document_id]


def test_a_batch_is_full_at_its_bound_of_operations():
    builder = BatchBuilder(max_operations=2)
    assert add(builder, "a") is None
    assert add(builder, "b") is None
    full = add(builder, "c")
    assert [op.document_id for op in full.operations] == ["a", "b"]
    assert len(builder) == 1


def test_a_batch_is_full_at_its_bound_of_bytes():
    one = len(ACTION % "a") + len(b"{}\n")
    builder = BatchBuilder(max_bytes=2 * one)
    assert add(builder, "a") is None
    assert add(builder, "b") is None
    full = add(builder, "c")
    assert full.size == 2 * one
    assert len(builder) == 1


def test_a_document_larger_than_the_bound_goes_alone():
    builder = BatchBuilder(max_bytes=10)
    assert add(builder, "a") is None
    assert [op.document_id for op in add(builder, "b").operations] == ["a"]
    assert [op.document_id for op in builder.take().operations] == ["b"]


def test_a_lowered_bound_holds_from_the_next_document():
    builder = BatchBuilder()
    add(builder, "a")
    builder.max_bytes = 1
    assert len(add(builder, "b").operations) == 1


def test_the_age_of_a_batch_counts_from_its_first_record():
    builder = BatchBuilder(max_age_seconds=0.25)
    assert not builder.due(1000.0)
    add(builder, "a", now=10.0)
    add(builder, "b", now=10.2)
    assert not builder.due(10.24)
    assert builder.due(10.25)
    builder.take()
    assert not builder.due(99.0)
    add(builder, "c", now=99.0)
    assert not builder.due(99.2)


def test_slices_start_at_zero_in_every_batch():
    builder = BatchBuilder(max_operations=2)
    batches = [add(builder, n, json.dumps({"n": n}).encode()) for n in "abcde"]
    batches += [builder.take(), add(builder, "f", b'{"n": "f"}'), builder.take()]
    batches = [batch for batch in batches if batch is not None]
    assert [[op.document_id for op in batch.operations] for batch in batches] == [
        ["a", "b"], ["c", "d"], ["e"], ["f"],
    ]  # fmt: skip
    for batch in batches:
        assert batch.operations[0].start == 0
        for operation in batch.operations:
            assert ids_in(batch.part([operation]).body()) == [operation.document_id]


def test_a_part_sends_the_same_bytes_of_its_operations_alone():
    batch = batch_of("a", "b", "c")
    part = batch.part([batch.operations[0], batch.operations[2]])
    assert ids_in(part.body()) == ["a", "c"]
    assert part.size == len(part.body())
    assert part.source is batch.source


def test_a_whole_batch_is_sent_without_a_copy():
    batch = batch_of("a", "b")
    assert batch.body() is batch.source


@pytest.mark.parametrize("count", [2, 3, 7])
def test_halves_hold_every_operation_once(count):
    batch = batch_of(*map(str, range(count)))
    first, second = batch.halves()
    assert first.operations
    assert second.operations
    assert [*first.operations, *second.operations] == list(batch.operations)
    assert ids_in(first.body()) + ids_in(second.body()) == ids_in(batch.body())


def test_halving_ends_at_single_documents():
    pending, singles = [batch_of(*"abcdefg")], []
    while pending:
        batch = pending.pop()
        if len(batch.operations) == 1:
            singles += ids_in(batch.body())
        else:
            pending += batch.halves()
    assert sorted(singles) == list("abcdefg")


def test_a_part_starts_with_a_copy_of_the_memory_of_its_attempts():
    batch = batch_of("a", "b")
    batch.retry = RetryState(attempts=3, refusals=2, not_before=4.5)
    part = batch.part(batch.operations[:1])
    assert part.retry == RetryState(attempts=3, refusals=2, not_before=4.5)
    part.retry.record_sent()
    assert (part.retry.attempts, batch.retry.attempts) == (4, 3)


def test_an_empty_batch_has_an_empty_body():
    assert Batch(b"", [], frozenset(), 0).body() == b""
    assert batch_of("a").part([]).body() == b""


def test_a_document_alone_keeps_no_bytes_of_the_others():
    batch = batch_of("a", "b", "c")
    batch.retry = RetryState(attempts=3)
    alone = batch.alone(batch.operations[1])
    assert ids_in(alone.body()) == ["b"]
    assert alone.source == alone.body()
    assert alone.indices == {"logs-1"}
    assert (alone.retry.attempts, alone.size) == (3, len(alone.source))
    assert batch.operations[1].start > 0, "the operation of the batch is left as it was"


# The size of body that passes


def passed(bound, size, times):
    return [bound.record_success(size) for _ in range(times)]


def test_a_bound_is_full_until_a_request_is_refused():
    bound = BodyBound.of(1024)
    assert not any(passed(bound, 1024, 99))
    assert (bound.bytes, bound.is_lowered) == (1024, False)


def test_a_refused_request_halves_the_bound_and_is_told_once():
    bound = BodyBound.of(1024)
    assert [bound.record_refusal(size) for size in (1000, 1000, 500)] == [True, False, False]
    assert bound.bytes == 250
    assert not bound.record_refusal(900), "it tells nothing new"
    assert bound.bytes == 250


def test_the_bound_doubles_after_requests_of_about_its_size():
    bound = BodyBound.of(1024)
    bound.record_refusal(512)
    passed(bound, 128, 99)
    assert bound.bytes == 256, "small requests show nothing"
    passed(bound, 129, MIN_PASSED_REQUESTS)
    assert bound.bytes == 512


def test_a_request_as_large_as_the_refused_one_that_passes_makes_the_bound_full_again():
    bound = BodyBound.of(4096)
    bound.record_refusal(1024)
    bound.record_refusal(512)
    assert passed(bound, 511, 1) == [False]
    assert passed(bound, 512, 2) == [True, False]
    assert (bound.bytes, bound.is_lowered) == (4096, False)


def test_doublings_in_vain_become_rare():
    bound = BodyBound.of(1024)
    bound.record_refusal(1024)
    waits = []
    for _ in range(12):
        waits.append(0)
        while bound.bytes == 512:
            bound.record_success(500)
            waits[-1] += 1
        bound.record_refusal(1024)
        assert bound.bytes == 512
    assert waits[:3] == [MIN_PASSED_REQUESTS * factor for factor in (1, 2, 4)]
    assert waits[-1] == MAX_PASSED_REQUESTS


def test_a_doubling_that_passes_makes_the_next_one_as_soon():
    bound = BodyBound.of(4096)
    bound.record_refusal(4000)
    bound.record_refusal(2000)
    passed(bound, 900, MIN_PASSED_REQUESTS)
    bound.record_refusal(2000)
    passed(bound, 900, 2 * MIN_PASSED_REQUESTS)
    assert bound.bytes == 2000
    passed(bound, 1500, MIN_PASSED_REQUESTS)
    assert bound.bytes == 4000


def test_a_bound_is_never_nothing():
    bound = BodyBound.of(1024)
    bound.record_refusal(1)
    assert bound.bytes == 1
    passed(bound, 1, 1)
    assert bound.bytes == 1024


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4096)), max_size=200))
def test_a_bound_stays_within_its_limits_and_grows_back(steps):
    bound = BodyBound.of(4096)
    for is_refused, size in steps:
        (bound.record_refusal if is_refused else bound.record_success)(size)
        assert 1 <= bound.bytes <= 4096
        assert bound.is_lowered or bound.bytes == 4096
    passed(bound, 4096, 1)
    assert (bound.bytes, bound.is_lowered) == (4096, False)

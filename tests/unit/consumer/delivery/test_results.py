"""The step after each answer: what is settled, counted, retried, and who is at fault."""

import types
from collections import Counter

import pytest
from structlog.testing import capture_logs

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.circuit_breaker import ALERT_SHARE
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.delivery.results import (
    MAX_PUSHED_BACK_ATTEMPTS,
    MAX_REFUSED_ATTEMPTS,
    SMALL_BATCH_BYTES,
)
from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
from llmlog_consumer.elasticsearch.error_rules import Disposition, Verdict, judge_item
from llmlog_consumer.outcomes import Outcome
from support.fakes.delivery import DeliveryRig, FakeRecord, ResultsRig, always
from support.payloads import encoded

DENIED = (401, {"type": "security_exception", "reason": "missing credentials"})
MAPPING = (400, {"type": "document_parsing_exception", "reason": "failed to parse field [a]"})
BUSY = (429, {"type": "es_rejected_execution_exception", "reason": "queue full"})
AWAY = (503, {"type": "unavailable_shards_exception", "reason": "not active"})
BROKEN = (500, {"type": "null_pointer_exception", "reason": "oops"})
CLOSED = (400, {"type": "index_closed_exception", "reason": "closed"})
GOOD = (201, None)
TWICE = (409, {"type": "version_conflict_engine_exception", "reason": "exists"})


@pytest.fixture(scope="module")
def values():
    return [encoded(seed) for seed in range(20)]


def test_a_document_that_exists_is_settled_as_a_duplicate(values):
    rig = DeliveryRig(lambda offset: [TWICE] if offset % 2 else [GOOD], values)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 10, Outcome.DUPLICATE: 10}
    assert not rig.letters.letters


def test_concurrency_grows_where_an_item_was_settled(values):
    rig = DeliveryRig(lambda offset: [TWICE], values)
    rig.accept_all()
    rig.until_settled()
    assert rig.concurrency.size == 2.5


def test_a_pushed_back_item_halves_concurrency(values):
    script = {3: [BUSY, GOOD]}
    rig = DeliveryRig(lambda offset: script.get(offset, [GOOD]), values)
    rig.concurrency.size = 4.0
    rig.accept_all()
    rig.turn()
    rig.executor.finish()
    rig.delivery.step()
    assert rig.concurrency.size == 2.0
    rig.until_settled()


def test_a_pushed_back_request_halves_concurrency(values):
    rig = DeliveryRig(always(GOOD), values, whole=[BUSY])
    rig.concurrency.size = 4.0
    rig.accept_all()
    rig.turn()
    rig.turn(0.0)
    assert rig.concurrency.size == 2.0
    rig.until_settled()


def test_a_request_waits_as_long_as_the_server_asks(values):
    rig = DeliveryRig(always(GOOD), values, whole=[(503, {})])
    rig.elasticsearch.retry_after = 100.0
    rig.accept_all()
    rig.turn(1.0)
    rig.turn(0.0)
    assert len(rig.elasticsearch.requests) == 1
    rig.turn(99.0)
    assert not rig.executor.under_way
    rig.turn(1.0)
    assert rig.executor.under_way == 1
    rig.until_settled()


def test_unclassified_answers_of_items_and_of_requests_are_counted(values):
    unknown = (418, {"type": "brand_new_exception", "reason": "?"})
    rig = DeliveryRig(lambda offset: [unknown] if offset < 3 else [GOOD], values)
    rig.accept_all()
    rig.until_settled()
    assert rig.delivery.counts["unclassified"] == 3
    rig = DeliveryRig(always(GOOD), values, whole=[(600, {}), (600, {})])
    rig.accept_all()
    rig.until_settled()
    assert rig.delivery.counts["unclassified"] == 2


def test_documents_in_the_failure_store_are_counted(values):
    rig = DeliveryRig(always(GOOD), values, limits=DeliveryLimits(batch_operations=10))
    rig.elasticsearch.failure_store = 2
    rig.accept_all()
    rig.until_settled()
    assert len(rig.elasticsearch.requests) == 2
    assert rig.delivery.counts["failure_store"] == 4
    assert rig.counts == {Outcome.INDEXED: 20}


def test_a_document_whose_json_is_broken_is_our_own_fault(values):
    broken = encoded(4, document=b'{"a": }')
    rig = DeliveryRig(lambda offset: [MAPPING], [broken, values[0]])
    rig.accept_all()
    rig.until_settled()
    ours, theirs = (letter.cause for letter in rig.letters.letters)
    assert (ours.stage, ours.disposition, ours.es_type) == ("transform", "poison", "")
    assert ours.exception.startswith("TransformError: document is no valid JSON")
    assert ours.model == "gpt-1"
    assert (theirs.stage, theirs.disposition) == ("index", "permanent")
    assert theirs.es_type == "document_parsing_exception"
    assert theirs.model == "gpt-0"


def test_a_letter_names_how_often_its_document_was_sent(values):
    rig = DeliveryRig(always(AWAY, AWAY, MAPPING), values[:1])
    rig.accept_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.cause.attempts == 3


def test_the_letter_of_a_refused_document_names_the_answer_and_its_place(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(4, sent=2), MAPPING)
    (letter,) = rig.letters.letters
    assert letter.cause == Cause(
        Stage.INDEX,
        Ending.PERMANENT,
        reason="failed to parse field [a]",
        es_status=400,
        es_type="document_parsing_exception",
        index="logs-1",
        document_id="id4",
        model="gpt-1",
        attempts=2,
    )


# Documents that fail with an error of the server


def fail(rig, batch, times):
    """Let documents fail so often; return their batch, None once it is not sent again."""
    for _ in range(times):
        rig.answer(batch, BROKEN)
        rig.clock.now += 60.0
        batch = next(iter(rig.send()), None)
    return batch


def test_documents_that_fail_are_sent_again_together_after_a_wait(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0, 1, 2), GOOD, BROKEN, BROKEN)
    assert rig.send() == []
    rig.clock.now += 0.25
    assert [op.document_id for batch in rig.send() for op in batch.operations] == ["id1", "id2"]


def test_documents_that_fail_while_others_of_their_index_pass_become_letters(values):
    rig = ResultsRig(values)
    batch = fail(rig, rig.batch(0, 1), MAX_REFUSED_ATTEMPTS - 1)
    rig.create(rig.batch(2))
    rig.answer(batch, BROKEN)
    assert [letter.cause.disposition for letter in rig.letters.letters] == ["exhausted"] * 2
    assert not rig.sender.index_pauses


def test_an_index_in_which_nothing_passes_waits_and_makes_no_letter(values):
    rig = ResultsRig(values)
    rig.create(rig.batch(2))
    batch = fail(rig, rig.batch(0, 1), MAX_REFUSED_ATTEMPTS - 1)
    rig.answer(batch, BROKEN)
    assert not rig.letters.letters
    assert rig.sender.index_pauses.held == 2
    assert rig.sender.index_pauses.reason(rig.clock() + 60.0) == (
        "index logs-1: 500 null_pointer_exception: oops "
        "(no document passes; see Elasticsearch's log); 2 documents wait"
    )


def test_what_passes_just_before_a_server_breaks_is_no_evidence(values):
    """Requests that were under way already are answered after the first failure."""
    rig = ResultsRig(values)
    batch = fail(rig, rig.batch(0), 1)
    rig.create(rig.batch(2))
    batch = fail(rig, batch, MAX_REFUSED_ATTEMPTS - 2)
    rig.answer(batch, BROKEN)
    assert not rig.letters.letters


def test_what_passes_in_another_index_is_no_evidence(values):
    rig = ResultsRig(values)
    batch = fail(rig, rig.batch(0), MAX_REFUSED_ATTEMPTS - 1)
    rig.create(rig.batch(2, index="logs-2"))
    rig.answer(batch, BROKEN)
    assert not rig.letters.letters
    assert list(rig.sender.index_pauses.names) == ["logs-1"]


def test_on_a_quiet_day_a_document_that_fails_ends_once_another_has_passed(values):
    rig = DeliveryRig(lambda offset: [BROKEN] if offset == 0 else [GOOD], values[:3])
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.until(lambda: "null_pointer_exception" in rig.delivery.unhealthy)
    rig.delivery.accept(rig.span, records[1:])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 2)
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 2, Outcome.DEAD: 1}
    assert rig.delivery.unhealthy == ""


# Documents of an index that takes nothing


def test_a_closed_index_keeps_its_own_documents_waiting_and_no_others(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0, 1), CLOSED)
    rig.sender.put(rig.batch(2), rig.batch(3, index="logs-2"))
    assert [op.document_id for batch in rig.send() for op in batch.operations] == ["id3"]
    assert rig.sender.index_pauses.held == 3
    assert not rig.sender.paused
    assert rig.elasticsearch.forgotten == ["logs-1"]


def test_a_batch_over_several_indices_goes_on_without_the_paused_one(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0), CLOSED)
    mixed = rig.batch(1, 2, 3, indices=["logs-2", "logs-1", "logs-2"])
    rig.sender.put(mixed)
    (sent,) = rig.send()
    assert [op.document_id for op in sent.operations] == ["id1", "id3"]
    assert sent.body().count(b"\n") == 4


def test_a_paused_index_takes_documents_again_once_its_probe_has_passed(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0, 1, 2), CLOSED)
    rig.clock.now += 60.0
    (probe,) = rig.send()
    assert [op.document_id for op in probe.operations] == ["id0"]
    rig.create(probe)
    (others,) = rig.send()
    assert [op.document_id for op in others.operations] == ["id1", "id2"]
    assert not rig.sender.index_pauses


def test_a_probe_that_is_pushed_back_says_nothing_about_its_index(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0), CLOSED)
    rig.clock.now += 60.0
    (probe,) = rig.send()
    rig.answer(probe, BUSY)
    assert rig.sender.index_pauses.held == 1
    assert rig.send() == []


def test_a_probe_that_gets_no_answer_waits_again(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0), CLOSED)
    rig.clock.now += 60.0
    (probe,) = rig.send()
    rig.refuse(probe, 503)
    assert rig.sender.index_pauses.held == 1
    rig.clock.now += 60.0
    (again,) = rig.send()
    rig.create(again)
    assert rig.counts == {Outcome.INDEXED: 1}


def test_the_letter_of_a_document_that_waited_names_the_bound_and_the_answer(values):
    rig = ResultsRig(values)
    rig.sender.set_newest("logs-2")
    rig.answer(rig.batch(4, sent=2), CLOSED)
    rig.results.give_up(rig.sender.index_pauses.give_up(rig.clock() + 300.0))
    (letter,) = rig.letters.letters
    assert letter.cause == Cause(
        Stage.INDEX,
        Ending.EXHAUSTED,
        reason="the index took none for 300 s: closed",
        es_status=400,
        es_type="index_closed_exception",
        index="logs-1",
        document_id="id4",
        model="gpt-1",
        attempts=2,
    )


def test_a_long_answer_is_cut_in_the_reason_of_a_pause(values):
    rig = ResultsRig(values)
    rig.answer(rig.batch(0), (400, {"type": "index_closed_exception", "reason": "x" * 400}))
    begin = "400 index_closed_exception: "
    assert rig.sender.index_pauses.reason(0.0) == (
        f"index logs-1: {begin}{'x' * (300 - len(begin))} (open the index); 1 document waits"
    )


def test_items_that_are_sent_again_keep_no_larger_body_alive(values):
    rig = ResultsRig(values)
    batch = rig.batch(0, 1, 2, 3, document=b"{}" + b" " * 1000)
    rig.answer(batch, GOOD, GOOD, GOOD, BUSY)
    rig.clock.now += 60.0
    (again,) = rig.send()
    assert len(again.source) == again.size
    assert again.body() == batch.body()[-again.size :]


# Documents that an ingest pipeline dropped, or sent elsewhere

NOOP = (200, None)


def test_a_document_that_an_ingest_pipeline_drops_is_a_letter_that_says_so(values):
    rig = DeliveryRig(lambda offset: [NOOP] if offset == 3 else [GOOD], values)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 19, Outcome.DEAD: 1}
    (letter,) = rig.letters.letters
    assert (letter.cause.stage, letter.cause.disposition) == ("index", "permanent")
    assert letter.cause.es_status == 200
    assert "an ingest pipeline of the index dropped the document" in letter.cause.message
    assert "LLMLOG_INGEST_DROP=drop" in letter.cause.message


def test_a_declared_drop_is_an_outcome_of_its_own(values):
    rig = DeliveryRig(
        lambda offset: [NOOP] if offset == 3 else [GOOD], values, is_drop_declared=True
    )
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 19, Outcome.DROPPED: 1}
    assert not rig.letters.letters
    assert rig.breaker.share == 0.0


def test_documents_that_went_to_another_index_are_counted_and_told(values):
    rig = ResultsRig(values)
    batch = rig.batch(0, 1, 2)
    items = [ItemResult(op, judge_item(201, None), 201, None) for op in batch.operations]
    with capture_logs() as lines:
        rig.results.handle(
            BulkResponse(batch, items=items, status=200, rerouted=Counter({"logs-x": 2, "y": 1}))
        )
    assert rig.results.counts["rerouted"] == 3
    assert rig.counts == {Outcome.INDEXED: 3}
    (line,) = lines
    assert (line["index"], line["meant_for"]) == ("logs-x", ["logs-1"])


# Requests that are sent again


@pytest.mark.parametrize(
    ("status", "detail", "why"),
    [
        (0, "[Errno 111] Connection refused", "[Errno 111] Connection refused"),
        (503, "503 [a value]", "503 […]"),
    ],
)
def test_a_wait_for_elasticsearch_is_logged_with_its_reason_once_a_minute(
    values, status, detail, why
):
    rig = ResultsRig(values)
    verdict = Verdict(Disposition.RETRY)
    with capture_logs() as lines:
        for seconds in (0.0, 59.0, 1.0):
            rig.clock.now += seconds
            response = BulkResponse(rig.batch(0), verdict=verdict, status=status, detail=detail)
            rig.results.handle(response)
    line = {"event": "waiting for Elasticsearch", "log_level": "warning", "why": why}
    assert lines == [line, {**line, "left_out": 1}]
    assert rig.results.counts["retries"] == 3


def test_a_refused_request_is_halved_and_the_size_of_requests_is_kept(values):
    """Only a server that says that a request is too large tells what size it takes."""
    rig = ResultsRig(values)
    before = rig.builder.max_bytes
    rig.refuse(rig.batch(0, 1), 400, {"type": "x_content_parse_exception"}, detail="400")
    assert rig.builder.max_bytes == before
    assert [len(batch.operations) for batch in rig.send()] == [1, 1]


def pushed_back(values, *offsets, size, attempts=MAX_PUSHED_BACK_ATTEMPTS):
    """Return a rig in which a request of so many bytes was pushed back so often."""
    rig = ResultsRig(values)
    overhead = rig.batch(*offsets, document=b"").size
    document, odd = divmod(size - overhead, len(offsets))
    assert not odd
    batch = rig.batch(*offsets, document=b" " * document, sent=attempts)
    assert batch.size == size
    rig.refuse(batch, *BUSY, detail="429")
    return rig


def test_two_documents_that_are_pushed_back_together_are_sent_apart(values):
    rig = pushed_back(values, 0, 1, size=SMALL_BATCH_BYTES + 2)
    rig.clock.now += 60.0
    assert [len(batch.operations) for batch in rig.send()] == [1, 1]


def test_a_small_request_that_is_pushed_back_is_not_halved(values):
    rig = pushed_back(values, 0, 1, size=SMALL_BATCH_BYTES)
    rig.clock.now += 60.0
    assert [len(batch.operations) for batch in rig.send()] == [2]


def test_one_document_that_is_pushed_back_waits_longer_and_longer(values):
    rig = pushed_back(values, 0, size=SMALL_BATCH_BYTES + 1, attempts=9)
    rig.clock.now += 2.9
    assert rig.send() == []
    rig.clock.now += 30.0
    assert [len(batch.operations) for batch in rig.send()] == [1]


# The rest of a probe


def test_what_is_left_of_a_probe_is_the_next_probe():
    """The server is away while the pause lasts: that alone does not end the pause."""
    values = [encoded(seed) for seed in range(4)]
    rig = DeliveryRig(
        always(GOOD),
        values,
        whole=[DENIED, None, (503, {}), (503, {})],
        limits=DeliveryLimits(batch_operations=2),
    )
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason)
    rig.until(lambda: len(rig.elasticsearch.requests) == 4)
    assert rig.delivery.pause_reason, "two probes met a server that was away"
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 4}


# The share of failures that opens the circuit


def shares(script, count=1200):
    """Return the share of failures after records that were shuffled, and the circuit's state."""
    values = [encoded(seed % 50) for seed in range(count)]
    rig = DeliveryRig(script, values, limits=DeliveryLimits(batch_operations=100))
    rig.accept_all(step=100)
    rig.until_settled()
    return rig.breaker.share, rig.breaker.open


@pytest.mark.parametrize("bad", [range(30), range(70, 100), range(0, 100, 10)])
def test_indexed_documents_count_against_the_share_of_failures(bad):
    """Wherever in a request the refused documents stand."""
    share, is_open = shares(lambda offset: [MAPPING] if offset % 100 in bad else [GOOD])
    assert not is_open
    assert share == pytest.approx(len(bad) / 100, abs=0.001)
    assert share > ALERT_SHARE


def test_whole_requests_of_indexed_documents_count_against_the_share_of_failures():
    share, is_open = shares(lambda offset: [MAPPING] if offset < 500 else [GOOD], count=2000)
    assert not is_open
    assert share == pytest.approx(0.25, abs=0.02)


def test_decoded_records_count_against_the_share_of_failures():
    values = [encoded(n % 50) if n % 3 else b"garbage" for n in range(1200)]
    rig = DeliveryRig(always(GOOD), values)
    rig.accept_all(step=100)
    rig.until_settled()
    assert not rig.breaker.open
    assert rig.breaker.share == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("answer", [GOOD, TWICE])
def test_documents_that_exist_close_the_circuit(answer):
    """Whether this attempt created them, or an earlier one."""
    values = [encoded(seed % 50) for seed in range(1200)]
    current = types.SimpleNamespace(answer=MAPPING)
    rig = DeliveryRig(lambda _: [current.answer], values)
    rig.accept_all()
    rig.until(lambda: rig.breaker.held)
    current.answer = answer
    rig.until_settled()
    assert not rig.breaker.open

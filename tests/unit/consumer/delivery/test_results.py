"""The step after each answer: what is settled, counted, retried, and who is at fault."""

import pytest

from llmlog_consumer.delivery.circuit_breaker import ALERT_SHARE
from llmlog_consumer.delivery.pipeline import DeliveryLimits
from llmlog_consumer.delivery.results import MAX_REFUSED_ATTEMPTS
from llmlog_consumer.outcomes import Outcome
from support.fakes.delivery import DeliveryRig, FakeRecord, always
from support.payloads import encoded

MAPPING = (400, {"type": "document_parsing_exception", "reason": "failed to parse field [a]"})
BUSY = (429, {"type": "es_rejected_execution_exception", "reason": "queue full"})
AWAY = (503, {"type": "unavailable_shards_exception", "reason": "not active"})
BROKEN = (500, {"type": "null_pointer_exception", "reason": "oops"})
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
    rig = DeliveryRig(always(GOOD), values, whole=[(302, {}), (302, {})])
    rig.accept_all()
    rig.until_settled()
    assert rig.delivery.counts["unclassified"] == 2


def test_documents_in_the_failure_store_are_counted(values):
    rig = DeliveryRig(always(GOOD), values)
    rig.elasticsearch.failure_store = 2
    rig.accept_all()
    rig.until_settled()
    assert rig.delivery.counts["failure_store"] == 2
    assert rig.counts == {Outcome.INDEXED: 20}


def test_a_document_whose_json_is_broken_is_our_own_fault(values):
    broken = encoded(4, document=b'{"a": }')
    rig = DeliveryRig(lambda offset: [MAPPING], [broken, values[0]])
    rig.accept_all()
    rig.until_settled()
    ours, theirs = (letter.cause for letter in rig.letters.letters)
    assert (ours.stage, ours.disposition, ours.es_type) == ("transform", "poison", "")
    assert ours.exception.startswith("TransformError: document is no valid JSON")
    assert (theirs.stage, theirs.disposition) == ("index", "permanent")
    assert theirs.es_type == "document_parsing_exception"
    assert theirs.model.startswith("gpt-")


def test_a_letter_names_how_often_its_document_was_sent(values):
    rig = DeliveryRig(always(AWAY, AWAY, MAPPING), values[:1])
    rig.accept_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.cause.attempts == 3


# One document alone in a request that fails


def alone_beside_others(rig, values):
    """Send document 0 alone, and each of the others between its attempts."""
    rig.delivery.accept(rig.span, [FakeRecord(0, values[0])])
    rig.delivery.flush()
    for offset, value in enumerate(values[1:], start=1):
        rig.turn()
        rig.delivery.accept(rig.span, [FakeRecord(offset, value)])
        rig.delivery.flush()


def test_a_document_refused_alone_while_others_succeed_becomes_a_letter(values):
    rig = DeliveryRig(always(GOOD), values)
    rig.elasticsearch.whole_by_offsets = lambda offsets: (500, {}) if offsets == [0] else None
    alone_beside_others(rig, values)
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 19, Outcome.DEAD: 1}
    (letter,) = rig.letters.letters
    assert (letter.cause.stage, letter.cause.disposition) == ("index", "exhausted")
    assert letter.cause.attempts == MAX_REFUSED_ATTEMPTS


def test_a_document_cut_off_alone_while_others_succeed_never_becomes_a_letter(values):
    rig = DeliveryRig(always(GOOD), values)
    attempts = []

    def cut_off(offsets):
        attempts.extend(offset for offset in offsets if offset == 0)
        return (0, {}) if offsets == [0] and len(attempts) < 15 else None

    rig.elasticsearch.whole_by_offsets = cut_off
    alone_beside_others(rig, values)
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 20}
    assert len(attempts) == 15


# The rest of a probe


def test_what_is_left_of_a_probe_is_the_next_probe():
    """The server is away while the pause lasts: that alone does not end the pause."""
    values = [encoded(seed) for seed in range(4)]
    rig = DeliveryRig(
        always(GOOD),
        values,
        whole=[(401, {}), None, (503, {}), (503, {})],
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

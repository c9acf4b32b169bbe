"""Records in, outcomes out: whatever Elasticsearch says, each record ends exactly once."""

import time
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from llmlog_common.errors import Unreachable
from llmlog_consumer.dead_letters.cause import Ending, Stage
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.elasticsearch.error_rules import Disposition
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_consumer.outcomes import Outcome
from llmlog_schemas.codec import Encoder, schema_text
from llmlog_schemas.convert import to_event
from support.fakes.delivery import DeliveryRig, FakeRecord, FakeRegistry, always
from support.payloads import encoded, event, payload

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
    return [encoded(seed) for seed in range(60)]


@given(
    answers=st.lists(
        st.lists(st.sampled_from([BUSY, AWAY, BROKEN, CLOSED]), max_size=3).flatmap(
            lambda before: st.sampled_from([GOOD, TWICE, MAPPING]).map(lambda end: [*before, end])
        ),
        min_size=1,
        max_size=30,
    ),
    whole=st.lists(
        st.sampled_from(
            [None, (503, {}), (413, {}), DENIED, (500, {}), (200, {}), (400, {}), (0, {})]
        ),
        max_size=8,
    ),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_each_record_ends_exactly_once_whatever_the_server_answers(answers, whole, order):
    script = dict(enumerate([list(a) for a in answers]))
    values = [encoded(seed) for seed in range(len(answers))]
    rig = DeliveryRig(script.__getitem__, values, whole, pick=order.randrange)
    rig.accept_all()
    rig.until_settled()
    assert all(number == 1 for number in rig.elasticsearch.stored.values())
    dead = {letter.record.offset() for letter in rig.letters.letters}
    for offset, given_answers in enumerate(answers):
        if given_answers[-1] is GOOD and offset not in dead:
            assert rig.elasticsearch.stored[offset] == 1
    assert rig.counts[Outcome.DEAD] == len(rig.letters.letters) == len(dead)


def test_a_wrong_deployment_holds_every_record_and_makes_no_letter(values):
    rig = DeliveryRig(always(CLOSED, CLOSED, CLOSED, GOOD), values)
    rig.accept_all()
    rig.until(lambda: rig.delivery.unhealthy)
    assert "open the index" in rig.delivery.unhealthy
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60
    assert not rig.letters.letters
    assert rig.delivery.unhealthy == ""
    assert rig.elasticsearch.forgotten


def test_only_the_probe_is_sent_during_a_pause(values):
    rig = DeliveryRig(
        always(GOOD),
        values,
        whole=[(401, {})] * 99,
        limits=DeliveryLimits(batch_operations=10),
    )
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason and not rig.executor.under_way)
    assert rig.delivery.is_blocked
    sent = len(rig.elasticsearch.requests)
    rig.turn(0.0)
    assert len(rig.elasticsearch.requests) == sent
    assert not rig.executor.under_way, "not before its time"
    rig.turn(60.0)
    assert rig.executor.under_way == 1
    rig.turn(0.0)
    assert len(rig.elasticsearch.requests) == sent + 1
    assert not rig.executor.under_way, "its refusal makes the next one wait"
    rig.delivery.close()


def test_what_waits_for_an_index_is_dropped_with_its_partition(values):
    rig = DeliveryRig(always(CLOSED), values)
    rig.accept_all()
    rig.until(lambda: rig.delivery.waiting(for_time=False)[0] == 60)
    rig.executor.finish()
    rig.delivery.step()
    rig.span.released = True
    rig.delivery.drop_released()
    assert not rig.delivery.waiting(for_time=False).total()
    rig.delivery.close()


def test_a_server_that_fails_all_documents_holds_them_and_makes_no_letter(values):
    rig = DeliveryRig(always(*[BROKEN] * 9, GOOD), values)
    rig.accept_all()
    rig.until(lambda: rig.delivery.unhealthy)
    assert "Elasticsearch's log" in rig.delivery.unhealthy
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60


def test_one_document_that_always_fails_is_rejected_alone(values):
    rig = DeliveryRig(lambda offset: [BROKEN] if offset == 7 else [GOOD], values)
    rig.delivery.accept(rig.span, [FakeRecord(7, values[7])])
    for offset in [*range(7), *range(8, 60)]:
        rig.turn()
        rig.delivery.accept(rig.span, [FakeRecord(offset, values[offset])])
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.record.offset() == 7
    assert letter.cause.disposition == "exhausted"
    assert rig.counts[Outcome.INDEXED] == 59


def test_a_request_too_large_is_halved_and_later_ones_stay_below_its_size(values):
    rig = DeliveryRig(always(GOOD), values * 2, whole=[(413, {})])
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:60])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 60)
    assert [len(request) for request in rig.elasticsearch.requests] == [60, 30, 30]
    rig.delivery.accept(rig.span, records[60:])
    rig.until_settled()
    too_large, _, _, *later = rig.elasticsearch.request_bytes
    assert len(later) >= 2
    assert max(later) <= too_large // 2


def test_a_request_that_is_pushed_back_again_and_again_is_halved(values):
    rig = DeliveryRig(always(GOOD), [encoded(n) for n in range(200)], whole=[BUSY] * 4)
    rig.accept_all()
    rig.until_settled()
    assert [len(request) for request in rig.elasticsearch.requests] == [200] * 4 + [100, 100]
    assert rig.counts[Outcome.INDEXED] == 200


def test_answers_that_are_always_cut_short_pause_indexing(values):
    rig = DeliveryRig(always(GOOD), values, whole=[(200, {})] * 300)
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason)
    assert "cuts its answers" in rig.delivery.unhealthy
    rig.until_settled()
    assert not rig.letters.letters


@pytest.mark.parametrize("status", [413, 403])
def test_the_text_of_a_proxy_in_the_servers_place_is_not_quoted(values, status):
    """A firewall that quotes the request it stopped quotes a prompt."""
    error = {"reason": 'stopped: "the prompt"'}
    rig = DeliveryRig(always(GOOD), values[:1], whole=[(status, error)])
    rig.accept_all()
    with capture_logs() as lines:
        rig.until(lambda: lines)
    assert "the prompt" not in f"{lines} {rig.delivery.unhealthy}"
    assert "stopped" in str(lines)
    rig.until_settled()


@pytest.mark.parametrize("answer", [(0, {}), (503, AWAY[1]), (200, {}), DENIED])
def test_concurrency_does_not_grow_by_requests_that_failed(values, answer):
    rig = DeliveryRig(always(GOOD), values, whole=[answer] * 5)
    rig.accept_all()
    rig.until(lambda: len(rig.elasticsearch.requests) == 5)
    assert rig.concurrency.size == 2.0
    rig.until_settled()
    assert rig.concurrency.size > 2.0


@pytest.mark.parametrize("number", [60, 2])
def test_a_request_that_is_cut_off_again_and_again_is_halved(values, number):
    rig = DeliveryRig(always(GOOD), values[:number], whole=[(0, {})] * 6)
    rig.accept_all()
    rig.until_settled()
    sizes = [len(request) for request in rig.elasticsearch.requests]
    assert sizes == [number] * 6 + [number // 2] * 2
    assert rig.counts == {Outcome.INDEXED: number}


def test_a_document_that_is_cut_off_alone_is_sent_until_it_succeeds(values):
    rig = DeliveryRig(always(GOOD), values[:1], whole=[(0, {})] * 50)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 1}
    assert not rig.letters.letters


def test_released_records_are_not_sent_again(values):
    rig = DeliveryRig(always(BUSY), values)
    rig.accept_all()
    rig.until(lambda: rig.delivery.counts["retries"])
    rig.span.released = True
    sent = len(rig.elasticsearch.requests)
    for _ in range(10):
        rig.turn()
    assert len(rig.elasticsearch.requests) <= sent + 1
    rig.delivery.close()


def test_records_are_held_while_the_circuit_is_open_and_tried_again_later():
    values = [encoded(seed) for seed in range(1500)]
    fixed = types.SimpleNamespace(yes=False)
    rig = DeliveryRig(lambda _: [GOOD] if fixed.yes else [MAPPING], values)
    rig.accept_all(step=500)
    rig.until(lambda: rig.delivery.circuit_open)
    for _ in range(20):
        rig.turn()
    letters = len(rig.letters.letters)
    assert letters < 1000
    assert rig.delivery.is_blocked
    assert sum(rig.counts.values()) == letters
    fixed.yes = True
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 1500 - letters
    assert rig.counts[Outcome.DEAD] == letters


def test_every_disposition_has_a_next_step():
    assert {d.value for d in Disposition} == {
        "indexed",
        "duplicate",
        "retry",
        "bisect",
        "check",
        "permanent",
        "dropped",
        "configuration",
    }


@pytest.mark.parametrize("status", [200, 302, 400, 403, 413, 500])
def test_a_server_that_refuses_every_request_pauses_and_makes_no_letter(values, status):
    """A load balancer that answers for itself, whatever it is asked."""
    rig = DeliveryRig(always(GOOD), values, whole=[(status, {})] * 300)
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason)
    assert len(rig.elasticsearch.requests) < 100, "not each document by itself"
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60
    assert not rig.letters.letters


def test_a_refused_request_does_not_hide_failing_items(values):
    rig = DeliveryRig(always(BROKEN, BROKEN, GOOD), values, whole=[(500, {})])
    rig.accept_all()
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60


def test_an_open_circuit_closes_when_all_its_records_are_released():
    values = [encoded(seed) for seed in range(50)] * 40
    rig = DeliveryRig(always(MAPPING), values)
    rig.accept_all()
    rig.until(lambda: rig.breaker.held > 900)
    rig.span.released = True
    rig.turn(0.1)
    assert not rig.delivery.is_blocked
    rig.delivery.close()


CIRCUIT = "0123456789ab"


def test_an_open_circuit_is_noted_and_restored_by_the_next_owner_with_one_probe(values):
    rig = DeliveryRig(always(MAPPING), [encoded(seed) for seed in range(300)])
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    rig.delivery.restore(1, {"circuit": "fedcba987654"})
    assert (rig.delivery.room, rig.delivery.is_blocked) == (100, False)
    assert rig.delivery.memory(0) == {"circuit": CIRCUIT}
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:70])
    assert rig.delivery.room == 30
    rig.delivery.accept(rig.span, records[70:100])
    assert (rig.delivery.room, rig.delivery.is_blocked) == (None, True)
    assert rig.delivery.is_probing
    rig.delivery.flush()
    rig.executor.finish()
    rig.delivery.step()
    assert rig.delivery.circuit_open
    assert not rig.delivery.is_probing
    assert (rig.breaker.held, len(rig.letters.letters)) == (100, 0)
    noted = rig.delivery.memory(0)["circuit"]
    assert noted == rig.breaker.cause != CIRCUIT, "what these fail with"
    rig.delivery.close()


def test_a_good_probe_clears_the_note_of_a_circuit(values):
    rig = DeliveryRig(always(GOOD), [encoded(seed) for seed in range(100)])
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    rig.accept_all()
    rig.until_settled()
    assert rig.delivery.memory(0) == {}
    assert (rig.delivery.room, rig.delivery.circuit_open) == (None, "")


@pytest.mark.parametrize("circuit", ["", "x", CIRCUIT + "0", "0123456789AB"])
def test_a_note_that_names_no_fingerprint_opens_nothing(values, circuit):
    rig = DeliveryRig(always(GOOD), values[:1])
    rig.delivery.restore(0, {"circuit": circuit})
    rig.delivery.restore(0, {})
    assert rig.delivery.room is None
    rig.delivery.close()


def test_a_restored_circuit_is_nothing_to_fix_before_it_holds_a_record(values):
    rig = DeliveryRig(always(GOOD), values[:1])
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    assert rig.delivery.unhealthy == ""
    rig.accept_all()
    assert CIRCUIT in rig.delivery.unhealthy
    rig.delivery.close()


def test_a_drain_does_not_wait_for_the_rest_of_a_probe(values):
    rig = DeliveryRig(always(MAPPING), values[:5])
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    rig.accept_all()
    rig.until(lambda: rig.breaker.held == 5, max_turns=5)
    assert rig.delivery.is_stuck
    rig.delivery.forget_circuit()
    assert not rig.delivery.is_blocked
    rig.delivery.close()


def test_a_probe_that_is_released_does_not_keep_the_circuit_open():
    values = [encoded(seed) for seed in range(1100)]
    answers = types.SimpleNamespace(now=MAPPING)
    rig = DeliveryRig(lambda _: [answers.now], values)
    rig.accept_all()
    rig.until(lambda: rig.breaker.held > 50)
    for _ in range(4):
        rig.turn(0.1)
    answers.now = AWAY
    rig.until(lambda: rig.breaker.probing)
    rig.span.released = True
    rig.turn()
    answers.now = GOOD
    rig.until(lambda: not rig.delivery.is_blocked)
    rig.delivery.close()


@pytest.mark.parametrize(
    "error",
    [
        {
            "type": "es_rejected_execution_exception",
            "reason": "rejected execution of primary operation [all_bytes=0, "
            "primary_operation_bytes=900, max_primary_bytes=100]",
        },
        {"type": "circuit_breaking_exception", "reason": "[request] x", "durability": "PERMANENT"},
    ],
)
def test_one_document_that_is_pushed_back_for_its_size_is_rejected_as_too_large(values, error):
    rig = DeliveryRig(lambda o: [(429, error)] if o == 1 else [GOOD], values[:3])
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 2, Outcome.DEAD: 1}
    (letter,) = rig.letters.letters
    assert (letter.cause.stage, letter.cause.disposition) == ("oversize", "permanent")
    assert letter.cause.es_status == 429
    assert error["reason"] in letter.cause.reason


def test_concurrency_does_not_grow_by_a_request_without_a_settled_item(values):
    rig = DeliveryRig(always(*[AWAY] * 9, GOOD), values[:1])
    rig.accept_all()
    rig.delivery.flush()
    before = rig.concurrency.size
    rig.until(lambda: len(rig.elasticsearch.requests) > 8)
    assert rig.concurrency.size == before
    rig.until_settled()


# The end of rejected records


def test_a_rejected_record_is_settled_when_its_letter_is_delivered_and_not_before(values):
    rig = DeliveryRig(always(MAPPING), values[:3])
    rig.letters.deliver = False
    rig.accept_all()
    rig.until(lambda: len(rig.letters.letters) == 3)
    for _ in range(5):
        rig.turn()
    assert not rig.counts
    assert not rig.delivery.dead_letters
    rig.letters.deliver = True
    rig.until_settled()
    assert rig.counts == {Outcome.DEAD: 3}
    assert sum(rig.delivery.dead_letters.values()) == 3


def test_a_record_without_a_value_is_settled_when_its_letter_is_delivered_and_not_before():
    rig = DeliveryRig(always(GOOD), [None])
    rig.letters.deliver = False
    rig.accept_all()
    for _ in range(5):
        rig.turn()
    assert len(rig.letters.letters) == 1
    assert not rig.counts
    rig.letters.deliver = True
    rig.until_settled()
    assert rig.counts == {Outcome.DEAD: 1}


def test_a_letter_on_its_way_keeps_a_blocked_delivery_from_being_stuck(values):
    """A drain waits for letters, and ends where only a person can help."""
    rig = DeliveryRig(
        lambda offset: [MAPPING] if offset == 0 else [CLOSED],
        values[:2],
    )
    rig.letters.deliver = False
    rig.accept_all()
    rig.until(lambda: rig.delivery.unhealthy and rig.letters.pending)
    rig.executor.finish()
    rig.delivery.step()
    assert not rig.executor.under_way
    assert not rig.delivery.is_stuck
    rig.letters.deliver = True
    rig.delivery.step()
    rig.until(lambda: rig.delivery.is_stuck, max_turns=50)
    rig.delivery.close()


# Indices that take nothing


def of_day(seed, days_ago):
    """Return the value of an event that began so many days ago."""
    began = time.time() - days_ago * DAY_MS / 1000
    return Encoder().encode(to_event(payload(seed, startTime=began, endTime=began + 1)))


def test_a_closed_index_holds_its_own_records_and_all_others_are_indexed():
    values = [of_day(n, 3 if n % 5 == 0 else 0) for n in range(40)]
    closed = types.SimpleNamespace(now=True)
    rig = DeliveryRig(lambda o: [CLOSED] if o % 5 == 0 and closed.now else [GOOD], values)
    rig.accept_all()
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 32)
    assert rig.delivery.waiting(for_time=False) == {0: 8}
    assert not rig.delivery.is_blocked
    closed.now = False
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 40}


def test_a_record_that_waits_for_its_index_is_replaced_in_a_probe():
    values = [of_day(n, 3 if n % 5 == 0 else 0) for n in range(10)]
    rig = DeliveryRig(lambda o: [CLOSED] if o % 5 == 0 else [GOOD], values)
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    rig.accept_all()
    assert rig.delivery.room == 90
    rig.delivery.flush()
    for _ in range(3):
        rig.turn(0.0)
    assert rig.delivery.waiting(for_time=False) == {0: 2}
    assert rig.delivery.room == 92
    rig.delivery.close()


def test_records_that_wait_for_an_old_index_become_letters_after_the_time():
    values = [of_day(n, 3 if n % 5 == 0 else 0) for n in range(40)]
    rig = DeliveryRig(lambda o: [CLOSED] if o % 5 == 0 else [GOOD], values)
    rig.delivery.set_newest(daily_index("logs", int(time.time() * 1000)))
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 32, Outcome.DEAD: 8}
    assert {letter.record.offset() % 5 for letter in rig.letters.letters} == {0}


def test_later_records_for_a_paused_index_wait_without_being_sent():
    values = [of_day(n, 3) for n in range(10)]
    rig = DeliveryRig(always(CLOSED), values)
    records = [FakeRecord(offset, value) for offset, value in enumerate(values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.until(lambda: rig.delivery.unhealthy)
    sent = len(rig.elasticsearch.requests)
    rig.delivery.accept(rig.span, records[1:])
    rig.delivery.step()
    assert len(rig.elasticsearch.requests) <= sent + 1
    assert rig.delivery.waiting(for_time=False)[0] >= 9
    rig.delivery.close()


# Records that are not indexed


def test_an_expired_record_is_a_letter(values):
    rig = DeliveryRig(always(GOOD), values[:3])
    rig.documents.expired = True
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.DEAD: 3}
    assert {letter.cause.stage for letter in rig.letters.letters} == {Stage.EXPIRED}
    assert not rig.elasticsearch.requests


def test_a_wrong_clock_holds_records_instead_of_making_letters_of_all():
    rig = DeliveryRig(always(GOOD), [encoded(seed) for seed in range(1500)])
    rig.documents.expired = True
    rig.accept_all(step=500)
    rig.until(lambda: rig.breaker.held == 501, max_turns=10)
    assert len(rig.letters.letters) == 999
    rig.documents.expired = False
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 501, Outcome.DEAD: 999}


# The Schema Registry


AWAY_REGISTRY = Unreachable("the Schema Registry cannot be used now")


def framed(seed, schema_id=7):
    return Encoder(schema_id).encode(event(seed))


def mixed(number, schema_id=7):
    """Return values of which every third has Confluent framing."""
    return [framed(n, schema_id) if n % 3 == 0 else encoded(n) for n in range(number)]


def test_no_record_is_skipped_when_the_schema_registry_does_not_answer():
    registry = FakeRegistry()
    registry.answers[7] = AWAY_REGISTRY
    rig = DeliveryRig(always(GOOD), mixed(9), registry=registry)
    rig.accept_all()
    for _ in range(3):
        rig.turn()
    assert rig.counts == {Outcome.INDEXED: 6}, "the others go on"
    assert rig.delivery.unhealthy == (
        "schema id 7: the Schema Registry cannot be used now; 3 records wait, the others go on"
    )
    assert rig.delivery.schema_reason == "", "waiting helps"
    assert rig.delivery.waiting(for_time=False)[0] == 3
    registry.answers[7] = schema_text()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 9}
    assert sorted(rig.elasticsearch.stored) == list(range(9))
    assert (rig.delivery.unhealthy, rig.delivery.waiting(for_time=False)[0]) == ("", 0)


def test_without_a_registry_records_of_a_schema_id_are_held_and_none_becomes_a_letter():
    rig = DeliveryRig(always(GOOD), mixed(3000), registry="unset")
    rig.accept_all(step=500)
    for _ in range(20):
        rig.turn()
    assert rig.counts == {Outcome.INDEXED: 2000}
    assert "set LLMLOG_SCHEMA_REGISTRY_URL; 1000 records wait" in rig.delivery.unhealthy
    assert rig.delivery.schema_reason == rig.delivery.unhealthy
    assert (rig.delivery.is_blocked, rig.delivery.circuit_open) == (False, "")
    rig.delivery.close()


def test_an_unknown_id_is_asked_once_an_interval_and_not_once_a_record():
    registry = FakeRegistry()
    rig = DeliveryRig(always(GOOD), mixed(300), registry=registry)
    rig.accept_all(step=10)
    rig.turn(0.0)
    assert registry.asked == [7]
    for _ in range(10):
        rig.turn(0.05)
    assert registry.asked == [7]
    rig.turn(1.0)
    assert registry.asked == [7, 7]
    assert not rig.letters.letters
    rig.delivery.close()


def test_an_id_that_a_working_registry_does_not_know_ends_in_letters_of_no_row():
    registry = FakeRegistry()
    registry.answers[1] = schema_text()
    values = [framed(n, 1 if n % 2 else 99) for n in range(2600)]
    rig = DeliveryRig(always(GOOD), values, registry=registry)
    rig.accept_all(step=500)
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 1300, Outcome.DEAD: 1300}
    assert registry.asked.count(99) <= 4
    (cause,) = {letter.cause for letter in rig.letters.letters}
    assert (cause.stage, cause.disposition) == (Stage.DECODE, Ending.EXHAUSTED)
    assert "knows no schema 99" in cause.message


def test_a_registry_that_was_restored_empty_makes_no_letter():
    registry = FakeRegistry()
    registry.answers[1] = schema_text()
    rig = DeliveryRig(always(GOOD), [framed(1, 1), framed(2, 1), framed(3, 2)], registry=registry)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 1)
    registry.answers.clear()
    rig.delivery.accept(rig.span, records[1:])
    for _ in range(20):
        rig.turn()
    assert rig.counts == {Outcome.INDEXED: 2}, "what is known already goes on"
    assert rig.delivery.waiting(for_time=False)[0] == 1
    registry.answers = {1: schema_text(), 2: schema_text()}
    rig.until_settled()
    assert not rig.letters.letters


def test_a_registry_with_a_schema_of_another_program_is_taken_for_the_wrong_one():
    registry = FakeRegistry()
    registry.answers[7] = '{"type": "record", "name": "Order", "fields": []}'
    rig = DeliveryRig(always(GOOD), mixed(30), registry=registry)
    rig.accept_all()
    for _ in range(5):
        rig.turn()
    assert "of no version that this release knows" in rig.delivery.unhealthy
    assert rig.counts == {Outcome.INDEXED: 20}
    rig.delivery.close()


def test_released_records_that_wait_for_the_registry_are_not_indexed():
    registry = FakeRegistry()
    registry.answers[7] = AWAY_REGISTRY
    rig = DeliveryRig(always(GOOD), mixed(1), registry=registry)
    rig.accept_all()
    rig.turn()
    rig.span.released = True
    rig.delivery.drop_released()
    assert (rig.delivery.unhealthy, rig.delivery.waiting(for_time=False)[0]) == ("", 0)
    registry.answers[7] = schema_text()
    for _ in range(5):
        rig.turn()
    assert not rig.elasticsearch.requests
    assert not rig.counts
    rig.delivery.close()


def test_partitions_pause_at_the_bound_of_what_is_held_for_their_schemas():
    registry = FakeRegistry()
    large = Encoder(7).encode(event(1)) + b"." * 5_000_000
    rig = DeliveryRig(always(GOOD), [large, large, encoded(2)], registry=registry)
    rig.delivery.accept(rig.span, [FakeRecord(0, large)])
    rig.turn(0.0)
    assert rig.delivery.full_partitions == frozenset()
    rig.delivery.accept(rig.span, [FakeRecord(1, large)])
    assert rig.delivery.full_partitions == {0}
    assert "2 records wait, partitions 0 paused" in rig.delivery.unhealthy
    assert not rig.delivery.is_blocked
    registry.answers[7] = schema_text()
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 2)
    assert rig.delivery.full_partitions == frozenset()
    rig.delivery.close()


def test_a_record_that_waits_for_its_schema_is_replaced_in_a_probe():
    rig = DeliveryRig(always(GOOD), mixed(3), registry="unset")
    rig.delivery.restore(0, {"circuit": CIRCUIT})
    rig.accept_all()
    assert rig.delivery.room == 98
    rig.delivery.close()

"""Requests that are refused as a whole: found out whose fault it is, whatever refuses them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.controls import MAX_LETTERS, MAX_UNPROVEN
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.delivery.pauses.index_pauses import HoldLimits
from llmlog_consumer.elasticsearch.error_rules import MANY
from llmlog_consumer.outcomes import Outcome
from support.fakes.delivery import DeliveryRig, FakeRecord, ResultsRig, always
from support.payloads import encoded

GOOD = (201, None)
FOREIGN = {"reason": "<html>"}
OWN = {"type": "x_content_parse_exception", "reason": "no"}
DENIED = (401, {"type": "security_exception", "reason": "missing credentials"})
AWAY = (503, {"type": "master_not_discovered_exception", "reason": "x"})
BUSY = (429, {"type": "es_rejected_execution_exception", "reason": "queue full"})
ABOVE = {
    "type": "circuit_breaking_exception", "reason": "[request] x",
    "bytes_wanted": 900, "bytes_limit": 100,
}  # fmt: skip
ITEM_ABOVE = (
    429,
    {
        "type": "es_rejected_execution_exception",
        "reason": "rejected [coordinating_operation_bytes=900, max_coordinating_bytes=100]",
    },
)

REFUSALS = [
    (200, {}), (301, {}), (302, {}), (400, {}), (400, OWN), (401, {}), (403, FOREIGN), (404, {}),
    (405, {}), (406, {}), (407, {}), (408, {}), (411, {}), (413, {}), (421, {}), (451, {}),
    (460, {}), (499, {}), (500, {}), (500, OWN), (501, {}), (502, {}), (503, {}), (504, {}),
    (520, {}), (0, {}), (429, ABOVE),
]  # fmt: skip
DEPLOYMENT = [(status, error) for status, error in REFUSALS if status in {302, 400, 401, 403, 413}]


TWENTY = [encoded(seed) for seed in range(20)]


@pytest.fixture(scope="module")
def values():
    return [encoded(seed) for seed in range(60)]


def refusing(values, answer, *refused, **options):
    """Return a rig before whose server something refuses each request with one of these."""
    rig = DeliveryRig(always(GOOD), values, **options)
    rig.elasticsearch.whole_by_offsets = lambda offsets: (
        answer if set(offsets) & set(refused) else None
    )
    return rig


# One document that something between refuses


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_document_that_is_refused_becomes_a_letter_and_all_others_are_indexed(values, answer):
    rig = refusing(values, answer, 17)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}
    (letter,) = rig.letters.letters
    assert letter.record.offset() == 17
    assert rig.delivery.unhealthy == ""


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("first", [0, 59])
def test_a_document_at_the_edge_of_its_batch_is_found(values, answer, first):
    rig = refusing(values, answer, first)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}


def test_one_refused_document_is_found_in_few_requests():
    values = [encoded(seed) for seed in range(1000)]
    rig = refusing(values, (403, FOREIGN), 321)
    rig.accept_all()
    rig.until_settled()
    assert len(rig.elasticsearch.requests) < 50


def test_other_batches_go_on_while_a_document_is_looked_for(values):
    rig = refusing(values, (403, FOREIGN), 3, limits=DeliveryLimits(batch_operations=10))
    rig.accept_all()
    for _ in range(5):
        rig.turn(0.01)
    assert rig.counts[Outcome.INDEXED] >= 40
    assert not rig.delivery.is_blocked
    rig.until_settled()


def test_the_letter_names_the_answer_what_refuses_and_the_place(values):
    rig = refusing(values, (403, {"reason": "an HTML page"}), 17)
    rig.accept_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.cause.reason == (
        "403 an HTML page (it is not Elasticsearch's own: a proxy or a firewall between refuses "
        "the request)"
    )
    assert (letter.cause.stage, letter.cause.disposition) == ("index", "permanent")
    assert letter.cause.es_status == 403
    assert letter.cause.index.startswith("logs-")
    assert len(letter.cause.document_id) == 20
    assert letter.cause.attempts > 2


@pytest.mark.parametrize(
    ("answer", "stage", "ending"),
    [((413, {}), "oversize", "permanent"), ((504, {}), "index", "exhausted"),
     ((0, {}), "index", "exhausted"), ((400, OWN), "index", "permanent")],
)  # fmt: skip
def test_the_stage_of_the_letter_says_what_was_wrong(values, answer, stage, ending):
    rig = refusing(values, answer, 17)
    rig.accept_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert (letter.cause.stage, letter.cause.disposition) == (stage, ending)


@given(
    refused=st.sets(st.integers(0, 19), max_size=7),
    answer=st.sampled_from(REFUSALS),
    outages=st.lists(st.sampled_from([(503, {}), (403, FOREIGN), (413, {}), (0, {})])),
    order=st.randoms(use_true_random=False),
    size=st.sampled_from([1, 7, 20]),
)
@settings(max_examples=80)
def test_a_letter_has_its_evidence(refused, answer, outages, order, size):
    """Refused alone, then a control that passed, then refused alone again; in that order."""
    rig = refusing(
        TWENTY, answer, *refused,
        whole=outages, pick=order.randrange, limits=DeliveryLimits(batch_operations=size),
    )  # fmt: skip
    rig.accept_all()
    rig.until_settled()
    dead = {letter.record.offset() for letter in rig.letters.letters}
    assert dead == refused
    server = rig.elasticsearch
    indexed = set()
    history = []
    for offsets, status in zip(server.requests, server.answered, strict=True):
        is_control = status == 200 and len(offsets) == 1 and offsets[0] in indexed
        history.append(("control" if is_control else "sent", offsets, status))
        if status == 200 and not set(offsets) & refused:
            indexed.update(offsets)
    for offset in refused:
        alone = [n for n, (_, offsets, _) in enumerate(history) if offsets == [offset]]
        *_, before, last = alone
        assert any(kind == "control" for kind, *_ in history[before:last])


# Everything is refused


@pytest.mark.parametrize("answer", DEPLOYMENT)
def test_where_a_control_is_refused_too_the_deployment_is_wrong(values, answer):
    rig = DeliveryRig(always(GOOD), values)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:20])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 20)
    before = len(rig.elasticsearch.requests)
    wrong = [True]
    rig.elasticsearch.whole_by_offsets = lambda _: answer if wrong[0] else None
    rig.delivery.accept(rig.span, records[20:])
    rig.until(lambda: rig.delivery.pause_reason)
    assert "refuses every request" in rig.delivery.unhealthy or answer == (400, OWN)
    if answer != (400, OWN):
        assert len(rig.elasticsearch.requests) - before == 2, "the request, and the control"
    for _ in range(9):
        rig.turn()
    assert not rig.letters.letters
    wrong[0] = False
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}
    assert not rig.letters.letters
    assert rig.delivery.unhealthy == ""


def test_a_control_that_meets_wrong_credentials_names_them(values):
    rig = refusing(values, (403, FOREIGN), 30)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:20])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 20)
    rig.elasticsearch.whole_by_offsets = lambda offsets: (403, FOREIGN) if 30 in offsets else DENIED
    rig.delivery.accept(rig.span, records[20:])
    rig.until(lambda: rig.delivery.pause_reason)
    assert "check the credentials" in rig.delivery.unhealthy
    rig.elasticsearch.whole_by_offsets = lambda offsets: (403, FOREIGN) if 30 in offsets else None
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}


@pytest.mark.parametrize("away", [AWAY, (504, {}), (0, {})])
def test_a_control_that_meets_an_outage_shows_nothing(values, away):
    rig = refusing(values, (403, FOREIGN), 30)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:20])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 20)
    rig.elasticsearch.whole_by_offsets = lambda offsets: (403, FOREIGN) if 30 in offsets else away
    rig.delivery.accept(rig.span, records[20:])
    for _ in range(50):
        rig.turn()
        assert not rig.delivery.pause_reason
    assert not rig.letters.letters
    rig.elasticsearch.whole_by_offsets = lambda offsets: (403, FOREIGN) if 30 in offsets else None
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}


def test_a_pause_ends_although_each_held_batch_has_a_refused_document(values):
    """Probes become smaller until one holds none; nothing had passed before."""
    rig = refusing(
        values, (403, FOREIGN), *range(0, 60, 3), limits=DeliveryLimits(batch_operations=10)
    )
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 40, Outcome.DEAD: 20}


@pytest.mark.parametrize("passed", [0, 5])
def test_a_refused_document_that_a_pause_alone_holds_stops_nothing(values, passed):
    rig = refusing(values, (403, FOREIGN), 5)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:passed])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == passed)
    by_offsets = rig.elasticsearch.whole_by_offsets
    rig.elasticsearch.whole_by_offsets = lambda _: DENIED
    rig.delivery.accept(rig.span, records[5:6])
    rig.until(lambda: rig.delivery.is_blocked)
    rig.elasticsearch.whole_by_offsets = by_offsets
    rig.until(lambda: not rig.delivery.is_blocked)
    rig.delivery.accept(rig.span, [*records[passed:5], *records[6:20]])
    assert rig.delivery.is_blocked, "no more than that is wanted"
    rig.until(lambda: not rig.delivery.is_blocked)
    rig.delivery.accept(rig.span, records[20:])
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}


@pytest.mark.parametrize("answer", [(403, FOREIGN), (400, OWN), (413, {}), (500, {}), (429, ABOVE)])
def test_a_first_document_that_is_refused_waits_and_stops_no_other(values, answer):
    """Nothing has passed, so nothing is known; what comes later is tried and tells."""
    rig = refusing(values, answer, 0)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.delivery.flush()
    for _ in range(40):
        rig.turn()
    assert not rig.letters.letters
    assert not rig.delivery.is_blocked
    rig.executor.finish()
    rig.delivery.step()
    assert rig.delivery.is_stuck, "a drain does not wait for it"
    assert "t/0/0 is refused alone" in rig.delivery.unhealthy
    rig.delivery.accept(rig.span, records[1:])
    assert not rig.delivery.is_stuck
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 59, Outcome.DEAD: 1}
    assert rig.delivery.unhealthy == ""
    assert not rig.delivery.is_stuck


def test_a_document_that_was_refused_a_few_times_is_waited_for_by_a_drain(values):
    rig = refusing(values, (403, FOREIGN), 0)
    rig.delivery.accept(rig.span, [FakeRecord(0, values[0])])
    rig.delivery.flush()
    rig.until(lambda: len(rig.elasticsearch.requests) == MANY - 1)
    rig.executor.finish()
    rig.delivery.step()
    assert not rig.delivery.is_stuck
    rig.delivery.close()


CLOSED = (400, {"type": "index_closed_exception", "reason": "closed"})


def test_a_refused_document_that_waits_for_its_index_is_said_to_be_refused_no_more(values):
    """It may end as a letter of the index's wait: no answer to it alone ever comes."""
    hold = HoldLimits(wait_seconds=1_000.0)
    rig = refusing(values, (403, FOREIGN), 0, limits=DeliveryLimits(hold=hold))
    rig.delivery.set_newest("logs-9")
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.delivery.flush()
    rig.until(lambda: "t/0/0 is refused alone" in rig.delivery.unhealthy)
    rig.elasticsearch.script = lambda _: [CLOSED]
    rig.delivery.accept(rig.span, records[1:])
    rig.until_settled()
    assert rig.counts == {Outcome.DEAD: 60}
    assert rig.delivery.unhealthy == ""
    assert not rig.delivery.is_stuck


def test_a_refused_document_that_passes_with_others_is_said_to_be_refused_no_more(values):
    rig = refusing(values, (403, FOREIGN), 0)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:1])
    rig.delivery.flush()
    rig.until(lambda: "t/0/0 is refused alone" in rig.delivery.unhealthy)
    rig.elasticsearch.script = lambda _: [CLOSED]
    rig.delivery.accept(rig.span, records[1:])
    rig.until(lambda: rig.delivery.waiting(for_time=False)[0] >= 59)
    for _ in range(3):
        rig.turn()
    rig.elasticsearch.whole_by_offsets = lambda _: None
    rig.elasticsearch.script = lambda _: [GOOD]
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}
    assert rig.delivery.unhealthy == ""


def test_a_probe_that_something_between_refuses_ends_no_pause_of_its_index(values):
    rig = ResultsRig(values)
    rig.sender.set_newest("logs-9")
    rig.create(rig.batch(9, index="logs-9"))  # so a control is known
    rig.answer(rig.batch(0, 1), CLOSED)
    rig.clock.now += 20.0
    (probe,) = rig.send()
    rig.refuse(probe, 403)
    assert "logs-1" in rig.sender.index_pauses.names
    rig.clock.now += 20.0
    control, second = rig.send()
    assert [op.record.offset() for op in (*control.operations, *second.operations)] in (
        [9, 1],
        [1, 9],
    )


def test_a_released_document_is_not_waited_for(values):
    rig = refusing(values, (403, FOREIGN), 0)
    rig.delivery.accept(rig.span, [FakeRecord(0, values[0])])
    rig.delivery.flush()
    rig.until(lambda: rig.delivery.unhealthy)
    rig.span.released = True
    assert rig.delivery.unhealthy == ""
    rig.delivery.close()


def test_many_first_documents_that_are_refused_pause(values):
    rig = refusing(values, (403, FOREIGN), *range(60), limits=DeliveryLimits(batch_operations=1))
    rig.accept_all()
    rig.until(lambda: rig.delivery.pause_reason)
    assert not rig.letters.letters
    assert len({tuple(offsets) for offsets in rig.elasticsearch.requests}) <= MAX_UNPROVEN + 5
    rig.elasticsearch.whole_by_offsets = lambda _: None
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}


# Letters a minute


def test_more_refused_documents_than_twenty_a_minute_wait_and_stop_no_other():
    values = [encoded(seed) for seed in range(200)]
    refused = range(0, 200, 5)
    rig = refusing(values, (403, FOREIGN), *refused)
    rig.accept_all()
    for _ in range(300):
        rig.turn(0.1)
    assert rig.counts == {Outcome.INDEXED: 160, Outcome.DEAD: MAX_LETTERS}
    assert f"more than {MAX_LETTERS} in 60 s" in rig.delivery.unhealthy
    assert not rig.delivery.is_blocked
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 160, Outcome.DEAD: 40}
    assert rig.delivery.unhealthy == ""


# A document that is refused between is sent again, and what happens then counts


@pytest.mark.parametrize("meanwhile", [AWAY, BUSY])
def test_a_proof_does_not_outlive_another_answer(values, meanwhile):
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    batch = rig.batch(0)
    rig.refuse(batch, 403, FOREIGN)
    (control,) = rig.send()
    rig.answer(control, (409, {"type": "version_conflict_engine_exception"}))
    assert rig.send() == [batch]
    rig.refuse(batch, *meanwhile)
    rig.clock.now += 60.0
    assert rig.send() == [batch]
    rig.refuse(batch, 403, FOREIGN)
    assert not rig.letters.letters, "a control has to pass again"
    (control,) = rig.send()
    rig.answer(control, (409, {"type": "version_conflict_engine_exception"}))
    assert rig.send() == [batch]
    rig.refuse(batch, 403, FOREIGN)
    assert len(rig.letters.letters) == 1


def test_a_proof_does_not_outlive_an_answer_to_the_document(values):
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    batch = rig.batch(0)
    rig.refuse(batch, 403, FOREIGN)
    (control,) = rig.send()
    rig.answer(control, (409, {"type": "version_conflict_engine_exception"}))
    assert rig.send() == [batch]
    rig.answer(batch, BUSY)
    rig.clock.now += 60.0
    (again,) = rig.send()
    rig.refuse(again, 403, FOREIGN)
    assert not rig.letters.letters


@pytest.mark.parametrize("answer", [(201, None), (404, {"type": "index_not_found_exception"})])
def test_a_control_whose_document_is_gone_proves_nothing(values, answer):
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    batch = rig.batch(0)
    rig.refuse(batch, 403, FOREIGN)
    (control,) = rig.send()
    rig.answer(control, answer)
    assert rig.counts == {Outcome.INDEXED: 1}, "a control settles nothing"
    rig.clock.now += 60.0
    assert rig.send() == [batch]
    rig.refuse(batch, 403, FOREIGN)
    assert not rig.letters.letters


def test_a_control_looks_at_no_index_first(values):
    """It would create an index that was deleted meanwhile."""
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    rig.refuse(rig.batch(0), 403, FOREIGN)
    (control,) = rig.send()
    assert control.indices == frozenset()
    assert [op.document_id for op in control.operations] == ["id1"]
    assert b'"_id":"id1"' in control.body()


def test_a_document_of_an_index_without_a_control_is_waited_for_where_no_answer_comes(values):
    """The shard of its index may be away, and then another index tells nothing of it."""
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    batch = rig.batch(0)
    batch.operations[0].index_name = "logs-2"
    for _ in range(5 * MANY):
        rig.refuse(batch, 504, FOREIGN)
        rig.clock.now += 60.0
        assert rig.send() == [batch]
    assert not rig.letters.letters
    assert not rig.sender.paused


# The size of requests


class ServerThatTakes:
    """Before the server something refuses what is larger than `limit`."""

    def __init__(self, rig, limit, answer):
        self.limit = limit
        self._server, self._send, self._answer = rig.elasticsearch, rig.elasticsearch.send, answer
        rig.elasticsearch.send = self.send

    def send(self, batch):
        is_refused = len(batch.body()) > self.limit
        self._server.whole_by_offsets = lambda _: self._answer if is_refused else None
        return self._send(batch)


def bring(rig, offsets):
    """Bring records a few at a time, and wait until each few are settled."""
    before = sum(rig.counts.values())
    for start in range(offsets.start, offsets.stop, 50):
        records = [FakeRecord(n, rig.values[n]) for n in range(start, start + 50)]
        rig.delivery.accept(rig.span, records)
        rig.until(lambda end=start + 50: sum(rig.counts.values()) >= before + end - offsets.start)


@pytest.mark.parametrize("answer", [(413, {}), (504, {}), (0, {})])
def test_requests_become_smaller_where_the_size_is_refused_and_larger_again(answer):
    values = [encoded(seed) for seed in range(50)] * 60
    rig = DeliveryRig(always(GOOD), values, limits=DeliveryLimits(batch_bytes=40_000))
    server = ServerThatTakes(rig, 15_000, answer)
    sizes = rig.elasticsearch.request_bytes
    with capture_logs() as lines:
        bring(rig, range(1000))
        del sizes[:]
        bring(rig, range(1000, 2000))
        assert sum(size > 15_000 for size in sizes) <= 10 * MANY, "larger ones are tried rarely"
        server.limit = 10**9
        bring(rig, range(2000, 2500))
        del sizes[:]
        bring(rig, range(2500, 3000))
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 3000}
    assert max(sizes) > 30_000
    told = [line["event"] for line in lines if "bulk requests" in line["event"]]
    assert told == [
        "bulk requests are made smaller until larger ones pass",
        "bulk requests have their full size again",
    ]


def test_one_answer_of_a_size_is_no_lasting_fact(values):
    """A proxy answers 413 to everything for a while, and then it does not."""
    rig = DeliveryRig(always(GOOD), values, limits=DeliveryLimits(batch_operations=10))
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:20])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 20)
    rig.elasticsearch.whole_by_offsets = lambda _: (413, {})
    rig.delivery.accept(rig.span, records[20:40])
    for _ in range(20):
        rig.turn(1.0)
    assert not rig.letters.letters
    assert "too large" in rig.delivery.unhealthy
    rig.elasticsearch.whole_by_offsets = lambda _: None
    del rig.elasticsearch.requests[:]
    rig.delivery.accept(rig.span, records[40:])
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}
    assert max(map(len, rig.elasticsearch.requests)) == 10


def test_what_was_indexed_before_a_gateway_gave_up_is_seen(values):
    """The gateway answers 504, and Elasticsearch goes on and indexes all of it."""
    rig = DeliveryRig(always(GOOD), values)
    server = rig.elasticsearch
    plain = server.send

    def send(batch):
        for op in batch.operations:
            if len(batch.operations) > 20:
                server.stored[op.record.offset()] = 1
        server.whole_by_offsets = lambda offsets: (504, {}) if len(offsets) > 20 else None
        return plain(batch)

    server.send = send
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.DUPLICATE: 60}
    assert [len(offsets) for offsets in server.requests][:4] == [60, 60, 30, 30]


def test_a_limit_that_is_too_low_for_every_document_makes_no_letter(values):
    """It may be mended: no document passes, so none is at fault."""
    rig = DeliveryRig(always(*[ITEM_ABOVE] * 9, GOOD), values)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}
    assert not rig.letters.letters


def test_a_limit_that_becomes_too_low_for_the_control_makes_no_letter(values):
    rig = DeliveryRig(always(GOOD), values)
    records = [FakeRecord(offset, value) for offset, value in enumerate(rig.values)]
    rig.delivery.accept(rig.span, records[:20])
    rig.until(lambda: rig.counts[Outcome.INDEXED] == 20)
    rig.elasticsearch.whole_by_offsets = lambda _: (429, ABOVE)
    rig.delivery.accept(rig.span, records[20:])
    for _ in range(50):
        rig.turn()
    assert not rig.letters.letters
    rig.elasticsearch.whole_by_offsets = lambda _: None
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60}


@pytest.mark.parametrize("count", [1, MAX_LETTERS + 5])
def test_documents_above_a_limit_that_others_are_below_become_letters(values, count):
    rig = DeliveryRig(lambda offset: [ITEM_ABOVE] if offset < count else [GOOD], values)
    rig.accept_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 60 - count, Outcome.DEAD: count}
    causes = {(letter.cause.stage, letter.cause.disposition) for letter in rig.letters.letters}
    assert causes == {("oversize", "permanent")}


def test_a_request_that_is_refused_for_its_text_is_not_made_smaller(values):
    rig = refusing(values, (403, FOREIGN), 17)
    with capture_logs() as lines:
        rig.accept_all()
        rig.until_settled()
    assert not [line for line in lines if "made smaller" in line["event"]]


def test_the_letter_of_a_document_that_is_too_large_names_the_answer_and_its_place(values):
    rig = ResultsRig(values)
    rig.create(rig.batch(1))
    batch = rig.batch(4, sent=1)
    rig.refuse(batch, 413, detail='413 "too large"')
    (control,) = rig.send()
    rig.answer(control, (409, {"type": "version_conflict_engine_exception"}))
    rig.send()
    rig.refuse(batch, 413, detail='413 "too large"')
    (letter,) = rig.letters.letters
    assert letter.cause == Cause(
        Stage.OVERSIZE,
        Ending.PERMANENT,
        reason='413 "too large" (the request is too large for Elasticsearch or a proxy before it)',
        es_status=413,
        index="logs-1",
        document_id="id4",
        attempts=2,
    )

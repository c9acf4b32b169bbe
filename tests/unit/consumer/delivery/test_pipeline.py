"""Records in, outcomes out: whatever Elasticsearch says, each record ends exactly once."""

import types
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_common import throttled_log as say
from llmlog_consumer.delivery import bulk_sender as sending
from llmlog_consumer.delivery import pipeline as module
from llmlog_consumer.delivery import rejects
from llmlog_consumer.delivery import results as answers
from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.bulk import BulkResponse, ItemResult
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    Disposition,
    judge_item,
    judge_request,
)
from llmlog_consumer.offset_tracker import Span
from llmlog_consumer.outcomes import Outcome
from llmlog_schemas.codec import Decoder
from support.payloads import encoded

MAPPING = (400, {"type": "document_parsing_exception", "reason": "failed to parse field [a]"})
BUSY = (429, {"type": "es_rejected_execution_exception", "reason": "queue full"})
AWAY = (503, {"type": "unavailable_shards_exception", "reason": "not active"})
BROKEN = (500, {"type": "null_pointer_exception", "reason": "oops"})
CLOSED = (400, {"type": "index_closed_exception", "reason": "closed"})
GOOD = (201, None)
TWICE = (409, {"type": "version_conflict_engine_exception", "reason": "exists"})


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now

    @staticmethod
    def time():
        import time

        return time.time()


class Record:
    """A Kafka message as far as delivery looks at one."""

    def __init__(self, offset, value):
        self._offset, self._value = offset, value

    def value(self):
        return self._value

    def offset(self):
        return self._offset

    def partition(self):
        return 0

    def topic(self):
        return "t"


class Letters:
    """Confirms each letter at the next poll."""

    def __init__(self):
        self.letters, self.open, self.refusal = [], [], ""

    @property
    def pending(self):
        return len(self.open)

    def write(self, letter):
        self.letters.append(letter)
        self.open.append(letter)

    def poll(self):
        for letter in self.open:
            letter.on_delivered()
        self.open = []


class Server:
    """Answers item by item from a script: the answers of each document's attempts, in order."""

    def __init__(self, script, whole=()):
        self.script, self.whole, self.requests, self.forgotten = script, list(whole), [], []
        self.stored = Counter()

    def send(self, batch):
        self.requests.append([op.record.offset() for op in batch.operations])
        if self.whole and (answer := self.whole.pop(0)) is not None:
            status, error = answer
            if status == 200:
                return BulkResponse(batch, verdict=BROKEN_ANSWER, detail="cut short")
            if status == 0:
                return BulkResponse(batch, verdict=CUT_OFF, detail="closed")
            return BulkResponse(
                batch,
                verdict=judge_request(status, error),
                status=status,
                detail=f"{status} {error.get('reason', '')}",
            )
        answered = BulkResponse(batch, status=200)
        for op in batch.operations:
            answers = self.script(op.record.offset())
            status, error = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 201:
                self.stored[op.record.offset()] += 1
            answered.items.append(ItemResult(op, judge_item(status, error), status, error))
        if all(judged.status == 201 for judged in answered.items):
            return BulkResponse(batch, all_created=True, status=200)
        return answered

    def forget(self, index):
        self.forgotten.append(index)


class Rig:
    """A delivery with everything around it made of paper."""

    def __init__(self, monkeypatch, script, values, whole=(), accepted=frozenset()):
        self.clock = Clock()
        for timed in (module, answers, rejects, say, sending):
            monkeypatch.setattr(timed, "time", self.clock)
        self.outcomes: dict[int, list[Outcome]] = {}
        self.counts = Counter()
        self.letters, self.server = Letters(), Server(script, whole)
        self.delivery = Delivery(
            decoder=Decoder(),
            documents=Documents("logs", timedelta(days=400)),
            indexer=self.server,
            letters=self.letters,
            settle=self._settle,
            accepted=accepted,
        )
        self.values, self.bytes = values, 0
        self.span = Span(0, 1, 0, len(values) - 1, 0, len(values), 0.0)

    def _settle(self, span, outcome, records, size):
        assert span is self.span
        self.counts[outcome] += records
        self.bytes += size

    def take_all(self, step=0):
        records = [Record(offset, value) for offset, value in enumerate(self.values)]
        for start in range(0, len(records), step or len(records)):
            self.delivery.accept(self.span, records[start : start + (step or len(records))])

    def turn(self, seconds=400.0):
        self.clock.now += seconds
        self.delivery.step(wait=0.05 if self.delivery._sending.under_way else 0.0)

    def until(self, condition, most=3000):
        for _ in range(most):
            if condition():
                return
            self.turn()
        raise AssertionError(f"never: {self.counts}")

    def until_settled(self):
        self.until(lambda: sum(self.counts.values()) >= len(self.values))
        for _ in range(3):
            self.turn()
        assert sum(self.counts.values()) == len(self.values)
        assert self.bytes == sum(len(value or b"") for value in self.values)
        self.delivery.close()


@pytest.fixture(scope="module")
def values():
    return [encoded(seed) for seed in range(60)]


def always(*answers):
    scripts = {}
    return lambda offset: scripts.setdefault(offset, list(answers))


@given(
    answers=st.lists(
        st.lists(st.sampled_from([BUSY, AWAY, BROKEN, CLOSED]), max_size=3).flatmap(
            lambda before: st.sampled_from([GOOD, TWICE, MAPPING]).map(lambda end: [*before, end])
        ),
        min_size=1,
        max_size=30,
    ),
    whole=st.lists(
        st.sampled_from([None, (503, {}), (413, {}), (401, {}), (500, {}), (200, {}), (400, {})]),
        max_size=8,
    ),
)
@settings(max_examples=60, deadline=None)
def test_each_record_ends_exactly_once_whatever_the_server_says(answers, whole):
    with pytest.MonkeyPatch.context() as patch:
        script = dict(enumerate([list(a) for a in answers]))
        values = [encoded(seed) for seed in range(len(answers))]
        rig = Rig(patch, script.__getitem__, values, whole)
        rig.take_all()
        rig.until_settled()
        assert all(number == 1 for number in rig.server.stored.values())
        dead = {letter.record.offset() for letter in rig.letters.letters}
        for offset, given_answers in enumerate(answers):
            if given_answers[-1] is GOOD and offset not in dead:
                assert rig.server.stored[offset] == 1
        assert rig.counts[Outcome.DEAD] == len(rig.letters.letters) == len(dead)


def test_a_configuration_answer_holds_everything_and_makes_no_letter(monkeypatch, values):
    rig = Rig(monkeypatch, always(CLOSED, CLOSED, CLOSED, GOOD), values)
    rig.take_all()
    rig.until(lambda: rig.delivery.hold)
    assert "open the index" in rig.delivery.unhealthy
    assert rig.delivery.closed
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60
    assert not rig.letters.letters
    assert rig.delivery.unhealthy == ""
    assert rig.server.forgotten


def test_only_the_probe_is_sent_while_held(monkeypatch, values):
    rig = Rig(monkeypatch, always(CLOSED), values)
    rig.delivery._builder.max_operations = 10
    rig.take_all()
    rig.until(lambda: rig.delivery.hold and not rig.delivery._sending.under_way)
    sent = len(rig.server.requests)
    rig.turn(0.0)
    assert len(rig.server.requests) == sent, "not before its time"
    rig.turn(60.0)
    assert rig.delivery._sending.under_way <= 1
    rig.delivery.close()


def test_a_server_that_fails_many_documents_is_held_and_buries_none(monkeypatch, values):
    rig = Rig(monkeypatch, always(BROKEN, BROKEN, GOOD), values)
    rig.take_all()
    rig.until(lambda: rig.delivery.hold)
    assert "Elasticsearch's log" in rig.delivery.unhealthy
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60


def test_one_document_that_always_fails_is_exhausted_alone(monkeypatch, values):
    rig = Rig(monkeypatch, lambda offset: [BROKEN] if offset == 7 else [GOOD], values)
    rig.take_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.record.offset() == 7
    assert letter.cause.disposition == "exhausted"
    assert rig.counts[Outcome.INDEXED] == 59


def test_a_request_too_large_is_halved_and_the_ceiling_is_remembered(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), values, whole=[(413, {}), None])
    rig.take_all()
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60
    assert len(rig.server.requests) == 3
    assert rig.delivery._builder.max_bytes < 60 * 2000


def test_a_request_that_is_pushed_back_again_and_again_is_halved(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), [encoded(n) for n in range(200)], whole=[BUSY] * 4)
    rig.take_all()
    rig.until_settled()
    assert [len(request) for request in rig.server.requests] == [200] * 4 + [100, 100]
    assert rig.counts[Outcome.INDEXED] == 200


def test_a_document_too_large_by_itself_is_a_letter(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), values[:1], whole=[(413, {})])
    rig.take_all()
    rig.until_settled()
    (letter,) = rig.letters.letters
    assert letter.cause.stage == "oversize"


def test_answers_that_are_always_cut_short_are_a_configuration(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), values, whole=[(200, {})] * 8)
    rig.take_all()
    rig.until(lambda: rig.delivery.hold)
    assert "cuts its answers" in rig.delivery.unhealthy
    rig.until_settled()
    assert not rig.letters.letters


@pytest.mark.parametrize("status", [413, 403])
def test_what_answers_in_the_servers_place_is_not_quoted(monkeypatch, values, status):
    """A firewall that shows what it stopped shows a prompt."""
    said = {"reason": 'stopped: "the prompt"'}
    rig = Rig(monkeypatch, always(GOOD), values[:1], whole=[(status, said)])
    lines = []
    for one in (rejects, sending):
        monkeypatch.setattr(one.log, "error", lambda *a, **more: lines.append(more), raising=False)
        monkeypatch.setattr(one.log, "log", lambda *a, **more: lines.append(more), raising=False)
    rig.take_all()
    rig.until(lambda: lines)
    assert "the prompt" not in f"{lines} {rig.delivery.unhealthy}"
    assert "stopped" in str(lines)
    rig.until_settled()


@pytest.mark.parametrize("answer", [(0, {}), (504, {}), (200, {}), (401, {})])
def test_what_was_not_taken_does_not_have_more_sent_at_once(monkeypatch, values, answer):
    rig = Rig(monkeypatch, always(GOOD), values, whole=[answer] * 5)
    rig.take_all()
    rig.until(lambda: len(rig.server.requests) == 5)
    assert rig.delivery._sending._window.size == 2.0
    rig.until_settled()
    assert rig.delivery._sending._window.size > 2.0


def test_what_is_cut_off_again_and_again_is_sent_in_halves(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), values, whole=[(0, {})] * 6)
    rig.take_all()
    rig.until_settled()
    assert [len(request) for request in rig.server.requests] == [60] * 6 + [30, 30]
    assert rig.counts == {Outcome.INDEXED: 60}


def test_a_document_alone_that_is_cut_off_is_waited_for(monkeypatch, values):
    rig = Rig(monkeypatch, always(GOOD), values[:1], whole=[(0, {})] * 50)
    rig.take_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 1}
    assert not rig.letters.letters


def test_what_is_released_is_not_sent_again(monkeypatch, values):
    rig = Rig(monkeypatch, always(AWAY), values)
    rig.take_all()
    rig.until(lambda: rig.delivery.counts["retries"])
    rig.span.released = True
    sent = len(rig.server.requests)
    for _ in range(10):
        rig.turn()
    assert len(rig.server.requests) <= sent + 1
    rig.delivery.close()


def test_a_flood_is_held_and_given_back(monkeypatch):
    values = [encoded(seed) for seed in range(1500)]
    mended = types.SimpleNamespace(yes=False)
    rig = Rig(monkeypatch, lambda _: [GOOD] if mended.yes else [MAPPING], values)
    rig.take_all(step=500)
    rig.until(lambda: rig.delivery.circuit_open)
    for _ in range(20):
        rig.turn()
    letters = len(rig.letters.letters)
    assert letters < 1000
    assert rig.delivery.closed
    assert sum(rig.counts.values()) == letters
    mended.yes = True
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 1500 - letters
    assert rig.counts[Outcome.DEAD] == letters


def test_every_disposition_is_dealt_with():
    assert {d.value for d in Disposition} == {
        "indexed", "duplicate", "retry", "bisect", "permanent", "configuration",
    }  # fmt: skip


def test_a_server_that_refuses_every_request_is_held_and_buries_none(monkeypatch, values):
    """One event on a quiet day, and a load balancer that answers 500, or 400, for itself."""
    for status in (500, 302, 400):
        rig = Rig(monkeypatch, always(GOOD), values[:1], whole=[(status, {})] * 9)
        rig.take_all()
        rig.until(lambda rig=rig: rig.delivery.hold)
        rig.until_settled()
        assert rig.counts[Outcome.INDEXED] == 1
        assert not rig.letters.letters


def test_a_request_refused_before_does_not_hide_failing_items(monkeypatch, values):
    rig = Rig(monkeypatch, always(BROKEN, BROKEN, GOOD), values, whole=[(500, {})])
    rig.take_all()
    rig.until_settled()
    assert rig.counts[Outcome.INDEXED] == 60


def test_an_open_breaker_over_records_that_are_released_closes_at_once(monkeypatch):
    values = [encoded(seed) for seed in range(50)] * 40
    rig = Rig(monkeypatch, always(MAPPING), values)
    rig.take_all()
    rig.until(lambda: rig.delivery._rejects._breaker.held > 900)
    rig.span.released = True
    rig.turn(0.1)
    assert not rig.delivery.closed
    rig.delivery.close()


@pytest.mark.parametrize("end", ["released", "expired"])
def test_a_probe_that_goes_elsewhere_does_not_wedge_the_breaker(monkeypatch, end):
    values = [encoded(seed) for seed in range(1100)]
    answers = types.SimpleNamespace(now=MAPPING)
    rig = Rig(monkeypatch, lambda _: [answers.now], values)
    rig.take_all()
    rig.until(lambda: rig.delivery._rejects._breaker.held > 50)
    for _ in range(4):
        rig.turn(0.1)
    answers.now = AWAY
    if end == "expired":
        rig.delivery._transform._documents._max_age_ms = 0.0
    rig.until(lambda: rig.delivery._rejects._breaker._probing or end == "expired")
    rig.span.released = end == "released"
    rig.turn()
    answers.now = GOOD
    rig.until(lambda: not rig.delivery.closed)
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
def test_one_document_that_is_pushed_back_for_its_size_is_too_large(monkeypatch, values, error):
    rig = Rig(monkeypatch, lambda o: [(429, error)] if o == 1 else [GOOD], values[:3])
    rig.take_all()
    rig.until_settled()
    assert rig.counts == {Outcome.INDEXED: 2, Outcome.DEAD: 1}
    (letter,) = rig.letters.letters
    assert (letter.cause.stage, letter.cause.disposition) == ("oversize", "permanent")
    assert letter.cause.es_status == 429
    assert error["reason"] in letter.cause.reason


def test_a_request_of_which_no_item_is_taken_has_no_more_sent_at_once(monkeypatch, values):
    rig = Rig(monkeypatch, always(*[AWAY] * 9, GOOD), values[:1])
    rig.take_all()
    rig.delivery.flush()
    before = rig.delivery._sending._window.size
    rig.until(lambda: len(rig.server.requests) > 8)
    assert rig.delivery._sending._window.size == before
    rig.until_settled()

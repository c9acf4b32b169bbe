"""The end of a rejected record: a letter and its outcome, or held by the circuit breaker."""

import pytest
from structlog.testing import capture_logs

from llmlog_consumer.dead_letter_counts import OTHER
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.circuit_breaker import (
    MIN_PROBE_SECONDS,
    PROBE_RECORDS,
    CircuitBreaker,
    Phase,
)
from llmlog_consumer.delivery.failure_rate import MIN_RECORDS
from llmlog_consumer.delivery.rejects import MAX_KINDS, Rejects
from llmlog_consumer.offset_tracker import Span
from llmlog_consumer.outcomes import Outcome
from support.fakes.delivery import FakeClock, FakeLetters, FakeRecord

MAPPING = Cause(
    Stage.INDEX,
    Ending.PERMANENT,
    reason="failed to parse field [a]: 'a value'" + "." * 300,
    es_status=400,
    es_type="document_parsing_exception",
)
SHOWN = ("document_parsing_exception: failed to parse field [a]: '…'" + "." * 300)[:300]
GARBAGE = Cause(Stage.DECODE, Ending.POISON, "DecodeError: no Avro")


class RejectsRig:
    """Rejects with a writer whose letters are delivered at the next poll."""

    def __init__(self):
        self.clock, self.letters, self.settled = FakeClock(), FakeLetters(), []
        self.breaker = CircuitBreaker()
        self.span = Span(0, 1, 0, 9_999, 0, 10_000, 0.0)
        self.rejects = Rejects(
            self.letters,
            lambda *outcome: self.settled.append(outcome),
            self.breaker,
            self.clock,
        )

    def reject(self, *offsets, cause=MAPPING, phase=Phase.INDEX):
        for offset in offsets:
            self.rejects.reject(phase, self.span, FakeRecord(offset), 7, cause)

    def open_circuit(self):
        """Let records fail until the circuit holds two hundred; return their offsets."""
        self.reject(*range(MIN_RECORDS + 199))
        assert self.breaker.held == 200
        return range(MIN_RECORDS - 1, MIN_RECORDS + 199)


def test_a_rejected_record_is_settled_and_counted_when_its_letter_is_delivered():
    rig = RejectsRig()
    rig.reject(5)
    (letter,) = rig.letters.letters
    assert (letter.record.offset(), letter.cause) == (5, MAPPING)
    assert rig.rejects.pending == 1
    assert not rig.settled
    assert not rig.rejects.dead_letters
    rig.rejects.poll()
    assert rig.rejects.pending == 0
    assert rig.settled == [(rig.span, Outcome.DEAD, 1, 7)]
    assert rig.rejects.dead_letters == {(MAPPING.fingerprint, "index"): 1}


def test_kinds_of_letters_beyond_the_bound_are_counted_together():
    rig = RejectsRig()
    for number in range(MAX_KINDS + 2):
        kind = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        rig.reject(number, cause=Cause(Stage.DECODE, Ending.POISON, f"Error {kind}"))
    rig.rejects.poll()
    assert len(rig.rejects.dead_letters) == MAX_KINDS + 1
    assert rig.rejects.dead_letters[OTHER] == 2


def test_a_dead_letter_is_logged_once_a_minute_for_each_cause_without_values():
    rig = RejectsRig()
    fingerprint = MAPPING.fingerprint
    line = {
        "event": "dead letter",
        "log_level": "warning",
        "stage": "index",
        "fingerprint": fingerprint,
        "why": SHOWN,
        "see": f"pipeline dlq list --fingerprint {fingerprint}",
    }
    with capture_logs() as lines:
        rig.reject(5, 6)
        rig.reject(7, cause=GARBAGE, phase=Phase.READ)
        rig.clock.now += 60.0
        rig.reject(8)
    assert [entry["record"] for entry in lines] == ["t/0/5", "t/0/7", "t/0/8"]
    assert lines[0] == {**line, "record": "t/0/5"}
    assert (lines[1]["stage"], lines[1]["why"]) == ("decode", "DecodeError: no Avro")
    assert lines[2] == {**line, "record": "t/0/8"}


def test_a_share_of_rejects_above_one_percent_is_logged_once_a_minute():
    rig = RejectsRig()
    rig.rejects.record_success(Phase.INDEX, 1990)
    with capture_logs() as lines:
        rig.reject(*range(20))
    assert {entry["event"] for entry in lines} == {"dead letter"}
    with capture_logs() as lines:
        rig.reject(20, 21, 22)
        rig.clock.now += 60.0
        rig.reject(23)
    line = {"event": "many records are rejected", "log_level": "warning"}
    assert [entry for entry in lines if entry["event"] != "dead letter"] == [
        {**line, "share": "1.0%"},
        {**line, "share": "1.2%", "left_out": 2},
    ]


def test_a_deployment_that_fails_every_record_opens_the_circuit_and_says_what_to_do():
    rig = RejectsRig()
    rig.reject(*range(MIN_RECORDS - 1))
    assert rig.rejects.circuit_open == ""
    with capture_logs() as lines:
        rig.reject(MIN_RECORDS - 1)
    why = (
        f"nearly every record fails with one cause, {MAPPING.fingerprint}: fix it, "
        f"or let it through with `pipeline consume --accept {MAPPING.fingerprint}`"
    )
    assert rig.rejects.circuit_open == why
    assert lines == [
        {
            "event": "circuit breaker opened: records are held, none is lost",
            "log_level": "error",
            "why": why,
            "error": SHOWN,
        }
    ]
    with capture_logs() as lines:
        rig.reject(MIN_RECORDS)
    assert lines == [], "it is said once"
    assert len(rig.letters.letters) == MIN_RECORDS - 1


def test_held_records_are_tried_again_and_close_the_circuit_once_indexed():
    rig = RejectsRig()
    held = rig.open_circuit()
    rig.clock.now += MIN_PROBE_SECONDS - 1.0
    assert rig.rejects.due() == []
    rig.clock.now += 1.0
    probe = rig.rejects.due()
    assert [record.offset() for _, record in probe] == list(held[:PROBE_RECORDS])
    for span, record in probe:
        assert rig.rejects.circuit_open
        rig.rejects.record_indexed(span, record)
    assert rig.rejects.circuit_open == ""
    assert [record.offset() for _, record in rig.rejects.due()] == list(held[PROBE_RECORDS:])


@pytest.mark.parametrize(
    "last_outcome",
    [lambda rejects: rejects.record_indexed, lambda rejects: rejects.record_released],
)
def test_a_probe_that_fails_makes_the_next_one_wait_from_its_end(last_outcome):
    rig = RejectsRig()
    held = rig.open_circuit()
    rig.clock.now += 1000.0
    assert len(rig.rejects.due()) == PROBE_RECORDS
    first, *others, last = held[:PROBE_RECORDS]
    rig.reject(*others[:50])
    for offset in others[50:]:
        rig.rejects.record_indexed(rig.span, FakeRecord(offset))
    last_outcome(rig.rejects)(rig.span, FakeRecord(first))
    last_outcome(rig.rejects)(rig.span, FakeRecord(last))
    assert rig.rejects.circuit_open
    rig.clock.now += MIN_PROBE_SECONDS - 1.0
    assert rig.rejects.due() == []
    rig.clock.now += 31.0
    assert len(rig.rejects.due()) == PROBE_RECORDS


def test_released_records_are_left_out_of_a_probe():
    rig = RejectsRig()
    rig.open_circuit()
    rig.clock.now += MIN_PROBE_SECONDS
    probe = rig.rejects.due()
    for span, record in probe[1:]:
        rig.rejects.record_released(span, record)
    assert rig.breaker.probing == 1
    rig.rejects.record_indexed(*probe[0])
    assert rig.rejects.circuit_open == ""


def test_held_records_of_released_spans_are_dropped():
    rig = RejectsRig()
    rig.open_circuit()
    rig.span.released = True
    assert rig.rejects.due() == []
    assert (rig.breaker.held, rig.rejects.circuit_open) == (0, "")


def test_records_of_other_partitions_and_generations_are_not_the_same_record():
    """Offsets repeat: in every partition, and after a partition comes back."""
    rig = RejectsRig()
    rig.open_circuit()
    for generation, partition in ((1, 1), (0, 2)):
        span = Span(partition, generation, 0, 9_999, 0, 10_000, 0.0)
        rig.rejects.reject(Phase.INDEX, span, FakeRecord(MIN_RECORDS), 7, MAPPING)
    assert rig.breaker.held == 202


def test_a_topic_that_refuses_letters_is_reported():
    rig = RejectsRig()
    assert rig.rejects.refusal == ""
    rig.letters.refusal = "topic is missing"
    assert rig.rejects.refusal == "topic is missing"

"""Records that wait for a schema: when it is asked for, and what alone makes letters of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.delivery.pauses.schema_holds import (
    MAX_ASKED,
    MIN_ASK_SECONDS,
    UNKNOWN_SECONDS,
    SchemaHolds,
)
from llmlog_consumer.offset_tracker import Span
from support.fakes.delivery import FakeRecord

SPAN = Span(2, 1, 0, 9, 0, 10, 0.0)
LONG = 15.0
"""Seconds after which every id may be asked for again."""


def holding(*ids, records=1):
    holds = SchemaHolds()
    for schema_id in ids:
        for offset in range(records):
            holds.hold(schema_id, SPAN, FakeRecord(offset))
    return holds


def test_an_id_is_asked_for_at_once_and_not_again_before_its_answer():
    holds = holding(7, 8)
    assert holds.take_due(0.0) == [7, 8]
    assert holds.take_due(1e9) == []
    holds.record_unreachable(7, "away", 100.0)
    assert holds.take_due(100.0 + MIN_ASK_SECONDS - 0.01) == []
    assert holds.take_due(100.0 + LONG) == [7]


def test_no_more_ids_are_asked_for_at_one_time_than_the_bound():
    holds = holding(*range(MAX_ASKED + 3))
    assert len(holds.take_due(0.0)) == MAX_ASKED
    assert len(holds.take_due(0.0)) == 3


def test_a_known_schema_returns_its_records_alone():
    holds = holding(7, 8, records=3)
    assert [record.offset() for _, record in holds.record_known(7)] == [0, 1, 2]
    assert (len(holds), holds.partitions) == (3, {2: 3})


def test_an_id_is_unknown_only_after_another_was_known_since_and_it_was_asked_again():
    holds = holding(1, 7)
    holds.record_known(1)
    holds.take_due(0.0)
    assert holds.record_unknown(7, "no", 0.0) == []
    assert holds.take_due(LONG) == [1, 7], "the witness first"
    assert holds.record_known(1) == []
    assert len(holds.record_unknown(7, "no", LONG)) == 1
    assert holds.unknown(7, LONG) == "no"
    assert holds.unknown(7, LONG + UNKNOWN_SECONDS) == "", "and it is asked for again then"
    assert holds.unknown(8, LONG) == ""


def test_an_id_that_was_unknown_before_anything_was_known_needs_a_witness_as_well():
    holds = holding(1, 7)
    holds.take_due(0.0)
    assert holds.record_unknown(7, "no", 0.0) == []
    holds.record_known(1)
    assert len(holds.record_unknown(7, "no", LONG)) == 1


def test_one_witness_is_asked_for_and_none_where_another_id_was_known_meanwhile():
    holds = holding(1, 2, 7)
    holds.record_known(1)
    holds.record_known(2)
    holds.take_due(0.0)
    holds.record_unknown(7, "no", 0.0)
    assert holds.take_due(LONG) == [1, 7]
    holds.record_known(1)
    holds.record_unreachable(7, "away", LONG)
    assert holds.take_due(10 * LONG) == [7]


def test_an_id_that_has_no_answer_is_asked_for_less_and_less_often():
    def wait_after(answers):
        holds, now = holding(7), 0.0
        for _ in range(answers):
            holds.record_unreachable(7, "away", now)
            began = now
            while not holds.take_due(now):
                now += 0.5
        return now - began

    assert {wait_after(1) for _ in range(20)} == {MIN_ASK_SECONDS}
    assert max(wait_after(4) for _ in range(20)) > 2 * MIN_ASK_SECONDS


@pytest.mark.parametrize("witness", ["silent", "unknown too", "none"])
def test_without_a_witness_an_unknown_id_is_held_for_ever(witness):
    holds = holding(7) if witness == "none" else holding(1, 7)
    if witness != "none":
        holds.record_known(1)
    for turn in range(20):
        now = turn * LONG
        asked = holds.take_due(now)
        assert asked[-1] == 7
        if witness == "unknown too" and 1 in asked:
            assert holds.record_unknown(1, "no", now) == []
        assert holds.record_unknown(7, "no", now) == []
    assert len(holds) == 1


def test_a_refusal_between_begins_the_proof_anew():
    holds = holding(1, 7)
    holds.record_known(1)
    holds.take_due(0.0)
    holds.record_unknown(7, "no", 0.0)
    holds.record_refused(7, "401", LONG)
    holds.record_known(1)
    assert holds.record_unknown(7, "no", 2 * LONG) == []


@pytest.mark.parametrize(
    ("answer", "needs_person"),
    [("record_refused", True), ("record_unknown", True), ("record_unreachable", False)],
)
def test_the_reason_names_the_id_and_whether_a_person_is_needed(answer, needs_person):
    holds = holding(7, records=2)
    assert holds.reason == ""
    getattr(holds, answer)(7, "see the registry", 0.0)
    assert holds.reason == "schema id 7: see the registry; 2 records wait, the others go on"
    assert holds.reason_for_person == (holds.reason if needs_person else "")


def test_the_reason_counts_the_other_ids():
    holds = holding(7, 8, 9)
    for schema_id in (7, 8, 9):
        holds.record_refused(schema_id, "401", 0.0)
    assert holds.reason.startswith("schema id 7 (and 2 other ids): 401; 3 records wait")
    holds.record_known(9)
    assert holds.reason.startswith("schema id 7 (and 1 other ids): 401; 2 records wait")


def test_at_the_bound_the_partitions_that_records_come_from_are_named():
    holds = SchemaHolds(max_bytes=500)
    for offset in range(2):
        holds.hold(7, SPAN, FakeRecord(offset))
    assert not holds.is_full
    holds.hold(7, Span(0, 1, 0, 9, 0, 10, 0.0), FakeRecord(3))
    assert holds.is_full
    holds.record_refused(7, "401", 0.0)
    assert "3 records wait, partitions 0, 2 paused" in holds.reason


def test_released_records_are_dropped_and_their_id_is_asked_for_no_more():
    span = Span(0, 1, 0, 9, 0, 10, 0.0)
    holds = holding(8)
    holds.hold(7, span, FakeRecord(0))
    holds.take_due(0.0)
    holds.record_refused(7, "401", 0.0)
    holds.record_refused(8, "401", 0.0)
    span.released = True
    assert len(holds.drop_released()) == 1
    assert holds.take_due(LONG) == [8]
    assert holds.reason.startswith("schema id 8: ")


ANSWERS = st.sampled_from(["known", "unknown", "refused", "away"])


@given(st.lists(st.tuples(st.integers(1, 3), ANSWERS), max_size=60))
def test_no_record_is_lost_and_letters_need_their_proof(steps):
    """The proof: known another, after this one was unknown, and this one unknown again."""
    holds, now, offset, over = SchemaHolds(), 0.0, 0, 0
    proofs = dict.fromkeys((1, 2, 3), 0)  # 1: was unknown; 2: and another was known since
    for schema_id, answer in steps:
        now += LONG
        if not holds.unknown(schema_id, now):
            holds.hold(schema_id, SPAN, FakeRecord(offset))
            offset += 1
        held = len(holds)
        if answer == "known":
            over += len(holds.record_known(schema_id))
            proofs |= {i: 2 for i, state in proofs.items() if state and i != schema_id}
            proofs[schema_id] = 0
        elif answer == "unknown":
            letters = holds.record_unknown(schema_id, "no", now)
            over += len(letters)
            assert not letters or proofs[schema_id] == 2
            proofs[schema_id] = 0 if letters else max(1, proofs[schema_id])
        elif answer == "refused":
            holds.record_refused(schema_id, "no", now)
            proofs[schema_id] = 0
        else:
            holds.record_unreachable(schema_id, "no", now)
        assert len(holds) <= held
        assert len(holds) + over == offset

"""How each end of an event is counted, and what `verify --json` prints of it."""

from __future__ import annotations

from datetime import UTC, datetime

from llmlog_consumer.checks.event_files import SeenEvent
from llmlog_consumer.checks.proof import MAX_ROWS, Proof
from llmlog_schemas.event import event_time_ms
from support.payloads import event

ID = event(1)["event_id"]
TIME = event_time_ms(ID)
DAY = f"{datetime.fromtimestamp(TIME / 1000, UTC):%Y-%m-%d}T00:00:00+00:00"
INDEX, OTHER_INDEX = "logs-2026.01.31", "logs-2026.02.01"


def seen(offset: int = 7, *, has_letter: bool = False) -> SeenEvent:
    return SeenEvent([(0, offset)], has_letter=has_letter)


def test_every_end_of_an_event_is_counted_and_printed():
    conflicting = SeenEvent([(0, 1), (0, 2)], is_conflict=True)
    proof = Proof("logs", records=15, accepted_gaps=[{"first": 1}], unaccepted_gaps=[{"first": 2}])
    for _ in range(2):
        proof.count_event(ID, seen(), [INDEX], TIME)
        proof.count_event(ID, seen(has_letter=True), [INDEX], TIME)
        proof.count_event(ID, seen(has_letter=True), [], TIME)
        proof.count_event(ID, seen(), [], TIME + 1)
        proof.count_unreadable(1, 8, has_letter=True)
    proof.count_event(ID, seen(), [], TIME)
    proof.count_unreadable(1, 9, has_letter=False)
    for offset in (20, 21):
        proof.count_event(ID, seen(offset), [OTHER_INDEX, INDEX], TIME)
    proof.count_event(ID, conflicting, [INDEX], TIME)
    for _ in range(2):
        proof.count_event(ID, seen(), [], TIME + 1, unknown="closed")
        proof.count_event(ID, seen(), [INDEX], TIME, behind={OTHER_INDEX}, unknown="closed")
    proof.deleted_while_reading = 3
    assert proof.as_json() == {
        "events": 19,
        "records": 15,
        "documents": 9,
        "dead_letters": 4,
        "recovered": 2,
        "dropped": 0,
        "retired": 2,
        "skipped": 0,
        "accepted_gaps": [{"first": 1}],
        "unaccepted_gaps": [{"first": 2}],
        "deleted_while_reading": 3,
        "held_back": [],
        "lost": [
            {"event_id": ID, "day": DAY, "coordinates": ["logs/0/7"]},
            {"event_id": None, "day": None, "coordinates": ["logs/1/9"]},
        ],
        "lost_count": 2,
        "doubled": [
            {
                "event_id": ID,
                "day": DAY,
                "coordinates": [f"logs/0/{offset}"],
                "indices": [INDEX, OTHER_INDEX],
            }
            for offset in (20, 21)
        ],
        "doubled_count": 2,
        "conflict": [
            {"event_id": ID, "day": DAY, "coordinates": ["logs/0/1", "logs/0/2"]},
        ],
        "conflict_count": 1,
        "not_behind_alias": [{"index": INDEX, "events": 2}],
        "unknown": [{"why": "closed", "events": 2}],
        "unknown_count": 2,
        "ok": False,
    }


def test_an_event_exactly_as_old_as_the_limit_is_not_retired():
    proof = Proof()
    proof.count_event(ID, seen(), [], TIME)
    assert (proof.retired, proof.lost_count) == (0, 1)


def test_an_event_with_two_documents_in_one_index_is_doubled():
    """Custom routing makes that possible."""
    proof = Proof()
    proof.count_event(ID, seen(), [INDEX, INDEX], 0)
    assert (proof.documents, proof.doubled_count) == (1, 1)


def test_more_lost_events_than_rows_are_counted():
    proof = Proof()
    for offset in range(MAX_ROWS + 1):
        proof.count_unreadable(0, offset, has_letter=False)
    assert (len(proof.lost), proof.lost_count) == (MAX_ROWS, MAX_ROWS + 1)


def test_more_doubled_events_than_rows_are_counted():
    proof = Proof()
    for _ in range(MAX_ROWS + 1):
        proof.count_event(ID, seen(), [INDEX, INDEX], 0)
    assert (len(proof.doubled), proof.doubled_count) == (MAX_ROWS, MAX_ROWS + 1)


def test_copies_behind_the_alias_double_an_event_and_others_do_not():
    proof = Proof("logs")
    for behind in (None, {INDEX, OTHER_INDEX}, {INDEX}, set()):
        proof.count_event(ID, seen(), [INDEX, OTHER_INDEX], TIME, behind=behind)
    assert (proof.doubled_count, proof.hidden) == (3, {INDEX: 1})


def test_a_proof_is_only_good_when_everything_was_looked_up_and_is_right():
    assert Proof().ok
    for field in ("lost_count", "doubled_count", "conflict_count"):
        assert not Proof(**{field: 1}).ok
        assert Proof(**{field: 1}).has_difference
    hidden, unknown = Proof(), Proof()
    hidden.hidden["i"] += 1
    unknown.unreadable["closed"] += 1
    assert (hidden.ok, hidden.has_difference) == (False, True)
    assert (unknown.ok, unknown.has_difference) == (False, False)


def test_an_event_whose_records_were_all_given_up_is_skipped_and_not_lost():
    proof = Proof("logs", given_up={0: [(5, 8)], 1: [(0, 10)]})
    proof.count_event(ID, SeenEvent([(0, 5), (0, 7), (1, 9)]), [], TIME)
    proof.count_unreadable(1, 0, has_letter=False)
    assert (proof.skipped, proof.lost_count, proof.ok) == (2, 0, True)
    proof.count_event(ID, SeenEvent([(0, 7)]), [INDEX], TIME)
    assert (proof.skipped, proof.documents) == (2, 1)
    for place in ((0, 4), (0, 8), (2, 5)):
        proof.count_event(ID, SeenEvent([(0, 5), place]), [], TIME)
        proof.count_unreadable(*place, has_letter=False)
    assert (proof.skipped, proof.lost_count, proof.ok) == (2, 6, False)


def test_a_proof_without_what_a_transaction_holds_back_is_not_whole():
    proof = Proof("logs", held_back=[{"partition": "logs/0"}])
    assert (proof.ok, proof.has_difference) == (False, False)

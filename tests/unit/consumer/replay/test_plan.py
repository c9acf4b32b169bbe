"""Which letters are replayed, in what form, and what the dry run reports."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from llmlog_consumer.dead_letters.headers import PREFIX
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.record import build_record
from llmlog_consumer.dead_letters.source_record import OriginalMissingError, restore_original
from llmlog_consumer.replay.plan import MAX_REPLAYS, DryRun, ReplayOutcome, ReplayPolicy
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.fakes.letters import (
    POISON,
    REFUSED,
    SETTINGS,
    FakeLookup,
    FakeSourceTopic,
    new_letter,
)
from support.messages import Message
from support.payloads import encoded, event, payload

WHOLE = b"the whole"


def letter(offset=41, *, replays=None, **options):
    headers = [] if replays is None else [(f"{PREFIX}replay_count", b"%d" % replays)]
    source = ("litellm-logs", 3, offset)
    return read_letter(new_letter(source=source, source_headers=headers, **options))


def truncated_letter(sha256=None, partition=3, offset=41, topic="litellm-logs"):
    truncated = read_letter(new_letter(source=(topic, partition, offset), value=WHOLE[:3]))
    digest = sha256 or hashlib.sha256(WHOLE).hexdigest()
    more = {"truncated.length": str(len(WHOLE)), "truncated.sha256": digest}
    return replace(truncated, headers={**truncated.headers, **more})


def restoring(source):
    """Return a way to restore originals from a source topic that is a fake."""
    return partial(
        restore_original,
        new_admin=source.new_admin,
        new_offsets=source.new_offsets,
        read_one=source.read_one,
    )


# The bound of replays


@pytest.mark.parametrize(
    ("replays", "force", "is_replayed"),
    [
        (0, False, True),
        (MAX_REPLAYS - 1, False, True),
        (MAX_REPLAYS, False, False),
        (MAX_REPLAYS + 1, False, False),
        (MAX_REPLAYS, True, True),
    ],
)
def test_a_record_is_left_alone_after_three_replays_unless_forced(replays, force, is_replayed):
    record = build_record(letter(replays=replays))
    decision = ReplayPolicy(SETTINGS, force).decide(record)
    assert decision == (record if is_replayed else ReplayOutcome.TOO_MANY_REPLAYS)
    assert MAX_REPLAYS == 3, "docs/dead-letters.md and the help say three"


# Originals of truncated letters


def test_the_original_of_a_truncated_letter_is_read_from_its_source():
    source = FakeSourceTopic(Message(value_=WHOLE, key_=b"key", headers_=[("own", b"2")]))
    policy = ReplayPolicy(SETTINGS, restore=restoring(source))
    record = policy.decide(build_record(truncated_letter()))
    assert (record.value(), record.key()) == (WHOLE, b"key")
    assert record.headers()[0] == ("own", b"2")
    assert record.truncated is None


def test_an_original_takes_over_the_history_of_its_letter():
    source = FakeSourceTopic(Message(value_=WHOLE, headers_=[]))
    truncated = truncated_letter()
    truncated.headers["replay_count"] = "2"
    record = ReplayPolicy(SETTINGS, restore=restoring(source)).decide(build_record(truncated))
    assert record.replays == 2
    assert record.source == truncated.source
    assert not any(name.startswith(f"{PREFIX}truncated") for name, _ in record.headers())


@pytest.mark.parametrize(
    ("record", "start"),
    [
        (Message(value_=b"another"), 0),
        (None, 0),
        (Message(value_=None), 0),
        (Message(value_=WHOLE), 42),
    ],
)
def test_a_record_that_is_not_the_original_counts_as_missing(record, start):
    policy = ReplayPolicy(SETTINGS, restore=restoring(FakeSourceTopic(record, start)))
    decision = policy.decide(build_record(truncated_letter()))
    assert decision is ReplayOutcome.ORIGINAL_MISSING


@pytest.mark.parametrize(
    ("coordinates", "why"),
    [
        ({"partition": 4}, "is not on a source topic"),
        ({"topic": "litellm-logs.dlq"}, "is not on a source topic"),
        ({"offset": 100}, "is not retained"),
        ({"sha256": "00"}, "is another record now"),
    ],
)
def test_a_missing_original_says_why(coordinates, why):
    source = FakeSourceTopic(Message(value_=WHOLE))
    with pytest.raises(OriginalMissingError, match=why):
        restoring(source)(SETTINGS, truncated_letter(**coordinates))


# The dry run


def empty_row(letters, **counts):
    names = (
        "replay",
        "already_indexed",
        "would_fail",
        "expired",
        "too_many_replays",
        "original_missing",
        "cannot_mend",
    )
    row = {"fingerprint": REFUSED.fingerprint, "stage": "index", "letters": letters}
    return row | dict.fromkeys(names, 0) | counts


def dry_run(ids=(), *, elastic=True, **policy):
    policy = ReplayPolicy(SETTINGS, **policy)
    return DryRun(policy, FakeLookup(set(ids)) if elastic else None, None)


def test_a_dry_run_reports_each_outcome_under_its_own_key():
    long_ago = time.time() - timedelta(days=500).total_seconds()
    expired = Encoder().encode(to_event(payload(5, startTime=long_ago)))
    letters = [
        letter(1, value=encoded(1)),
        letter(2, value=encoded(2)),
        letter(3, value=b"garbage"),
        letter(4, value=encoded(3, document=b'{"messages":{"broken": }')),
        letter(5, value=expired),
        letter(6, value=encoded(6), replays=3),
        truncated_letter(),
    ]
    report = dry_run({event(2)["event_id"]}, restore=restoring(FakeSourceTopic(None)))
    assert report.report(iter(letters)) == [
        empty_row(
            7,
            replay=1,
            already_indexed=1,
            would_fail=2,
            expired=1,
            too_many_replays=1,
            original_missing=1,
        )
    ]


def test_a_dry_run_counts_an_existing_document_as_indexed_and_not_as_replayed():
    ids = {event(n)["event_id"] for n in (1, 2)}
    letters = [letter(n, value=encoded(n)) for n in (1, 2, 3)]
    assert dry_run(ids).report(letters) == [empty_row(3, already_indexed=2, replay=1)]


def test_a_dry_run_to_a_topic_asks_for_no_documents():
    letters = [letter(1, value=encoded(1)), letter(2, value=b"garbage")]
    assert dry_run(elastic=False).report(letters) == [empty_row(2, replay=2)]


def test_a_dry_run_has_a_row_for_each_cause_the_largest_first():
    letters = [letter(1, cause=POISON), letter(2, value=b""), letter(3, value=b"")]
    rows = dry_run().report(letters)
    assert [(row["fingerprint"], row["letters"]) for row in rows] == [
        (REFUSED.fingerprint, 2),
        (POISON.fingerprint, 1),
    ]
    assert rows[1]["stage"] == "decode"


@pytest.mark.parametrize("cause", [POISON, REFUSED])
def test_a_dry_run_calls_every_recovered_letter_indexed_whatever_else_it_is(cause):
    """As the list does, and `verify`: a registry that is not set now changes nothing about it."""
    confluent = Encoder(7).encode(event(1))
    letters = [
        letter(1, cause=cause, value=confluent),
        letter(2, cause=cause, value=encoded(2), replays=MAX_REPLAYS),
    ]
    ids = {event(n)["event_id"] for n in (1, 2)}
    assert [row["already_indexed"] for row in dry_run(ids).report(letters)] == [2]

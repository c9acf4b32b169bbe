"""Counts of dead letters by cause, stage, index, model and hour."""

from dataclasses import replace

import pytest

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.filters import Filter, GroupFilter
from llmlog_consumer.dead_letters.headers import PREFIX
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.stats import OTHER, Limits, Stats
from support.fakes.letters import HOUR_MS, POISON, REFUSED, new_letter
from support.messages import Message
from support.payloads import encoded


def letter(cause=REFUSED, *, offset=0, source=41, at=HOUR_MS, partition=3, topic="t"):
    return new_letter(
        cause, source=(topic, partition, source), partition=1, offset=offset, at_ms=at
    )


def test_a_source_record_counts_once_with_its_newest_letter():
    other_cause = Cause(
        Stage.INDEX, Ending.EXHAUSTED, reason="b", es_type="x", index="i", model="m"
    )
    stats = Stats()
    stats.add(
        [
            letter(POISON, offset=0, source=1, at=HOUR_MS),
            letter(offset=1, source=2, at=2 * HOUR_MS),
            letter(offset=2, source=3, at=2 * HOUR_MS),
            letter(other_cause, offset=3, source=2, at=5 * HOUR_MS),
            letter(POISON, offset=4, source=1, at=6 * HOUR_MS, topic="another"),
            letter(POISON, offset=5, source=1, at=0, partition=9),
            letter(POISON, offset=6, source=1, at=HOUR_MS),
        ]
    )
    result = stats.as_json()
    assert result["total"] == 5
    by_cause = {row["fingerprint"]: row for row in result["fingerprints"]}
    assert {name: row["count"] for name, row in by_cause.items()} == {
        POISON.fingerprint: 3,
        REFUSED.fingerprint: 1,
        other_cause.fingerprint: 1,
    }
    assert by_cause[POISON.fingerprint] == {
        "fingerprint": POISON.fingerprint,
        "stage": "decode",
        "type": None,
        "count": 3,
        "recovered": None,
        "first_seen": "1970-01-01T00:00:00+00:00",
        "last_seen": "1970-01-01T06:00:00+00:00",
        "example": "litellm-logs.dlq/1/0",
        "reason": "DecodeError: the record has no value",
    }
    assert result["stages"] == [{"stage": "decode", "count": 3}, {"stage": "index", "count": 2}]
    assert {row["index"]: row["count"] for row in result["indices"]} == {
        None: 3,
        "litellm-logs-2026.01.31": 1,
        "i": 1,
    }
    assert {row["model"]: row["count"] for row in result["models"]} == {
        None: 3,
        "gpt-4o": 1,
        "m": 1,
    }
    assert [row["count"] for row in result["hours"]] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("offset", [b"-5", b"9" * 30, b"", b"x", None])
def test_a_letter_of_a_known_kind_with_an_impossible_offset_counts_by_itself(offset):
    stats, odd = Stats(), letter(offset=9)
    odd.headers_ = [(n, offset if n == f"{PREFIX}offset" else v) for n, v in odd.headers_]
    stats.add([letter(offset=0, source=41), letter(offset=1, source=43), odd, odd])
    assert stats.as_json()["total"] == 3


@pytest.mark.parametrize("wanted", [Filter(model="claude"), Filter(since_ms=4 * HOUR_MS)])
def test_example_reason_and_times_are_of_letters_that_match(wanted):
    matching = replace(REFUSED, model="claude")
    stats = Stats(wanted)
    stats.add(
        [
            letter(offset=0, source=1, at=HOUR_MS),
            letter(matching, offset=1, source=2, at=5 * HOUR_MS),
            letter(offset=2, source=3, at=2 * HOUR_MS),
        ]
    )
    (row,) = stats.as_json()["fingerprints"]
    assert row["example"] == "litellm-logs.dlq/1/1"
    assert row["first_seen"] == row["last_seen"] == "1970-01-01T05:00:00+00:00"


def test_a_letter_that_does_not_match_still_hides_older_ones_of_its_record():
    stats = Stats(Filter(stage="index"))
    stats.add([letter(offset=0), letter(POISON, offset=1)])
    assert stats.as_json()["total"] == 0


def test_endless_models_and_causes_take_bounded_memory():
    stats = Stats(limits=Limits(causes=5, labels=1000, kinds=7))
    letters = [
        letter(Cause(Stage.DECODE, Ending.POISON, f"E: {'x' * n}", model=f"m{n}"), source=n)
        for n in range(1010)
    ]
    stats.add(letters)
    result = stats.as_json()
    assert result["total"] == len(letters)
    assert len(result["models"]) == 1001
    assert {"model": OTHER, "count": 10} in result["models"]
    assert result["fingerprints"][0]["fingerprint"] == OTHER
    assert len(result["fingerprints"]) == 6


@pytest.mark.parametrize(("headers", "expected"), [(None, False), ("ours", True)])
def test_a_topic_without_headers_of_letters_is_noticed(headers, expected):
    stats = Stats()
    stats.add([Message(headers_=None, offset_=n) for n in range(3)])
    stats.add([letter()] if headers == "ours" else [])
    assert (stats.letters, stats.has_our_headers) == (3 + expected, expected)


def event_letter(seed, group="blue", **options):
    return new_letter(value=encoded(seed), group=group, **options)


def test_an_event_counts_once_wherever_its_records_lay():
    stats = Stats()
    stats.add([event_letter(1, source=("t", p, p), offset=p) for p in range(3)])
    stats.add([event_letter(2, source=("t", 0, 0), offset=4)])
    assert stats.as_json()["total"] == 2


def test_records_of_a_topic_and_of_one_recreated_under_its_name_count_each():
    stats = Stats()
    stats.add([new_letter(POISON, source_ms=ms, offset=ms) for ms in (1, 2, 2)])
    assert stats.as_json()["total"] == 2


def test_letters_of_other_groups_are_counted_by_themselves():
    letters = [event_letter(seed, group) for seed in (1, 2) for group in ("blue", "green")]
    stats = Stats(groups=GroupFilter("blue"))
    stats.add([*letters, event_letter(3, "green")])
    counts = stats.as_json()
    assert (counts["total"], counts["other_groups"]) == (2, 3)
    everything = Stats(groups=GroupFilter(None))
    everything.add(letters)
    assert everything.as_json()["total"] == 4


def test_recovered_letters_are_counted_by_cause():
    letters = [event_letter(seed, cause=cause) for seed, cause in enumerate((REFUSED, POISON) * 2)]
    ids = [read_letter(letter).event_id for letter in letters]
    stats = Stats()
    stats.add(letters[:3], {ids[0], ids[1], ids[2], "another"})
    stats.add(letters[3:], set())
    counts = stats.as_json()
    assert counts["recovered"] == 3
    assert {row["stage"]: (row["count"], row["recovered"]) for row in counts["fingerprints"]} == {
        "index": (2, 2),
        "decode": (2, 1),
    }


def test_how_many_are_recovered_is_not_known_once_it_was_not():
    stats = Stats()
    stats.add([event_letter(1)], {"any"})
    stats.add([event_letter(2)], None)
    assert stats.as_json()["recovered"] is None

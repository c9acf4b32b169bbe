"""A replayed letter is the record that it was, and keeps its history when it fails again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.headers import OUR_HEADERS, PREFIX, build_headers
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.record import build_record, read_record
from support.fakes.letters import DLQ_TOPIC, HOUR_MS, REFUSED, new_letter
from support.messages import Message


def fail_again(record):
    """Return the letter that a replayed record gets when it fails again."""
    headers = build_headers(record, REFUSED, group="g")
    return read_letter(Message(topic_=DLQ_TOPIC, headers_=headers))


def test_a_replayed_letter_has_the_coordinates_and_the_contents_of_its_source():
    record = build_record(read_letter(new_letter()))
    assert (record.topic(), record.partition(), record.offset()) == ("litellm-logs", 3, 41)
    assert (record.key(), record.value()) == (b"k", b"v")
    assert record.timestamp() == (1, 1_767_225_600_123)
    assert len(record) == 1


def test_a_replayed_letter_that_fails_again_has_its_replay_count_raised_by_one():
    first = (f"{PREFIX}first_failed_at", b"2026-01-01T00:00:00.000+00:00")
    letter = read_letter(new_letter(source_headers=[("own", b"\x00"), first]))
    for replays in (1, 2, 3):
        again = fail_again(build_record(letter))
        assert again.replays == replays
        assert again.source_coordinates == letter.source_coordinates == "litellm-logs/3/41"
        assert again.headers["first_failed_at"] == "2026-01-01T00:00:00.000+00:00"
        assert again.source_headers == (("own", b"\x00"),)
        letter = again


def test_both_ways_of_reading_raise_the_replay_count():
    message = new_letter(source_headers=[(f"{PREFIX}replay_count", b"2")])
    for record in (read_record(message), build_record(read_letter(message))):
        assert record.replays == 2
        assert dict(record.headers())[f"{PREFIX}replay_count"] == b"3"


def test_a_letter_without_a_source_keeps_its_own_coordinates():
    letter = read_letter(Message(topic_="d", partition_=1, offset_=5, headers_=None))
    again = fail_again(build_record(letter))
    assert again.source_coordinates == letter.source_coordinates == "d/1/5"
    assert build_record(letter).timestamp() == (1, letter.timestamp_ms)


def test_a_letter_with_an_invalid_source_has_its_own_coordinates():
    letter = read_letter(new_letter())
    odd = replace(letter, headers={**letter.headers, "offset": "-1"})
    assert build_record(odd).source == (odd.topic, odd.partition, odd.offset)


def test_a_truncated_letter_is_as_large_as_its_original():
    headers = new_letter().headers()
    for length, size in ((b"5000000", 5_000_000), (b"-1", 5), (b"?", 5)):
        with_length = [*headers, (f"{PREFIX}truncated.length", length)]
        assert read_record(Message(DLQ_TOPIC, 2, 9, b"key", b"value", with_length)).size == size
    assert read_record(Message(DLQ_TOPIC, 2, 9, b"key", b"value", headers)).size == 5


VALUES = st.one_of(st.none(), st.binary(max_size=3), st.sampled_from([b"0", b"7", b"\xff", b"t"]))
NAMES = [
    *sorted(OUR_HEADERS),
    f"{PREFIX}x",
    "own",
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES))


@given(HEADERS, st.booleans(), st.lists(st.tuples(st.just("own"), VALUES), max_size=1))
@example(headers=[(f"{PREFIX}truncated.length", b"9")], ours=True, own=[])
@example(headers=[(f"{PREFIX}offset", b"-1")], ours=True, own=[])
def test_a_record_read_from_a_message_equals_the_one_built_from_its_letter(headers, ours, own):
    if ours:
        written = dict(new_letter(source=("t", 3, 41), source_headers=own).headers())
        headers = list((written | dict(headers)).items())
    message = Message(DLQ_TOPIC, 2, 9, b"key", b"value", headers, (1, HOUR_MS))
    quick, careful = read_record(message), build_record(read_letter(message))
    for name in ("source", "source_headers", "replays", "size", "second", "position"):
        assert getattr(quick, name) == getattr(careful, name)
    assert quick.headers() == careful.headers()
    assert quick.timestamp() == careful.timestamp()
    assert (quick.truncated is None) == (careful.truncated is None)
    assert (quick.key(), quick.value()) == (b"key", b"value")


@pytest.mark.parametrize("name", ["key", "value"])
def test_a_missing_key_or_value_stays_missing(name):
    record = read_record(new_letter(**{name: None}))
    assert getattr(record, name)() is None
    assert record.size == len(record) == len(record.value() or b"")

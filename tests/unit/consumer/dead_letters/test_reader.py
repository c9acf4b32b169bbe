"""Letters as they are read from the topic: the newest of each record, sorted, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import (
    read_letter_at,
    sort_newest_first,
    split_chunks,
    warn_of_topic,
)
from support.fakes.letters import POISON, REFUSED, SETTINGS, FakeTopic, new_letter


@given(st.lists(st.integers(-2, 9), max_size=30), st.integers(1, 7), st.integers(1, 40))
def test_all_letters_are_sorted_page_by_page(times, page, limit):
    topic = FakeTopic(chunk_letters=30)
    letters = [topic.append((1, n), at_ms=at) for n, at in enumerate(times)]
    dead_letters = topic.reader(page_letters=page)
    expected = [letter.offset for letter in sort_newest_first(map(read_letter, letters))]
    topic.chunks.clear()
    pages = dead_letters.read_newest_first(Filter())
    passes = len(topic.chunks)
    assert passes <= 2, "one pass finds the newest of each record, one reads them"
    assert [letter.offset for letter in pages] == expected
    assert len(topic.chunks) - passes == -(-len(times) // page)
    limited = dead_letters.read_newest_first(Filter(), limit)
    assert [letter.offset for letter in limited] == expected[:limit]


def test_a_limit_takes_the_newest():
    letters = [read_letter(new_letter(offset=n, at_ms=at)) for n, at in enumerate((5, 9, 1, 9))]
    assert [letter.offset for letter in sort_newest_first(letters, 2)] == [3, 1]
    assert [letter.offset for letter in sort_newest_first(letters)] == [3, 1, 0, 2]


def test_the_newest_letter_of_each_record_is_read_and_then_filtered():
    topic = FakeTopic(2)
    for cause, source, at in ((REFUSED, 0, 1), (REFUSED, 1, 1), (POISON, 0, 2), (REFUSED, 2, 3)):
        topic.append((source % 2, source), cause=cause, at=at)
    dead_letters = topic.reader()
    wanted = Filter(stage="index")
    assert sorted(letter.source[2] for letter in dead_letters.read_newest(wanted)) == [1, 2]
    (poison,) = dead_letters.read_newest(Filter(stage="decode"), content=True)
    assert (poison.source, poison.second, poison.value) == (("t", 0, 0), 2, b"v")


def test_progress_tells_how_many_letters_are_read():
    topic, steps = FakeTopic(2), []
    for n in range(8):
        topic.append((n % 2, n))
    list(topic.reader(progress=lambda *step: steps.append(step)).read_all("step"))
    assert steps == [("step", done, 8) for done in (3, 4, 7, 8)]


@pytest.mark.parametrize(
    ("letters", "has_our_headers", "warns"), [(0, False, False), (3, False, True), (3, True, False)]
)
def test_a_topic_without_a_letter_is_warned_of(letters, has_our_headers, warns):
    assert bool(warn_of_topic("t", letters, has_our_headers=has_our_headers)) is warns
    topic = FakeTopic()
    for _ in range(letters):
        topic.append_plain(0)
    if has_our_headers:
        topic.append((0, 9))
    assert ("does not look like a dead-letter topic" in topic.reader().topic_warning) is warns


@pytest.mark.parametrize(
    ("coordinates", "error"),
    [
        ("litellm-logs.dlq", "is not topic/partition/offset"),
        ("litellm-logs.dlq/x/1", "is not topic/partition/offset"),
        ("litellm-logs/0/1", "is not the dead-letter topic"),
    ],
)
def test_wrong_coordinates_are_refused_without_asking_a_broker(coordinates, error):
    with pytest.raises(ConfigurationError, match=error):
        read_letter_at(SETTINGS, coordinates)


def test_chunks_are_bounded_by_number_and_bytes():
    letters = [read_letter(new_letter(offset=n)) for n in range(5)]
    assert [len(chunk) for chunk in split_chunks(iter(letters), 2)] == [2, 2, 1]
    large = read_letter(new_letter(value=bytes(3 * 1024 * 1024)))
    assert [len(chunk) for chunk in split_chunks([large] * 5)] == [2, 2, 1]

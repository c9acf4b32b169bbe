"""Of the letters of one source record the newest is kept; headers are read where keys repeat."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.deduplicate import TABLE_BYTES, NewestPerRecord
from llmlog_consumer.dead_letters.headers import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.record import read_record
from support.fakes.letters import POISON, CountingMessage, new_letter
from support.messages import Message

KEYS = st.sampled_from([None, b"", b"a", b"b", bytes(TRUNCATED_KEY_BYTES)])


def letter(source, at_second, offset, *, partition=0, key=b"k", kind=Message):
    return new_letter(
        POISON,
        source=("t", 3, source),
        partition=partition,
        offset=offset,
        at_ms=at_second * 1000,
        key=key,
        kind=kind,
    )


def select(letters, **options):
    """Return the letters that are kept; the same when asked twice."""
    newest = NewestPerRecord(**options)
    newest.add(letters)
    kept = [letter for letter in letters if newest.keeps(letter)]
    assert [letter for letter in letters if newest.keeps(letter)] == kept
    return kept


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=40),
    st.lists(KEYS, min_size=10, max_size=10),
    st.sampled_from([1, TABLE_BYTES]),
)
def test_on_one_partition_the_newest_letter_of_each_record_is_kept(written, keys, table_bytes):
    letters = [
        letter(source, second, offset, key=keys[source])
        for offset, (source, second) in enumerate(written)
    ]
    kept = {letter.offset() for letter in select(letters, table_bytes=table_bytes)}
    newest = {}
    for offset, (source, second) in enumerate(written):
        if source not in newest or second >= newest[source][0]:
            newest[source] = (second, offset)
    assert kept == {offset for _, offset in newest.values()}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_on_several_partitions_exactly_one_letter_of_each_record_is_kept(written, chance):
    order = list(range(len(written)))
    chance.shuffle(order)
    letters = [
        letter(source, second, offset, partition=partition)
        for offset, (source, second, partition) in enumerate(written)
    ]
    newest = NewestPerRecord()
    newest.add(letters)
    kept = defaultdict(int)
    for at in order:
        kept[written[at][0]] += newest.keeps(letters[at])
    assert kept == dict.fromkeys({source for source, _, _ in written}, 1)


def test_the_newer_of_two_letters_is_kept_and_the_older_is_not():
    older, newer = letter(7, 1, 0), letter(7, 2, 1)
    assert select([older, newer]) == [newer]
    newest = NewestPerRecord()
    newest.add([older, newer])
    assert not newest.keeps_record(read_record(older))
    assert newest.keeps_record(read_record(newer))


def test_letters_of_several_records_with_one_key_are_all_kept():
    letters = [letter(source, 0, source) for source in range(3)]
    assert select(letters) == letters


def test_headers_are_read_only_of_letters_whose_key_came_before():
    letters = [letter(n, 0, n, key=b"key %d" % n, kind=CountingMessage) for n in range(100)]
    again = letter(7, 1, 100, key=b"key 7", kind=CountingMessage)
    CountingMessage.header_reads = 0
    kept = select([*letters, again])
    assert len(kept) == 100
    assert again in kept
    assert letters[7] not in kept
    assert CountingMessage.header_reads < 12


@pytest.mark.parametrize(
    ("headers", "expected"), [(None, False), ([("x", b"1")], False), ("ours", True)]
)
def test_a_topic_without_headers_of_letters_is_noticed(headers, expected):
    letters = [Message(headers_=None, offset_=n, key_=b"%d" % n) for n in range(3)]
    last = letter(1, 0, 3) if headers == "ours" else Message(headers_=headers)
    newest = NewestPerRecord()
    newest.add([*letters, last])
    assert (newest.letters, newest.has_our_headers) == (4, expected)

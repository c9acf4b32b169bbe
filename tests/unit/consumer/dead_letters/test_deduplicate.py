"""Of the letters of one source record the newest is kept; headers are read where keys repeat."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.deduplicate import TABLE_BYTES, NewestPerSource
from llmlog_consumer.dead_letters.headers import PREFIX, TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.record import read_record
from llmlog_schemas.codec import Encoder
from support.fakes.letters import POISON, REFUSED, CountingMessage, new_letter
from support.messages import Message
from support.payloads import encoded, event

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
    newest = NewestPerSource(**options)
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
    newest = NewestPerSource()
    newest.add(letters)
    kept = defaultdict(int)
    for at in order:
        kept[written[at][0]] += newest.keeps(letters[at])
    assert kept == dict.fromkeys({source for source, _, _ in written}, 1)


def test_the_newer_of_two_letters_is_kept_and_the_older_is_not():
    older, newer = letter(7, 1, 0), letter(7, 2, 1)
    assert select([older, newer]) == [newer]
    newest = NewestPerSource()
    newest.add([older, newer])
    assert not newest.keeps_record(read_record(older))
    assert newest.keeps_record(read_record(newer))


def test_letters_of_several_records_with_one_key_are_all_kept():
    letters = [letter(source, 0, source) for source in range(3)]
    assert select(letters) == letters


def of_event(seed, offset, cause=REFUSED, **options):
    """Return a letter of an event; later offsets are newer."""
    return new_letter(cause, value=encoded(seed), offset=offset, at_ms=offset * 1000, **options)


@pytest.mark.parametrize("table_bytes", [1, TABLE_BYTES])
def test_letters_of_one_event_are_of_one_source_wherever_its_records_lay(table_bytes):
    """It was sent twice, or replayed onto a topic; its key differs, or its framing."""
    letters = [
        of_event(1, 0, source=("t", 0, 1), key=b"a"),
        of_event(1, 1, POISON, source=("t", 2, 9), key=None),
        of_event(2, 2, source=("t", 0, 1), key=b"a"),
        new_letter(REFUSED, value=Encoder(7).encode(event(1)), offset=3, at_ms=3000, key=b"b"),
    ]
    assert select(letters, table_bytes=table_bytes) == letters[2:]


@pytest.mark.parametrize("value", [b"garbage", None, encoded(1)[:-400]])
def test_letters_of_a_topic_and_of_one_recreated_under_its_name_are_kept_apart(value):
    """Both have a record at these coordinates."""
    old, new, again = (
        new_letter(POISON, value=value, source_ms=ms, offset=offset, at_ms=offset)
        for offset, ms in enumerate((1_000, 2_000, 2_000))
    )
    assert select([old, new, again]) == [old, again]


def test_a_truncated_letter_and_the_whole_one_are_of_one_source():
    whole = of_event(1, 0)
    truncated = of_event(1, 1)
    length = str(len(whole.value_)).encode()
    truncated.headers_ = [*truncated.headers_, (f"{PREFIX}truncated.length", length)]
    truncated.value_ = whole.value_[:60]
    assert select([whole, truncated]) == [truncated]


def test_groups_that_share_the_topic_keep_a_letter_each():
    letters = [of_event(1, n, group=group) for n, group in enumerate(("blue", "green", "blue"))]
    assert select(letters) == letters[1:]
    plain = [new_letter(POISON, group=group, offset=n) for n, group in enumerate(("a", "b"))]
    assert select(plain) == plain


def test_part_of_an_event_does_not_hide_the_event():
    """The letter of a record that was cut off begins with the same id."""
    event_letter = of_event(1, 0)
    part = new_letter(POISON, value=encoded(1)[:-400], offset=1, at_ms=5000, source=("t", 0, 9))
    assert select([event_letter, part]) == [event_letter, part]


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
    newest = NewestPerSource()
    newest.add([*letters, last])
    assert (newest.letters, newest.has_our_headers) == (4, expected)

"""Of the letters of one name one keeps, the newest; headers are read where keys repeat."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters import deduplicate as doublets
from llmlog_consumer.dead_letters.cause import (
    TRUNCATED_KEY_BYTES,
    Cause,
    Ending,
    Stage,
    headers_of,
)
from llmlog_consumer.dead_letters.deduplicate import NewestPerRecord
from support.messages import Message

CAUSE = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")
KEYS = st.sampled_from([None, b"", b"a", b"b", bytes(TRUNCATED_KEY_BYTES)])


class Counted(Message):
    """Counts how often its headers are asked for."""

    asked = 0

    def headers(self):
        Counted.asked += 1
        return super().headers()


def letter(source, at_second, offset, *, partition=0, key=b"k", of=Message):
    headers = headers_of(Message(topic_="t", offset_=source), CAUSE, group="g")
    return of(topic_="t.dlq", partition_=partition, offset_=offset, headers_=headers, key_=key,
              timestamp_=(1, at_second * 1000))  # fmt: skip


def speakers(read, asked):
    """Take letters in in one order, ask in another; return those that speak, twice the same."""
    looked_at = NewestPerRecord()
    looked_at.add(read)
    spoke = [message for message in asked if looked_at.keeps(message)]
    assert [message for message in asked if looked_at.keeps(message)] == spoke
    return spoke


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=40),
       st.lists(KEYS, min_size=10, max_size=10), st.booleans())  # fmt: skip
def test_on_one_partition_the_newest_of_each_name_speaks(written, keys, crowded):
    whole, doublets._TABLE_BYTES = doublets._TABLE_BYTES, 1 if crowded else doublets._TABLE_BYTES
    try:
        some = [letter(source, second, n, key=keys[source])
                for n, (source, second) in enumerate(written)]  # fmt: skip
        spoke = {message.offset() for message in speakers(some, some)}
    finally:
        doublets._TABLE_BYTES = whole
    newest = {}
    for offset, (source, second) in enumerate(written):
        if source not in newest or second >= newest[source][0]:
            newest[source] = (second, offset)
    assert spoke == {offset for _, offset in newest.values()}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), max_size=20),
       st.randoms(use_true_random=False))  # fmt: skip
def test_on_several_partitions_exactly_one_of_each_name_speaks(written, chance):
    order = list(range(len(written)))
    chance.shuffle(order)
    some = [letter(source, second, n, partition=partition)
            for n, (source, second, partition) in enumerate(written)]  # fmt: skip
    looked_at = NewestPerRecord()
    looked_at.add(some)
    names = defaultdict(int)
    for n in order:
        names[written[n][0]] += looked_at.keeps(some[n])
    assert names == dict.fromkeys({source for source, _, _ in written}, 1)


def test_headers_are_read_of_letters_alone_whose_key_has_come_before():
    some = [letter(n, 0, n, key=b"key %d" % n, of=Counted) for n in range(100)]
    again = letter(7, 1, 100, key=b"key 7", of=Counted)
    Counted.asked = 0
    spoke = speakers([*some, again], [*some, again])
    assert len(spoke) == 100
    assert again in spoke
    assert some[7] not in spoke
    assert Counted.asked < 12


@pytest.mark.parametrize(("headers", "foreign"), [(None, True), ([("x", b"1")], True),
                                                  ("ours", False)])  # fmt: skip
def test_a_topic_without_headers_of_letters_is_foreign(headers, foreign):
    some = [Message(headers_=None, offset_=n, key_=b"%d" % n) for n in range(3)]
    last = letter(1, 0, 3) if headers == "ours" else Message(headers_=headers)
    looked_at = NewestPerRecord()
    looked_at.add([*some, last])
    assert (looked_at.read, looked_at.foreign) == (4, foreign)

"""The letters of a replay, found share by share: the newest of each record, and all of them."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.replay.scan import SHARE_OFFSETS, ReplayScan, split_shares
from support.fakes.letters import POISON, REFUSED, SETTINGS, FakeTopic

SOURCES = st.tuples(st.integers(0, 6), st.integers(0, 5))


def fill(partitions, letters):
    """Return a topic with letters spread over its partitions, each of a record and a key."""
    topic = FakeTopic(partitions)
    for n in range(letters):
        topic.append((n % partitions, n), key=b"%d" % n)
    return topic


def positions(records):
    """Return partition and offset of the letters that records were read from."""
    return [(record.position & 0x7FFF, record.position >> 15) for record in records]


def partitions_read(topic):
    return [partition for partition, _ in topic.chunks]


@given(
    st.lists(st.tuples(SOURCES, st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.integers(1, 12),
    st.sampled_from([None, "index", "decode"]),
)
def test_the_newest_letter_of_each_record_comes_once(letters, partitions, share, stage):
    topic, newest = FakeTopic(partitions), {}
    for source, at, refused in letters:
        cause = REFUSED if refused else POISON
        letter = topic.append(source, at=at, cause=cause, key=b"%d" % source[1])
        if at >= newest.get(source, (0, None, None))[0]:
            newest[source] = (at, (letter.partition(), letter.offset()), str(cause.stage))
    found = positions(topic.scan(Filter(stage=stage), share))
    expected = [position for _, position, of in newest.values() if stage in {None, of}]
    assert sorted(found) == sorted(expected)


@given(st.lists(st.tuples(SOURCES, st.none() | st.integers(0, 5)), max_size=30), st.integers(1, 12))
def test_of_letters_on_several_partitions_the_newest_comes_where_it_lies_at_home(letters, share):
    topic, newest = FakeTopic(6), {}
    for source, partition in sorted(letters, key=lambda letter: letter[1] is None):
        at_home = partition is None
        letter = topic.append(source, at=at_home, partition=partition, key=b"%d" % source[1])
        if at_home:
            newest[source] = (letter.partition(), letter.offset())
    found = list(topic.scan(share_offsets=share))
    assert sorted(record.source for record in found) == sorted({("t", *s) for s, _ in letters})
    home = [record for record in found if record.source[1:] in newest]
    assert dict(zip([r.source[1:] for r in home], positions(home), strict=True)) == newest


def test_a_signal_ends_the_reading_though_no_letter_matches():
    topic = fill(3, 300)
    nothing = topic.scan(Filter(fingerprint="none"), 30)
    nothing.stopping = lambda: len(topic.chunks) > 40  # within the first share that is read
    assert list(nothing) == []
    assert len(topic.chunks) < 45
    ahead = topic.scan(share_offsets=30)
    ahead.stopping = lambda: len(topic.chunks) > 60  # before any share is read
    assert list(ahead) == []
    assert len(topic.chunks) < 65


def test_a_share_is_handed_out_while_the_first_pass_goes_through_the_next():
    topic = fill(3, 27)
    letters = iter(topic.scan(share_offsets=9))
    assert next(letters).source[1] == 0
    assert partitions_read(topic) == [0, 0, 0, 0], "three chunks of the first pass, one read"
    assert len(list(islice(letters, 7))) == 7
    assert partitions_read(topic) == [0, 0, 0, 0, 1, 0, 1, 0], "a chunk of the next after each"
    assert len(list(letters)) == 19


def test_partitions_with_few_letters_are_one_share():
    assert split_shares({0: (0, 10), 1: (5, 5), 2: (7, 9)}) == [{0: (0, 10), 2: (7, 9)}]
    many = dict.fromkeys(range(3), (0, SHARE_OFFSETS))
    assert split_shares(many) == [{0: many[0]}, {1: many[1]}, {2: many[2]}]
    assert split_shares({0: (3, 3)}) == []


def test_a_topic_without_a_letter_is_warned_of_before_any_is_read():
    topic = FakeTopic(3)
    for partition in range(2):
        topic.append_plain(partition)
    assert "does not look like a dead-letter topic" in topic.scan(share_offsets=1).topic_warning
    topic.append((2, 0))
    letters = topic.scan(share_offsets=1)
    assert not letters.topic_warning
    assert len(list(letters)) == 3


@pytest.mark.parametrize("bounds", [{"since_ms": 2000}, {"until_ms": 2000}])
def test_only_letters_of_the_chosen_time_come(bounds):
    topic = FakeTopic()
    for n in range(4):
        topic.append((0, n), at=n, key=b"%d" % n)
    found = [record.ms for record in topic.scan(Filter(**bounds))]
    assert found == ([2000, 3000] if "since_ms" in bounds else [0, 1000])


def test_reading_may_end_anywhere():
    assert len(list(islice(fill(2, 20).scan(share_offsets=1), 5))) == 5


def test_progress_ends_with_every_letter():
    topic, steps = fill(2, 8), []
    scan = topic.scan()
    scan.progress = lambda *step: steps.append(step)
    assert len(list(scan)) == 8
    assert steps[-1] == ("reading letters", 8, 8)


def test_letters_of_another_group_are_left_alone_and_counted():
    topic = FakeTopic()
    for n, group in enumerate((SETTINGS.group, "blue", "", SETTINGS.group)):
        topic.append((0, n), group=group)
    letters = topic.reader()
    scan = ReplayScan(SETTINGS, letters, Filter(), read=topic.read)
    assert [record.source[2] for record in scan] == [0, 2, 3]
    assert letters.groups.others == {"blue": 1}

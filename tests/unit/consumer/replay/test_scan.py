"""A replay's letters, found share by share: the newest of each name, all of them, as they were."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlog_common.settings import load
from llmlog_consumer.dead_letters.cause import OURS, PREFIX, Cause, Ending, Stage, headers_of
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import found
from llmlog_consumer.dead_letters.record import read_record, record_of
from llmlog_consumer.replay import scan as sweep
from llmlog_consumer.replay.scan import ReplayScan
from support.messages import Message

REFUSED = Cause(Stage.INDEX, Ending.PERMANENT, reason="r", es_type="t", es_status=400)
POISON = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")


class Topic:
    """A dead-letter topic that is a list for each partition, read a few letters at a time."""

    def __init__(self, partitions, patch, share=sweep.SHARE):
        self.logs = {p: [] for p in range(partitions)}
        self.reading = []  # first partition of each chunk, in the order of reading
        patch.setattr(sweep.topic_reader, "read", self._read)
        patch.setattr(sweep, "SHARE", share)

    def put(self, source, *, at=0, lies=None, cause=REFUSED, key=b"k", headers=None):
        """Append a letter of source partition and offset, where it belongs or where it `lies`."""
        partition, offset = source
        lies = partition % len(self.logs) if lies is None else lies
        if headers is None:
            of = Message("t", partition, offset)
            headers = headers_of(of, cause, group="g")
        log = self.logs[lies]
        log.append(Message("t.dlq", lies, len(log), key, b"v", headers, (1, at * 1000)))

    def sweep(self, wanted=Filter()):  # noqa: B008 - frozen
        ranges = {p: (0, len(log)) for p, log in self.logs.items()}
        return ReplayScan(load(environ={}), "t.dlq", ranges, wanted)

    def _read(self, _settings, _topic, ranges, *, small):
        assert small
        for p, (start, end) in ranges.items():
            for at in range(start, end, 3):
                self.reading.append(p)
                yield self.logs[p][at : min(at + 3, end)]


def lies_at(records):
    """Return where the letters lie that records were read of."""
    return [found_at(record.position) for record in records]


def found_at(position):
    return position & 0x7FFF, position >> 15


SOURCES = st.tuples(st.integers(0, 6), st.integers(0, 5))


@given(st.lists(st.tuples(SOURCES, st.integers(0, 3), st.booleans()), max_size=40),
       st.integers(1, 5), st.integers(1, 12),
       st.sampled_from([None, "index", "decode"]))  # fmt: skip
def test_the_newest_letter_of_each_name_is_met_once(letters, partitions, share, stage):
    with pytest.MonkeyPatch.context() as patch:
        topic = Topic(partitions, patch, share)
        newest = {}
        for source, at, refused in letters:
            topic.put(source, at=at, cause=REFUSED if refused else POISON, key=b"%d" % source[1])
            lies = source[0] % partitions
            if at >= newest.get(source, (0, None, None))[0]:
                offset = len(topic.logs[lies]) - 1
                newest[source] = (at, (lies, offset), "index" if refused else "decode")
        met = lies_at(topic.sweep(Filter(stage=stage)))
    expected = [where for _, where, of in newest.values() if stage in {None, of}]
    assert sorted(met) == sorted(expected)


@given(st.lists(st.tuples(SOURCES, st.none() | st.integers(0, 5)), max_size=30),
       st.integers(1, 12))  # fmt: skip
def test_of_a_name_on_several_partitions_the_newest_is_met_where_it_lies_at_home(letters, share):
    with pytest.MonkeyPatch.context() as patch:
        topic = Topic(6, patch, share)
        newest = {}
        for source, lies in sorted(letters, key=lambda one: one[1] is None):
            topic.put(source, at=lies is None, lies=lies, key=b"%d" % source[1])
            if lies is None:
                newest[source] = (source[0] % 6, len(topic.logs[source[0] % 6]) - 1)
        met = list(topic.sweep())
    assert sorted(record.source for record in met) == sorted({("t", *s) for s, _ in letters})
    at_home = [r for r in met if r.source[1:] in newest]
    assert dict(zip([r.source[1:] for r in at_home], lies_at(at_home), strict=True)) == newest


def test_it_ends_soon_where_nothing_is_asked_for_and_it_is_told_to_stop(monkeypatch):
    topic = Topic(3, monkeypatch, share=30)
    for n in range(300):
        topic.put((n % 3, n), key=b"%d" % n)
    nothing = topic.sweep(Filter(fingerprint="none"))
    nothing.stopping = lambda: len(topic.reading) > 40  # within the first share that is read
    assert list(nothing) == []
    assert len(topic.reading) < 45
    ahead = topic.sweep()
    ahead.stopping = lambda: len(topic.reading) > 60  # before any share is read
    assert list(ahead) == []
    assert len(topic.reading) < 65


def test_a_truncated_letter_is_as_large_as_what_is_read_again_for_it():
    written = headers_of(Message("t", 3, 41), REFUSED, group="g")
    for said, size in ((b"5000000", 5_000_000), (b"-1", 5), (b"?", 5)):
        headers = [*written, (f"{PREFIX}truncated.length", said)]
        assert read_record(Message("t.dlq", 2, 9, b"key", b"value", headers)).size == size
    assert read_record(Message("t.dlq", 2, 9, b"key", b"value", written)).size == 5


def test_a_share_is_handed_out_while_the_next_is_looked_through(monkeypatch):
    topic = Topic(3, monkeypatch, share=9)
    for n in range(27):
        topic.put((n % 3, n), key=b"%d" % n)
    letters = iter(topic.sweep())
    assert next(letters).source[1] == 0
    assert topic.reading == [0, 0, 0, 0], "three chunks looked through, one read"
    assert len(list(islice(letters, 7))) == 7
    assert topic.reading == [0, 0, 0, 0, 1, 0, 1, 0], "a chunk of the next after each"
    assert len(list(letters)) == 19


def test_partitions_with_few_letters_are_one_share():
    assert sweep._shares({0: (0, 10), 1: (5, 5), 2: (7, 9)}) == [{0: (0, 10), 2: (7, 9)}]
    much = dict.fromkeys(range(3), (0, sweep.SHARE))
    assert sweep._shares(much) == [{0: much[0]}, {1: much[1]}, {2: much[2]}]
    assert sweep._shares({0: (3, 3)}) == []


def test_no_letter_is_met_before_one_was_seen_on_the_topic(monkeypatch):
    topic = Topic(3, monkeypatch, share=1)
    for partition in range(2):
        topic.put((partition, 0), headers=[])
    assert "looks like no dead-letter topic" in topic.sweep().suspicion
    topic.put((2, 0))
    letters = topic.sweep()
    assert not letters.suspicion
    assert len(list(letters)) == 3


@pytest.mark.parametrize("bounds", [{"since_ms": 2000}, {"until_ms": 2000}])
def test_only_the_time_that_was_asked_for_is_met(monkeypatch, bounds):
    topic = Topic(1, monkeypatch)
    for n in range(4):
        topic.put((0, n), at=n, key=b"%d" % n)
    met = [record.ms for record in topic.sweep(Filter(**bounds))]
    assert met == ([2000, 3000] if "since_ms" in bounds else [0, 1000])


def test_reading_may_end_anywhere(monkeypatch):
    topic = Topic(2, monkeypatch, share=1)
    for n in range(20):
        topic.put((n % 2, n), key=b"%d" % n)
    assert len(list(islice(topic.sweep(), 5))) == 5


VALUES = st.one_of(st.none(), st.binary(max_size=3), st.sampled_from([b"0", b"7", b"\xff", b"t"]))
HEADERS = st.lists(st.tuples(st.sampled_from([*sorted(OURS), f"{PREFIX}x", "own",
                   "__connect.errors.topic", "__connect.errors.partition",
                   "__connect.errors.offset"]), VALUES))  # fmt: skip


@given(HEADERS, st.booleans(), st.lists(st.tuples(st.just("own"), VALUES), max_size=1))
@example(headers=[(f"{PREFIX}truncated.length", b"9")], ours=True, own=[])
@example(headers=[(f"{PREFIX}offset", b"-1")], ours=True, own=[])
def test_a_record_is_read_of_a_message_as_of_the_letter_that_is_found_in_it(headers, ours, own):
    if ours:
        written = dict(headers_of(Message("t", 3, 41, headers_=own), REFUSED, group="g"))
        headers = list((written | dict(headers)).items())
    message = Message("t.dlq", 2, 9, b"key", b"value", headers, (1, 5000))
    quick, careful = read_record(message), record_of(found(message))
    for name in ("source", "own", "replays", "size", "second", "position"):
        assert getattr(quick, name) == getattr(careful, name)
    assert quick.headers() == careful.headers()
    assert quick.timestamp() == careful.timestamp()
    assert (quick.truncated is None) == (careful.truncated is None)
    assert (quick.key(), quick.value()) == (b"key", b"value")

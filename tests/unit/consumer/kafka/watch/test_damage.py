"""Which offsets are given up, by brokers that are silent, refuse, or are late."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.settings import load
from llmlog_consumer.kafka.watch.damage import MAX_STEP, Damage, DamageSearch
from support.fakes.delivery import FakeClock
from support.messages import Message

SILENT = None
BAD = KafkaError._BAD_MSG
END = 300


@dataclass
class Broker:
    """A client whose broker has a log of `END` offsets, some of which it cannot give.

    Attributes:
        clock: moved by a poll without a record.
        flaws: what is answered in the place of these offsets: an error's code, or silence.
        late: offsets that are given at the second question alone.
        markers: offsets that hold no record: the next one is given.
        start: first offset of the log; a question before it is out of range.
        truncated: the epoch that was committed ends before the offset that was.
        config: of the client, once it is made.
        places: each one that was assigned.
        is_closed: the client was closed.
    """

    clock: FakeClock
    flaws: dict[int, int | None] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    markers: set[int] = field(default_factory=set)
    start: int = 0
    truncated: bool = False
    config: dict[str, object] = field(default_factory=dict)
    places: list[object] = field(default_factory=list)
    is_closed: bool = False
    at: int = 0

    def __call__(self, config, **_options):
        self.config = config
        return self

    def assign(self, places):
        (place,) = places
        self.places.append(place)
        self.at = place.offset

    def poll(self, seconds):
        self.clock.now += 0.01
        if self.truncated:
            return failure(KafkaError._AUTO_OFFSET_RESET, self.at, "log truncation detected")
        if self.at < self.start:
            return failure(KafkaError._AUTO_OFFSET_RESET, self.at)
        while self.at in self.markers:
            self.at += 1
        if self.at >= END:
            return failure(KafkaError._PARTITION_EOF, self.at)
        if self.at in self.late or self.at in self.flaws:
            self.late.discard(self.at)
            code = self.flaws.get(self.at)
            if code is not None:
                return failure(code, self.at)
            self.clock.now += max(seconds, 1.0)
            return None
        self.at += 1
        return record(self.at - 1)

    def close(self):
        self.is_closed = True


def record(offset):
    message = Message(offset_=offset)
    message.error = lambda: None
    return message


def failure(code, offset, text=None):
    message = Message(offset_=offset)
    message.error = lambda: KafkaError(code, text)
    return message


def find(broker, committed=0, epoch=-1, log_start=0, log_end=END):
    with DamageSearch(
        load(environ={}), "t", 7, silence_seconds=1.0, client=broker, clock=broker.clock
    ) as search:
        return search.find(committed, epoch, log_start, log_end)


def flaws(offsets, code=SILENT):
    return dict.fromkeys(offsets, code)


@pytest.mark.parametrize("late", [set(), {211}, {199}, {227, 211}, set(range(195, 260))])
def test_an_offset_that_a_loaded_broker_gave_late_is_not_given_up(late):
    found = find(Broker(FakeClock(), flaws(range(100, 195)), late))
    assert (found.first, found.next) == (100, 195)


@pytest.mark.parametrize("code", [SILENT, BAD])
@given(ends=st.tuples(st.integers(0, END), st.integers(0, END)), committed=st.integers(0, END - 1))
def test_exactly_what_the_broker_cannot_give_is_given_up(code, ends, committed):
    begin, end = sorted(ends)
    found = find(Broker(FakeClock(), flaws(range(begin, end), code)), committed)
    if max(begin, committed) >= end:
        assert found is None
    else:
        assert (found.first, found.next) == (max(begin, committed), end)


@given(bad=st.sets(st.integers(0, END - 1), min_size=1), code=st.sampled_from([SILENT, BAD]))
def test_what_is_given_up_begins_and_ends_with_what_cannot_be_read(bad, code):
    found = find(Broker(FakeClock(), flaws(bad, code)))
    assert found.first == min(bad)
    assert found.next - 1 in bad
    assert found.next not in bad


def test_many_damaged_batches_one_behind_the_other_are_left_one_after_the_other():
    """Where the broker refuses at once, nothing readable of more than `MAX_STEP` is passed over."""
    bad = {*range(50), *range(50 + MAX_STEP, END)}
    assert find(Broker(FakeClock(), flaws(bad, BAD))).next == 50


def test_a_log_that_can_be_read_has_no_damage():
    assert find(Broker(FakeClock())) is None
    assert find(Broker(FakeClock(), markers={0, 5, *range(290, END)})) is None


def test_damage_behind_the_end_that_was_asked_for_is_none():
    assert find(Broker(FakeClock(), flaws({200})), log_end=200) is None
    assert find(Broker(FakeClock(), flaws({200})), log_end=201).first == 200


def test_the_end_of_the_log_is_the_end_of_damage_that_reaches_it():
    found = find(Broker(FakeClock(), flaws(range(290, END), BAD)))
    assert (found.first, found.next) == (290, END)
    assert "Bad message format" in found.why


def test_a_broker_that_is_silent_is_said_to_give_no_record():
    assert find(Broker(FakeClock(), flaws({9}))).why == "the broker gives no record"


def test_a_place_before_the_log_is_no_damage():
    assert find(Broker(FakeClock(), start=10), 5, log_start=10) is None


def test_a_truncated_log_is_read_again_from_its_beginning():
    found = find(Broker(FakeClock(), truncated=True), 42, 3, log_start=7)
    assert (found.first, found.next) == (42, 7)
    assert found.why == "log truncation detected"


def test_the_place_is_asked_for_with_the_epoch_that_was_committed():
    broker = Broker(FakeClock())
    find(broker, 42, 3)
    (place,) = broker.places
    assert (place.topic, place.partition, place.offset, place.leader_epoch) == ("t", 7, 42, 3)
    find(broker, 42, 0)
    assert broker.places[-1].leader_epoch == 0
    find(broker, 42, -1)
    assert broker.places[-1].leader_epoch is None


def test_a_client_that_does_not_end_does_not_hold_the_search():
    broker, ended = Broker(FakeClock()), threading.Event()
    broker.close = ended.wait
    search = DamageSearch(load(environ={}), "t", 7, client=broker, close_seconds=0.01)
    with search:
        pass
    ended.set()


def test_the_search_is_a_reader_outside_of_the_group_and_leaves_nothing():
    broker = Broker(FakeClock(), flaws({9}))
    assert find(broker) == Damage(9, 10, "the broker gives no record")
    assert broker.config["group.id"] == "llmlog-inspect"
    assert broker.config["enable.partition.eof"] is True
    assert broker.is_closed
    assert {place.partition for place in broker.places} == {7}

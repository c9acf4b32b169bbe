"""How long an event takes until a search finds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ElasticsearchError, KafkaUnreachable
from llmlog_consumer.checks.doctor.canary import HEADER
from llmlog_consumer.checks.searchable import NewestEvents, SearchProbe, SearchTiming
from support.messages import Message
from support.pipeline import wait_until

QUICK = SearchTiming(interval_seconds=0.001, poll_seconds=0.001, patience_seconds=5.0)


class Topic:
    """A topic: the log's end of each partition, and what was read of it."""

    def __init__(self, **record: object) -> None:
        self.ends = {0: 5, 1: 7}
        self.read: list[tuple[int, int]] = []
        self.record: Message | None = Message(key_=b"event", **record)  # type: ignore[arg-type]
        self.newest = NewestEvents(self.watermarks, self.read_one)

    def watermarks(self) -> dict[int, tuple[int, int]]:
        return {partition: (0, end) for partition, end in self.ends.items()}

    def read_one(self, partition: int, offset: int) -> Message | None:
        self.read.append((partition, offset))
        return self.record


def test_what_was_there_at_the_start_is_no_new_event() -> None:
    topic = Topic()
    assert topic.newest.take() is None
    assert topic.newest.take() is None
    assert topic.read == []


def test_the_last_record_of_the_partition_that_grew_most_is_taken_once() -> None:
    topic = Topic(timestamp_=(1, 4_000))
    topic.newest.take()
    topic.ends = {0: 6, 1: 17}
    assert topic.newest.take() == ("event", 4_000)
    assert topic.read == [(1, 16)]
    assert topic.newest.take() is None


@pytest.mark.parametrize(
    "record",
    [Message(headers_=[(HEADER, b"1")]), Message(key_=None), Message(timestamp_=(0, -1)), None],
    ids=["a canary", "no id", "no time", "not there any more"],
)
def test_a_record_that_tells_nothing_is_left_out(record: Message | None) -> None:
    topic = Topic()
    topic.newest.take()
    topic.ends[0] += 1
    topic.record = record
    assert topic.newest.take() is None


@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 50)), max_size=10))
def test_any_movement_of_the_log_is_taken(ends: list[dict[int, int]]) -> None:
    """Partitions come and go, and are truncated: a record is read only where the log grew."""
    topic = Topic()
    for now in ends:
        before, topic.ends = topic.ends, now
        topic.read.clear()
        topic.newest.take()
        assert all(offset == now[p] - 1 >= before.get(p, now[p]) for p, offset in topic.read)


class Clock:
    """Epoch seconds, half a second later at each look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def probe(answers: Iterator[bool], told: list[float | None]) -> SearchProbe:
    """Return a probe of one event, which Kafka had at second 100."""
    return SearchProbe(
        lambda: ("event", 100_000), lambda _: next(answers), told.append, timing=QUICK,
        clock=Clock(),
    )  # fmt: skip


def test_the_time_until_a_search_finds_the_event_is_told() -> None:
    told: list[float | None] = []
    probe(iter([False, False, True]), told).measure()
    assert told == [1.5]


def test_an_event_that_no_search_finds_is_given_up() -> None:
    told: list[float | None] = []
    probe(iter([False] * 100), told).measure()
    assert told == [None]


@pytest.mark.parametrize("error", [KafkaUnreachable("away"), ElasticsearchError("403")])
def test_servers_that_are_away_are_no_measurement(error: Exception) -> None:
    told: list[float | None] = []

    def refuse(*_: object) -> None:
        raise error

    SearchProbe(refuse, lambda _: True, told.append, timing=QUICK).measure()
    SearchProbe(lambda: ("event", 1), refuse, told.append, timing=QUICK).measure()  # type: ignore[arg-type]
    assert told == []


def test_its_thread_goes_on_after_each_event_and_ends_with_the_block() -> None:
    told: list[float | None] = []
    with SearchProbe(lambda: ("event", 1), lambda _: True, told.append, timing=QUICK):
        wait_until(lambda: len(told) >= 3, what="three are measured")

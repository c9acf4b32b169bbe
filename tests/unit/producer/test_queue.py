"""The queue between hooks and the sending thread."""

import pytest

from llmlog_producer.events.build import EncodedEvent
from llmlog_producer.sending.queue import EventQueue


def entry(size):
    return EncodedEvent(bytes(size))


def test_entries_come_out_in_order_and_free_their_room():
    queue = EventQueue(max_events=3, max_bytes=30)
    given = [entry(10) for _ in range(3)]
    for one in given:
        assert queue.has_room(one.size)
        queue.put(one)
    assert not queue.has_room(0)
    assert queue.take(2) == given[:2]
    assert queue.has_room(20)
    assert not queue.has_room(21)
    assert queue.take(2) == given[2:]
    assert queue.take(2) == []
    assert queue.has_room(30)


@pytest.mark.parametrize(
    ("number", "size", "nearly_full"),
    [(5, 1, False), (6, 1, True), (1, 250, False), (1, 251, True)],
)
def test_it_is_nearly_full_past_a_quarter_of_a_bound(number, size, nearly_full):
    queue = EventQueue(max_events=20, max_bytes=1000)
    for _ in range(number):
        queue.put(entry(size))
    assert queue.nearly_full == nearly_full


def test_the_sending_thread_is_woken_once_in_so_many_bytes():
    queue = EventQueue(wake_bytes=100)
    assert [queue.put(entry(40)) for _ in range(6)] == [False, False, True] * 2
    queue.put(entry(90))
    queue.take(1)
    assert not queue.put(entry(90)), "bytes from before the thread has taken are not new"


def test_only_a_few_megabytes_are_taken_at_once_because_they_are_not_counted_any_more():
    queue = EventQueue()
    given = [entry(3_000_000) for _ in range(4)]
    for one in given:
        queue.put(one)
    assert queue.take(32) == given[:2]
    assert queue.take(32) == given[2:]

"""Which events go to the journal, when, and how many by one call."""

import math
import time

import pytest

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import EncodedEvent
from llmlog_producer.journal.journal import Journal
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.spill import Spill
from llmlog_producer.sending.timing import Limits, Timing
from support.fakes.gateway import captured


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path, 1 << 20)


@pytest.fixture
def stats():
    return Stats()


@pytest.fixture
def make(journal, stats):
    def make_one(*, overdue_seconds=1000.0, adopt_seconds=30.0, queue=None, has_journal=True,
                 **limits):  # fmt: skip
        return Spill(
            journal if has_journal else None,
            stats,
            ThrottledLog(GatewayLogger()),
            queue or EventQueue(),
            timing=Timing(overdue_seconds=overdue_seconds, adopt_seconds=adopt_seconds),
            limits=Limits(**limits),
        )

    return make_one


def aged(share):
    """Return a payload that has waited for this share of 1000 seconds."""
    one = captured("a")
    one.at = time.time() - 1000 * share
    return one


def events(number, size=40):
    return [EncodedEvent(bytes(size)) for _ in range(number)]


def test_an_overdue_payload_takes_along_those_that_soon_will_be(make):
    due = make().is_due
    waiting = [aged(share) for share in (0.7, 1.1, 0.7, 0.4, 0.7)]
    assert [due(entry, urgent=False) for entry in waiting] == [False, True, True, False, False]


def test_an_overdue_event_in_flight_takes_along_those_that_soon_will_be(make):
    spill, in_flight = make(), events(4)
    for event, age in zip(in_flight, (900, 800, 600, 300), strict=True):
        event.sent = -age
    assert spill.write_overdue(in_flight, 0) == []
    assert spill.write_overdue(in_flight, 150) == in_flight[:3]
    assert [event.ref is not None for event in in_flight] == [True, True, True, False]


def test_every_payload_is_due_when_it_is_urgent_or_the_queue_is_nearly_full(make):
    assert make().is_due(aged(0.1), urgent=True)
    queue = EventQueue(max_events=8)
    for _ in range(3):
        queue.put(captured("x"))
    assert make(queue=queue).is_due(aged(0.1), urgent=False)
    assert not make().is_due(aged(0.1), urgent=False)


def test_an_event_that_is_built_already_is_due(make):
    assert make().is_due(EncodedEvent(b"x"), urgent=False)


def test_without_a_journal_no_event_is_written(make):
    spill, (event,) = make(has_journal=False), events(1)
    assert not spill.has_journal
    assert not spill.is_due(event, urgent=True)
    assert not spill.keep(event)
    assert not spill.write([event], taken=True)
    assert spill.overdue_in([event], 0.0) == math.inf
    assert not list(spill.read_backlog(10))


def test_events_are_written_some_at_a_time(make, journal, monkeypatch):
    batches, append_all = [], journal.append_all

    def recorded(bodies, *, taken):
        batches.append(len(bodies))
        return append_all(bodies, taken=taken)

    monkeypatch.setattr(journal, "append_all", recorded)
    spill = make(write_events=3, write_bytes=1000)
    assert spill.write(events(7), taken=True)
    assert batches == [3, 3, 1]
    batches.clear()
    assert spill.write(events(5, size=600), taken=True)
    assert batches == [2, 2, 1]


def test_an_event_is_written_once(make, journal, stats):
    spill, given = make(), events(2)
    spill.write(given, taken=True)
    spill.write(given, taken=True)
    assert journal.waiting == 2
    assert stats.snapshot()["journaled"] == 2


def test_kept_events_are_written_together_and_handed_out_later(make, journal):
    spill, given = make(), events(3)
    assert all(spill.keep(event) for event in given)
    assert journal.waiting == 0
    assert spill.write_kept() == []
    assert journal.unsent == 3
    assert len(list(spill.read_backlog(2))) == 2
    assert journal.unsent == 1


def test_an_event_of_the_journal_is_given_back_when_it_is_kept(make, journal):
    spill, (event,) = make(), events(1)
    spill.write([event], taken=True)
    assert (journal.unsent, journal.waiting) == (0, 1)
    assert spill.keep(event)
    assert (journal.unsent, journal.waiting) == (1, 1)


def test_events_that_a_full_journal_does_not_take_are_returned(tmp_path, stats, make):
    full = Spill(
        Journal(tmp_path / "small", 100), stats, ThrottledLog(GatewayLogger()), EventQueue()
    )
    given = events(3)
    assert all(full.keep(event) for event in given)
    assert full.write_kept() == given[1:], "there is room for one"
    assert not full.keep(given[1]), "from now on the answer comes at once"


def test_a_smaller_event_replaces_its_larger_copy(make, journal):
    spill, (event, smaller) = make(), events(2)
    spill.replace(event, smaller)
    assert smaller.ref is None, "no copy, nothing to replace"
    spill.write([event], taken=True)
    spill.replace(event, smaller)
    assert journal.waiting == 1
    spill.settle(smaller)
    assert journal.waiting == 0


def test_the_journals_of_dead_processes_are_adopted_now_and_then(make, tmp_path, stats):
    spill = make(adopt_seconds=30.0)
    assert not spill.has_adopted
    spill.adopt(100.0)
    assert spill.has_adopted
    dead = Journal(tmp_path, 1 << 20)
    dead.append_all([b"left behind"], taken=True)
    dead.release()
    spill.adopt(129.0)
    assert stats.snapshot()["recovered"] == 0
    spill.adopt(130.0)
    assert stats.snapshot()["recovered"] == 1
    assert spill.has_backlog

"""Which events go to the journal, when, and how many by one call."""

import math

import pytest

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import EncodedEvent, Written
from llmlog_producer.journal.journal import Journal
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.spill import Spill
from llmlog_producer.sending.timing import Limits, Timing
from support.fakes.gateway import InlineJobs, LateJobs, captured


@pytest.fixture
def journal(tmp_path):
    one = Journal(tmp_path, 1 << 20)
    one.open()
    return one


@pytest.fixture
def stats():
    return Stats()


@pytest.fixture
def make(journal, stats):
    ours = journal

    def make_one(*, overdue_seconds=1000.0, adopt_seconds=30.0, queue=None, has_journal=True,
                 journal=ours, jobs=None, **limits):  # fmt: skip
        return Spill(
            journal if has_journal else None,
            stats,
            ThrottledLog(GatewayLogger()),
            queue or EventQueue(),
            wake=lambda: None,
            thread=jobs or InlineJobs(),
            timing=Timing(overdue_seconds=overdue_seconds, adopt_seconds=adopt_seconds),
            limits=Limits(**limits),
        )

    return make_one


def aged(share):
    """Return a payload that has waited for this share of 1000 seconds."""
    one = captured("a")
    one.since -= 1000 * share
    return one


def events(number, size=40):
    return [EncodedEvent(bytes(size)) for _ in range(number)]


def test_an_overdue_payload_takes_along_those_that_soon_will_be(make):
    due = make().is_due
    waiting = [aged(share) for share in (0.7, 1.1, 0.7, 0.4, 0.7)]
    assert [due(entry, urgent=False) for entry in waiting] == [False, True, True, False, False]


@pytest.mark.parametrize("stepped", [-(10**6), 10**6])
def test_a_clock_that_is_set_makes_no_event_older_or_younger(make, stepped):
    due = make().is_due
    for share, expected in ((0.1, False), (1.1, True)):
        one = aged(share)
        one.at += stepped
        assert due(one, urgent=False) == expected


def test_it_has_all_only_once_what_has_gathered_is_written_too(make):
    jobs = LateJobs()
    spill = make(jobs=jobs)
    for event in events(2):
        assert spill.keep(event)
        assert not spill.exchange()
    jobs.jobs.pop()()
    assert not spill.has_all([]), "the second has gathered while the first was written"
    assert not spill.exchange()
    assert not spill.has_all([])
    jobs.jobs.pop()()
    assert spill.has_all([])


def test_an_overdue_event_in_flight_takes_along_those_that_soon_will_be(make):
    spill, in_flight = make(), events(4)
    for event, age in zip(in_flight, (900, 800, 600, 300), strict=True):
        event.sent = -age
    assert spill.copy_overdue(in_flight, 0) == []
    assert spill.copy_overdue(in_flight, 150) == []
    spill.exchange()
    assert spill.copy_overdue(in_flight, 150) == in_flight[:3]
    assert [event.ref is not None for event in in_flight] == [True, True, True, False]


def test_every_payload_is_due_when_it_is_urgent_or_the_queue_is_nearly_full(make):
    assert make().is_due(aged(0.1), urgent=True)
    queue = EventQueue(max_events=8)
    for _ in range(3):
        queue.put(captured("x"))
    assert make(queue=queue).is_due(aged(0.1), urgent=False)
    assert not make().is_due(aged(0.1), urgent=False)


def test_a_payload_is_due_at_once_when_a_hook_waits_for_it(make):
    one = aged(0.1)
    one.written = Written()
    assert make().is_due(one, urgent=False)


def test_an_event_that_is_built_already_is_due(make):
    assert make().is_due(EncodedEvent(b"x"), urgent=False)


def test_without_a_journal_no_event_is_written(make):
    spill, (event,) = make(has_journal=False), events(1)
    assert not spill.has_journal
    assert not spill.is_due(event, urgent=True)
    assert not spill.keep(event)
    spill.copy(event)
    assert spill.exchange() == []
    assert spill.has_all([event]), "there is nothing to wait for"
    assert spill.overdue_in([event], 0.0) == math.inf
    assert not list(spill.read_backlog(10))


def test_a_folder_that_is_refused_gives_all_events_back(make, tmp_path, caplog):
    (tmp_path / "file").touch()
    spill, given = make(journal=Journal(tmp_path / "file" / "folder", 1000)), events(2)
    assert spill.has_journal, "it was not tried yet"
    assert all(spill.keep(event) for event in given)
    assert spill.exchange() == given
    assert not spill.has_journal
    assert not spill.keep(given[0])
    assert "no journal, events are kept in memory alone" in caplog.text


def test_events_are_written_some_at_a_time(make, journal, monkeypatch):
    batches, append = [], journal.append

    def recorded(bodies, *, taken):
        batches.append(len(bodies))
        return append(bodies, taken=taken)

    monkeypatch.setattr(journal, "append", recorded)
    spill = make(write_events=3)
    for event in events(7):
        spill.copy(event)
    spill.exchange()
    assert batches == [3, 3, 1]


def test_a_job_has_no_more_bytes_than_its_bound(make):
    spill, given = make(write_bytes=100), events(5)
    assert [spill.keep(event) for event in given] == [True, True, True, False, False]
    assert not spill.is_due(captured("a"), urgent=True)
    spill.exchange()
    assert spill.keep(given[3])


def test_an_event_is_written_once(make, journal, stats):
    spill, given = make(), events(2)
    for _ in range(2):
        for event in given:
            spill.copy(event)
            spill.copy(event)
        spill.exchange()
    assert journal.waiting == stats.snapshot()["journaled"] == stats.snapshot()["in_journal"] == 2


def test_an_event_that_is_acknowledged_before_it_is_written_is_not(make, journal, stats):
    spill, (event,) = make(), events(1)
    spill.copy(event)
    spill.settle(event)
    spill.exchange()
    assert journal.waiting == stats.snapshot()["journaled"] == 0


class SettledMeanwhile(Journal):
    """A journal in which an event is acknowledged while it is written."""

    def append(self, bodies, *, taken):
        refs = super().append(bodies, taken=taken)
        self.meanwhile()
        return refs


def test_an_event_that_is_acknowledged_while_it_is_written_is_forgotten(make, stats, tmp_path):
    journal, (event,) = SettledMeanwhile(tmp_path / "other", 1000), events(1)
    spill = make(journal=journal)
    journal.meanwhile = lambda: spill.settle(event)
    spill.copy(event)
    spill.exchange()
    spill.exchange()
    assert journal.waiting == stats.snapshot()["in_journal"] == 0
    assert event.ref is None


def test_kept_events_are_written_together_and_handed_out_later(make, journal):
    spill, given = make(), events(3)
    assert all(spill.keep(event) for event in given)
    assert journal.waiting == 0
    assert spill.exchange() == []
    assert journal.unsent == 3
    assert list(spill.read_backlog(2)) == [], "they are asked for"
    spill.exchange()
    assert len(list(spill.read_backlog(2))) == 2
    assert len(list(spill.read_backlog(2))) == 1
    assert not spill.has_backlog


def test_an_event_that_has_a_copy_needs_no_other_when_it_is_kept(make, journal):
    spill, (event,) = make(), events(1)
    spill.copy(event)
    spill.exchange()
    assert spill.keep(event)
    assert list(spill.read_backlog(10)) == [event]
    assert journal.waiting == 1


def test_an_event_that_is_kept_while_its_copy_is_written_is_handed_out_once(make, journal):
    spill, (event,) = make(), events(1)
    spill.copy(event)
    assert spill.keep(event)
    spill.exchange()
    assert list(spill.read_backlog(10)) == [event]
    assert (journal.waiting, journal.unsent) == (1, 0)


def test_events_that_a_full_journal_does_not_take_are_returned_and_one_is_tried_later(
    tmp_path, make
):
    spill, given = make(journal=Journal(tmp_path / "small", 100)), events(4)
    assert all(spill.keep(event) for event in given)
    assert spill.exchange() == given[1:], "there is room for one"
    assert not spill.keep(given[1]), "from now on the answer comes at once"
    spill.keep_house(1.0)
    assert [spill.keep(event) for event in given[1:]] == [True, False, False]
    assert spill.exchange() == given[1:2]


def test_a_hook_learns_whether_its_event_is_written(tmp_path, make):
    spill, given = make(journal=Journal(tmp_path / "small", 100)), events(3)
    for event in given:
        event.written = Written()
    for event in given[:2]:
        spill.copy(event)
    assert not given[0].written.is_over
    spill.exchange()
    spill.copy(given[2])
    assert [event.written.wait(0.0) for event in given] == [True, False, False]
    assert all(event.written.is_over for event in given)


def test_the_journals_of_dead_processes_are_adopted_now_and_then(make, tmp_path, stats):
    spill = make(adopt_seconds=30.0)

    def look(now):
        spill.keep_house(now)
        for _ in range(4):
            spill.exchange()

    assert not spill.has_adopted
    look(100.0)
    assert spill.has_adopted
    dead = Journal(tmp_path, 1 << 20)
    dead.open()
    dead.append([b"left behind"], taken=True)
    dead.release()
    look(129.0)
    assert stats.snapshot()["recovered"] == 0
    look(130.0)
    assert stats.snapshot()["recovered"] == stats.snapshot()["in_journal"] == 1
    assert spill.has_backlog

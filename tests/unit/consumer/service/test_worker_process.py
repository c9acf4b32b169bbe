"""The reports of a worker process to its supervisor."""

from __future__ import annotations

import pytest

from llmlog_consumer.service.worker_process import (
    MAX_REASON_CHARACTERS,
    REPORT_SECONDS,
    Reporter,
)
from support.fakes.service import Clock


class Worker:
    def __init__(self):
        self.counts = 0

    def report(self):
        self.counts += 1
        return {"consumed": self.counts}


class Pipe:
    def __init__(self, *, is_broken=False):
        self.sent, self._is_broken = [], is_broken

    def send(self, report):
        if self._is_broken:
            raise BrokenPipeError
        self.sent.append(report)


@pytest.fixture
def clock():
    return Clock()


def test_counts_are_reported_twice_a_second_however_often_it_is_asked(clock):
    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    reporter.worker = Worker()
    for _ in range(3):
        for _ in range(100):
            reporter.report_if_due()
        clock.now += REPORT_SECONDS
    assert [report["consumed"] for report in pipe.sent] == [1, 2, 3]


def test_the_last_report_is_sent_at_once(clock):
    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    reporter.worker = Worker()
    reporter.report_if_due()
    reporter.report()
    assert len(pipe.sent) == 2


def test_before_the_worker_exists_nothing_is_reported(clock):
    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    reporter.report_if_due()
    reporter.report()
    assert pipe.sent == []


def test_a_supervisor_that_is_gone_does_not_disturb_the_drain(clock):
    reporter = Reporter(Pipe(is_broken=True), clock)
    reporter.worker = Worker()
    reporter.report()


def test_a_worker_that_ends_says_why_even_where_it_never_began(clock):
    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    reporter.ended = "fenced " * 1000
    reporter.report()
    reporter.worker = Worker()
    reporter.report()
    first, second = pipe.sent
    assert first == {"ended": reporter.ended[:MAX_REASON_CHARACTERS]}
    assert second.pop("process")
    assert second == {"consumed": 1, **first}


def test_a_report_has_the_cpu_time_and_the_memory_of_its_process(clock):
    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    reporter.worker = Worker()
    reporter.report()
    (report,) = pipe.sent
    assert report["process"]["cpu"] > 0
    assert report["process"]["memory"] > 1_000_000


def test_a_worker_in_the_place_of_another_goes_on_with_its_counts(clock):
    class Counting:
        def __init__(self, **counts):
            self.counts = counts

        def report(self):
            return {"in_flight": 3, "unhealthy": "", "dead_letters": {"a": 1}, **self.counts}

    pipe = Pipe()
    reporter = Reporter(pipe, clock)
    for counts in ({"consumed": 5, "late": 1}, {"consumed": 2, "indexed": 2}, {"consumed": 1}):
        reporter.worker = Counting(**counts)
        reporter.report()
        reporter.keep_counts()
    last = pipe.sent[-1]
    assert {name: last[name] for name in ("consumed", "late", "indexed")} == {
        "consumed": 8, "late": 1, "indexed": 2,
    }  # fmt: skip
    assert (last["in_flight"], last["dead_letters"]) == (3, {"a": 3})

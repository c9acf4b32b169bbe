"""A worker process: its reports, its signals, and its end when the supervisor is gone."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from llmlog_consumer.service.worker_process import REPORT_SECONDS, Reporter, run_child
from support.fakes_service import Clock


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
    assert pipe.sent == [{"consumed": 1}, {"consumed": 2}, {"consumed": 3}]


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


class Child:
    """A worker process that runs in this one."""

    def __init__(self):
        self.sentinel, self._supervisor = os.pipe()
        self.codes = []

    def run(self, work):
        run_child(
            work,
            3,
            "reports",
            ("argument",),
            0.0,
            get_parent=lambda: self,
            exit_process=self.codes.append,
        )

    def supervisor_dies(self):
        os.close(self._supervisor)


@pytest.fixture
def child():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    child = Child()
    yield child
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(child.sentinel)


def test_a_worker_whose_supervisor_dies_drains_and_ends_whatever_it_does(child):
    never = threading.Event()

    def work(number, reports, stop, argument):
        assert (number, reports, argument) == (3, "reports", "argument")
        assert not stop.is_set()
        child.supervisor_dies()
        assert stop.wait(5), "it drains"
        for _ in range(500):
            if child.codes:
                return
            never.wait(0.01)

    child.run(work)
    assert child.codes == [1], "and ends, though the drain would go on"


def test_sigterm_drains_a_worker_and_ctrl_c_is_left_to_the_supervisor(child):
    def work(_number, _reports, stop, _argument):
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)

    child.run(work)
    child.supervisor_dies()


def test_a_worker_without_a_parent_process_runs():
    calls = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run_child(
            lambda *arguments: calls.append(arguments[0]), 1, None, (), 0.0,
            get_parent=lambda: None, exit_process=SimpleNamespace,
        )  # fmt: skip
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert calls == [1]

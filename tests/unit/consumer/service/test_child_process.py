"""The frame of a worker process: signals drain it, and it does not outlive its supervisor."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from llmlog_consumer.service.child_process import run_child


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


def test_a_worker_that_has_finished_ends_though_its_supervisor_lives(child):
    """The interpreter waits at its end for every thread that is no daemon."""
    before, watching = set(threading.enumerate()), []

    def work(*_):
        watching.extend(set(threading.enumerate()) - before)

    child.run(work)
    assert watching
    assert all(thread.daemon for thread in watching)
    child.supervisor_dies()


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

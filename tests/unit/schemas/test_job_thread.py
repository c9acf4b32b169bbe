"""The thread of jobs: all of them are done, in their order, whenever it ends."""

import threading

import pytest

from llmlog_common.job_thread import JobThread
from support.pipeline import wait_until


def test_jobs_are_done_in_their_order_and_an_error_ends_none_of_them():
    thread, done = JobThread("jobs"), []
    thread.submit(lambda: done.append(1))
    thread.submit(lambda: 1 / 0)
    thread.submit(lambda: done.append(2))
    assert thread.wait(30)
    assert done == [1, 2]
    assert thread.end(30)


def test_a_job_that_comes_while_the_thread_is_about_to_end_is_done():
    thread, go_on, done = JobThread("jobs"), threading.Event(), []
    thread.submit(go_on.wait)
    assert not thread.end(0), "its end is behind the first job"
    thread.submit(lambda: done.append(1))
    go_on.set()
    wait_until(lambda: done == [1], 10)


def test_where_no_thread_can_be_started_the_caller_does_the_job(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    thread, done = JobThread("jobs"), []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    thread.submit(lambda: done.append(threading.current_thread()))
    assert done == [threading.main_thread()]
    assert thread.wait(0)


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_forked_child_has_a_thread_of_its_own(jobs):
    thread, done = JobThread("jobs"), []
    for _ in range(jobs):
        thread.submit(lambda: done.append(0))
    assert thread.wait(30)
    thread.begin_process()  # as `os.register_at_fork` does in a child
    thread.submit(lambda: done.append(1))
    assert thread.wait(30)
    assert done[-1] == 1


@pytest.mark.parametrize("ends", [1, 2, 3])
def test_a_thread_that_was_ended_while_a_job_hangs_does_later_jobs(ends):
    thread, go_on, done = JobThread("jobs"), threading.Event(), []
    thread.submit(go_on.wait)
    for _ in range(ends):
        assert not thread.end(0.01)
    go_on.set()
    wait_until(lambda: thread.end(0.01), 10)
    for number in range(3):
        thread.submit(lambda number=number: done.append(number))
        assert thread.wait(10)
        assert thread.end(10)
    assert done == [0, 1, 2]

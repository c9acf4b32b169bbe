"""The hand-over at SIGTERM: everything is in the journal before the process ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import replace

import pytest

from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.shutdown import Handover, run_before_sigterm
from llmlog_producer.sending.timing import TIMING
from support.fakes.gateway import FAST, Clock, RecordedWakeup
from support.pipeline import base_environment, wait_until


def test_the_signal_handler_has_everything_written(start, cluster):
    cluster.up = False
    gateway = start()
    gateway.offer("produced")
    wait_until(lambda: cluster.produced, 5)
    gateway.offer(*map(str, range(20)))
    gateway.publisher.journal_first(5)
    assert gateway.publisher.unsafe == 0
    gateway.offer("after")
    assert gateway.publisher.unsafe == 0, "from now on the hook writes"
    cluster.up = True
    assert gateway.publisher.flush(5) == 0, "and Kafka is still sent to"


def test_the_signal_handler_leaves_nothing_behind_while_kafka_answers(start, cluster):
    gateway = start(timing=replace(FAST, max_idle_seconds=60, overdue_seconds=60))
    gateway.offer("first")
    assert gateway.publisher.flush(5) == 0
    gateway.offer(*map(str, range(20)))
    gateway.publisher.journal_first(30)
    assert len(cluster.call_ids()) == 21
    assert gateway.publisher.close(30) == 0


def test_a_signal_in_the_middle_of_a_hook_has_all_earlier_events_written(start, cluster):
    unsafe = []

    class Entries(deque):
        def append(self, entry):
            if b"interrupted" in entry.payload:
                gateway.publisher.journal_first(1.0)
                unsafe.append(gateway.publisher.unsafe)
            super().append(entry)

    cluster.has_topic = False
    gateway = start(queue=EventQueue(entries=Entries()))
    gateway.offer(*map(str, range(100)), "interrupted")
    assert unsafe == [1], "the event that its hook has not appended yet"


def test_brokers_that_do_not_answer_do_not_delay_the_journal(start, cluster):
    """A process that ends has no second to wait until a lookup of the topic is over."""
    cluster.silent = threading.Event()
    gateway = start()
    assert cluster.lookup_begun.wait(10)
    gateway.offer("a", "b")
    gateway.publisher.journal_first(1.0)
    assert gateway.publisher.unsafe == 0
    assert gateway.counter("journaled") == 2
    cluster.silent.set()
    assert gateway.publisher.flush(10) == 0
    assert sorted(cluster.call_ids()) == ["a", "b"]


@pytest.fixture
def ending(start, cluster, sigterms):
    """A gateway of an interpreter that ends, while Kafka is away.

    It has no thread: a signal's handler interrupts the work that it would wait for.
    """
    cluster.has_topic = False
    return start(background=False, journal_max_bytes=100_000)


def test_a_signal_in_the_middle_of_the_main_threads_work_comes_again(ending, sigterms):
    publisher = ending.publisher
    ending.offer("a", "b")
    returned = []
    ending.client.before_poll = lambda: returned.append(publisher.journal_first(30))
    began = time.monotonic()
    assert publisher.leave(30) == 0
    assert time.monotonic() - began < 10
    assert returned == [False]
    assert sigterms == [signal.SIGTERM]
    assert ending.counter("journaled") == 2
    assert publisher.journal_first(30), "events that are saved are not waited for"


def test_an_earlier_save_does_not_cover_later_events(ending, sigterms):
    publisher = ending.publisher
    ending.offer("a")
    assert publisher.leave(0.1) == 0
    ending.offer("b")
    returned = []
    ending.client.before_poll = lambda: returned.append(publisher.journal_first(30))
    assert publisher.leave(30) == 0
    assert returned == [False]
    assert ending.counter("journaled") == 2


def test_a_signal_in_the_main_threads_work_waits_no_longer_for_a_full_journal_than_it_has_time(
    ending, sigterms
):
    ending.offer("a", messages=[{"role": "user", "content": "x" * 200_000}])
    ending.client.before_poll = lambda: ending.publisher.journal_first(0.2)
    began = time.monotonic()
    assert ending.publisher.flush(60) == 1
    assert sigterms == [signal.SIGTERM]
    assert time.monotonic() - began < 20


def test_a_signal_in_the_main_threads_work_comes_again_after_a_ctrl_c_too(ending, sigterms):
    ending.offer("a")

    def signal_and_ctrl_c():
        ending.publisher.journal_first(30)
        raise KeyboardInterrupt

    ending.client.before_poll = signal_and_ctrl_c
    with pytest.raises(KeyboardInterrupt):
        ending.publisher.leave(30)
    assert sigterms == [signal.SIGTERM]
    assert ending.publisher.journal_first(30), "there is no work to wait for any more"


class Protocol:
    """A hand-over without a publisher.

    Attributes:
        is_enough: Kafka need not be waited for.
        has_thread: there is a sending thread.
    """

    def __init__(self):
        self.is_enough = self.has_thread = True
        self.clock, self.wakeup = Clock(), RecordedWakeup()
        self.handover = Handover(
            self.wakeup,
            hooks_write=False,
            is_enough=lambda: self.is_enough,
            has_thread=lambda: self.has_thread,
            timing=replace(TIMING, signal_poll_seconds=0.001),
            clock=self.clock,
        )

    def save(self, seconds=5.0):
        """Save on a thread of its own; return it, and the list of what `save` returned."""
        returned = []
        thread = threading.Thread(target=lambda: returned.append(self.handover.save(seconds)))
        thread.start()
        return thread, returned


@pytest.fixture
def protocol():
    return Protocol()


def test_a_save_makes_hooks_write_and_wakes_the_sending_thread(protocol):
    assert protocol.handover.save(0)
    assert protocol.handover.hooks_write
    assert protocol.handover.is_requested
    assert protocol.wakeup.wakes == 1


def test_a_save_waits_until_its_own_request_is_confirmed(protocol):
    protocol.handover.request()
    thread, returned = protocol.save()
    wait_until(lambda: protocol.handover.requested == 2, 5)
    protocol.handover.confirm(1)
    thread.join(0.02)
    assert not returned, "an earlier request was confirmed"
    protocol.handover.confirm(2)
    thread.join(5)
    assert returned == [True]


def test_a_save_waits_for_kafka_while_it_answers(protocol):
    protocol.is_enough = False
    thread, returned = protocol.save()
    wait_until(lambda: protocol.handover.is_requested, 5)
    protocol.handover.confirm(1)
    thread.join(0.02)
    assert not returned
    protocol.is_enough = True
    thread.join(5)
    assert returned == [True]


def test_a_save_ends_at_its_deadline(protocol):
    thread, returned = protocol.save(5.0)
    thread.join(0.02)
    assert not returned
    protocol.clock.now += 5.1
    thread.join(5)
    assert returned == [True]


def test_a_save_waits_for_nothing_where_no_thread_sends(protocol):
    protocol.has_thread = False
    assert protocol.handover.save(1e9)


def test_a_save_waits_for_work_on_another_thread_than_the_background_one(protocol):
    protocol.has_thread = False
    entered, leave = threading.Event(), threading.Event()

    def work():
        entered.set()
        leave.wait(10)

    worker = threading.Thread(target=protocol.handover.run_as_sender, args=(work,))
    worker.start()
    assert entered.wait(5)
    thread, returned = protocol.save()
    thread.join(0.02)
    assert not returned
    leave.set()
    thread.join(5)
    worker.join(5)
    assert returned == [True]


def test_interrupted_work_stops_once_all_is_saved_or_the_time_is_over(protocol, sigterms):
    stops = []

    def work():
        assert not protocol.handover.must_stop
        assert not protocol.handover.save(5.0)
        stops.append(protocol.handover.must_stop)
        protocol.clock.now += 5.1
        stops.append(protocol.handover.must_stop)
        protocol.clock.now -= 5.1
        protocol.handover.confirm(1)
        stops.append(protocol.handover.must_stop)
        assert not sigterms, "not before the work has ended"

    protocol.handover.run_as_sender(work)
    assert stops == [False, True, True]
    assert sigterms == [signal.SIGTERM]
    protocol.handover.run_as_sender(lambda: None)
    assert sigterms == [signal.SIGTERM], "it is sent once"


def test_a_second_signal_in_interrupted_work_gives_it_no_more_time(protocol, sigterms):
    def work():
        assert not protocol.handover.save(5.0)
        protocol.clock.now += 4.0
        assert not protocol.handover.save(5.0)
        protocol.clock.now += 1.1
        assert protocol.handover.must_stop

    protocol.handover.run_as_sender(work)


def test_one_thread_sends_at_a_time(protocol):
    order = []

    def work():
        other.start()
        other.join(0.02)
        order.append("first")

    other = threading.Thread(
        target=protocol.handover.run_as_sender, args=(lambda: order.append("second"),)
    )
    protocol.handover.run_as_sender(work)
    other.join(5)
    assert order == ["first", "second"]


@pytest.mark.parametrize(("saved", "expected"), [(True, ["save", "earlier"]), (False, ["save"])])
def test_the_earlier_handler_of_sigterm_runs_after_a_save_that_is_done(sigterms, saved, expected):
    calls = []
    signal.signal(signal.SIGTERM, lambda *_: calls.append("earlier"))

    def save(*, last):
        assert not last
        calls.append("save")
        return saved

    assert run_before_sigterm(save)
    os.kill(os.getpid(), signal.SIGTERM)
    assert calls == expected


def test_the_handler_is_installed_once(sigterms):
    calls = []

    class Handler:
        def save(self, *, last):
            calls.append(last)
            return True

    handler = Handler()
    assert run_before_sigterm(handler.save)
    assert run_before_sigterm(handler.save)
    os.kill(os.getpid(), signal.SIGTERM)
    assert calls == [False]


def test_a_save_that_raises_does_not_keep_the_earlier_handler_from_running(sigterms):
    def fail(*, last):
        raise RuntimeError

    assert run_before_sigterm(fail)
    os.kill(os.getpid(), signal.SIGTERM)
    assert sigterms == [signal.SIGTERM]


def test_a_handler_of_sigterm_is_installed_in_the_main_thread_alone(sigterms):
    installed = []
    thread = threading.Thread(
        target=lambda: installed.append(run_before_sigterm(lambda last: True))
    )
    thread.start()
    thread.join(5)
    assert installed == [False]


_ENDS_BY_DEFAULT = """
import os, signal
from llmlog_producer.sending.shutdown import run_before_sigterm

assert run_before_sigterm(lambda *, last: print(f"saved, last={last}", flush=True) or True)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_without_a_handler_of_its_own_ends_by_sigterm_after_the_save():
    ended = subprocess.run(
        [sys.executable, "-c", _ENDS_BY_DEFAULT],
        stdout=subprocess.PIPE,
        text=True,
        env=base_environment({}),
        timeout=30,
        check=False,
    )
    assert ended.stdout == "saved, last=True\n"
    assert ended.returncode == -signal.SIGTERM


_SERVER = """
import os, signal, sys, threading, time
from llmlog_producer.sending.shutdown import Hold, run_before_sigterm

signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
hold = Hold()
assert run_before_sigterm(lambda *, last: not last, hold)
os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as uvicorn does, once it has shut down
signal.raise_signal(signal.SIGTERM)
print("goes on", flush=True)
"""
_REACHES_THE_EXIT_HANDLER = """
hold.release()
print("never")
"""
_HANGS = """
def watch():
    while True:
        hold.end_process_if_due(time.monotonic(), 0.0, is_settled=SETTLED)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
threading.Event().wait(60)
print("never")
"""


@pytest.mark.parametrize(
    "rest",
    [
        _REACHES_THE_EXIT_HANDLER,
        _HANGS.replace("SETTLED", "True"),
        _HANGS.replace("SETTLED", "False"),
    ],
)
def test_a_process_that_its_server_ends_is_held_and_then_ends_as_the_server_wanted(rest):
    ended = subprocess.run(
        [sys.executable, "-c", _SERVER + rest],
        stdout=subprocess.PIPE, text=True, env=base_environment({}), timeout=60, check=False,
    )  # fmt: skip
    assert ended.stdout == "asked to end\ngoes on\n"
    assert ended.returncode == -signal.SIGTERM


def test_the_wait_of_a_signal_handler_begins_again_with_each_hook_but_not_without_end(protocol):
    thread, returned = protocol.save(5.0)
    wait_until(lambda: protocol.handover.is_requested, 5)
    for _ in range(3):
        protocol.clock.now += 4.0
        protocol.handover.note_hook()
        thread.join(0.02)
        assert not returned
    for _ in range(4):
        protocol.clock.now += 4.0
        protocol.handover.note_hook()
        thread.join(0.02)
    protocol.clock.now += 4.0
    thread.join(5)
    assert returned == [True]


def test_a_request_without_a_signal_is_over_when_the_thread_ends(protocol):
    protocol.handover.request()
    protocol.handover.withdraw()
    assert not protocol.handover.is_requested
    assert protocol.handover.is_confirmed
    protocol.handover.save(0)
    protocol.handover.withdraw()
    assert protocol.handover.is_requested, "that of a signal stands"

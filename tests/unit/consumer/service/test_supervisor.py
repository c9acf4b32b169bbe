"""The supervisor: signals, drains, restarts, and the counts of workers that died."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess

import pytest
from structlog.testing import capture_logs

from llmlog_common.errors import WorkerError
from llmlog_consumer.service import template
from llmlog_consumer.service.child_process import run_child
from llmlog_consumer.service.state import State
from llmlog_consumer.service.supervisor import (
    MAX_CRASHES,
    MAX_KINDS,
    Supervisor,
    Timing,
)
from llmlog_consumer.service.worker_end import LOST_CODE, describe_end
from support.fakes.service import Clock, FakeContext, FixedDelays

FINAL = 6
TIMING = Timing(turn=1.0, drain=40.0, silent=1e6, steady=50.0)


class Rig:
    """A supervisor of two workers; each turn does what the test has planned for it."""

    def __init__(self, workers=2, max_turns=500, restart_seconds=1.0, **timing):
        self.clock, self.context = Clock(), FakeContext()
        self.delays = FixedDelays(restart_seconds)
        self.turns, self._max_turns = 0, max_turns
        self.plan, self.plan_after = {}, {}
        self.supervisor = Supervisor(
            print,
            ("argument",),
            workers,
            final=frozenset({FINAL}),
            timing=dataclasses.replace(TIMING, restart=self.delays, **timing),
            context=self.context,
            wait=self.wait,
            clock=self.clock,
        )

    def wait(self, handles, seconds):
        """Stand in for one turn's wait: its time passes where no handle is ready."""
        self.turns += 1
        assert self.turns < self._max_turns, "it never ends"
        for action in self.plan.get(self.turns, ()):
            action()
        ready = [handle for handle in handles if handle.poll()]
        if not ready:
            self.clock.now += seconds
        for action in self.plan_after.get(self.turns, ()):
            action()
        return ready

    def at(self, turn, action):
        self.plan.setdefault(turn, []).append(action)

    def after(self, turn, action):
        """Plan what happens when a turn's wait is over already."""
        self.plan_after.setdefault(turn, []).append(action)

    def end(self, number, code):
        """Return the action that ends a process with this code."""
        return lambda: self.processes[number].end(code)

    def end_newest(self, code):
        """Return the action that ends the process that was started last."""
        return lambda: self.processes[-1].end(code)

    def close_reports(self, number):
        """Return the action that closes the reports of a process that goes on."""

        def action():
            self.processes[number].close_reports()

        return action

    def report(self, pipe, **report):
        """Return the action that sends a report through a pipe."""
        return lambda: self.context.pipes[pipe].reports.append(report)

    def ignore_sigterm(self, *numbers):
        """Let these processes drain until a test ends them; from the first turn on."""

        def action():
            for number in numbers:
                self.processes[number].obeys = False

        self.at(1, action)

    @property
    def processes(self):
        return self.context.processes


def test_workers_are_forked_from_the_template_and_never_from_the_supervisor():
    """The Kafka client does not survive a fork."""
    assert template.context().get_start_method() == "forkserver"


def test_a_worker_that_has_lost_its_template_is_killed_before_it_is_replaced():
    rig, worker = Rig(workers=1), subprocess.Popen(["sleep", "60"])
    rig.at(1, lambda: setattr(rig.processes[0], "pid", worker.pid))
    rig.at(2, rig.end(0, LOST_CODE))
    rig.at(9, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert worker.wait(10) == -signal.SIGKILL
    assert len(rig.processes) == 2


def test_a_worker_that_has_ended_is_not_killed_again():
    rig, other = Rig(workers=1), subprocess.Popen(["sleep", "60"])
    rig.at(1, lambda: setattr(rig.processes[0], "pid", other.pid))
    rig.at(2, rig.end(0, 1))
    rig.at(9, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_each_worker_has_its_number_and_the_arguments():
    rig = Rig()
    rig.at(1, rig.supervisor.on_signal)
    rig.supervisor.run()
    for number, process in enumerate(rig.processes):
        target, given, _, arguments, drain_seconds = process.args
        assert process.target is run_child
        assert (target, given, arguments) == (print, number, ("argument", ""))
        assert drain_seconds == TIMING.drain
        assert process.name == f"llmlog-worker-{number}"


def test_before_the_first_turn_it_has_no_workers_and_no_counts():
    """The metrics page may be asked for then."""
    assert Rig().supervisor.state == State()


def test_it_ends_when_every_worker_has_finished_its_task():
    rig = Rig()
    rig.at(1, rig.end(0, 0))
    rig.at(5, rig.end(1, 0))
    assert rig.supervisor.run() is True
    assert rig.turns == 5
    assert rig.supervisor.final_code == 0
    assert [process.signals for process in rig.processes] == [[], []]


def test_the_end_of_a_worker_ends_the_turn():
    rig = Rig(workers=1)
    begin = rig.clock.now
    rig.at(4, rig.end(0, 0))
    rig.supervisor.run()
    assert rig.clock.now == begin + 3 * TIMING.turn


def test_the_first_signal_drains_every_worker_once():
    rig = Rig()
    rig.ignore_sigterm(0, 1)
    rig.at(3, rig.supervisor.on_signal)
    rig.at(9, rig.end(0, 0))
    rig.at(10, rig.end(1, 0))
    with capture_logs() as lines:
        assert rig.supervisor.run() is False
    assert lines == [{"event": "draining", "log_level": "info", "workers": 2}]
    assert [process.signals for process in rig.processes] == [["SIGTERM"], ["SIGTERM"]]
    assert rig.turns == 10


def test_the_next_process_is_told_why_the_last_one_ended():
    rig = Rig(workers=1)
    rig.at(2, rig.report(0, ended="Kafka: fenced"))
    rig.at(2, rig.end(0, 3))
    rig.at(6, rig.end_newest(-9))
    rig.at(20, rig.supervisor.on_signal)
    rig.supervisor.run()
    told = [process.args[3][-1] for process in rig.processes]
    assert told == ["", "Kafka: fenced", describe_end(-9, "", None)]


def test_a_worker_that_waits_for_its_next_start_is_unhealthy():
    rig, seen = Rig(workers=2, restart_seconds=10.0), {}

    def look(name):
        return lambda: seen.update({name: rig.supervisor.state.unhealthy})

    rig.at(2, rig.end(1, 3))
    rig.at(5, look("waiting"))
    rig.at(18, look("started"))
    rig.at(20, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert seen == {"waiting": 1, "started": 0}
    assert rig.supervisor.state.unhealthy == 0, "all have ended"


def test_a_worker_that_gives_no_report_is_unhealthy_and_named_once():
    """It may be frozen: its process lives, and all that it has said is that all is well."""
    rig, seen = Rig(workers=2, silent=10.0), {}

    def look(name):
        return lambda: seen.update({name: rig.supervisor.state.unhealthy})

    for turn in range(1, 60):
        if turn % 3 == 0:
            rig.at(turn, rig.report(1, indexed=1))
        if turn < 6 or turn > 40:
            rig.at(turn, rig.report(0, indexed=1))
    rig.at(12, look("a moment"))
    rig.at(30, look("frozen"))
    rig.at(50, look("again"))
    rig.at(55, rig.supervisor.on_signal)
    with capture_logs() as lines:
        rig.supervisor.run()
    assert seen == {"a moment": 0, "frozen": 1, "again": 0}
    said = [(line["event"], line["worker"]) for line in lines if "report" in line["event"]]
    assert said == [
        ("a worker gives no report: it is stopped, or waits for this machine", 0),
        ("a worker reports again", 0),
    ]


def test_a_worker_that_drains_need_not_report():
    rig = Rig(workers=1, silent=3.0)
    rig.ignore_sigterm(0)
    rig.at(1, rig.supervisor.on_signal)
    rig.at(20, rig.end(0, 0))
    with capture_logs() as lines:
        rig.supervisor.run()
    assert not [line for line in lines if "report" in line["event"]]


def test_the_second_signal_kills_the_workers_that_still_drain():
    rig = Rig()
    rig.ignore_sigterm(0)
    rig.at(2, rig.supervisor.on_signal)
    rig.at(4, rig.supervisor.on_signal)
    assert rig.supervisor.run() is False
    assert [process.signals for process in rig.processes] == [["SIGTERM", "SIGKILL"], ["SIGTERM"]]
    assert rig.turns == 4


def test_a_worker_that_drains_for_too_long_is_killed():
    rig = Rig(workers=1)
    rig.ignore_sigterm(0)
    rig.at(2, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert rig.processes[0].signals == ["SIGTERM", "SIGKILL"]
    assert rig.turns == 2 + TIMING.drain + 1


def test_at_the_deadline_the_workers_drain():
    rig = Rig()
    assert rig.supervisor.run(deadline=rig.clock.now + 7) is False
    assert rig.turns == 7
    assert [process.signals for process in rig.processes] == [["SIGTERM"], ["SIGTERM"]]


def test_a_worker_may_drain_on_after_the_deadline():
    rig = Rig()
    rig.ignore_sigterm(0)
    rig.at(20, rig.end(0, 0))
    assert rig.supervisor.run(deadline=rig.clock.now + 7) is False
    assert rig.turns == 20
    assert [process.signals for process in rig.processes] == [["SIGTERM"], ["SIGTERM"]]


def test_a_worker_that_dies_is_started_again_while_the_others_work_on():
    rig = Rig()
    rig.at(1, rig.end(0, -9))
    rig.at(6, rig.supervisor.on_signal)
    rig.supervisor.run()
    first, other, second = rig.processes
    assert first.signals == []
    assert other.signals == second.signals == ["SIGTERM"]
    assert second.args[1] == 0, "it has the number of the one that died"
    assert rig.supervisor.state.restarts == 1


def test_a_worker_that_died_is_started_again_after_a_delay_and_a_line_says_so():
    rig, started = Rig(restart_seconds=4.26), []
    rig.at(2, rig.end(1, -9))
    rig.at(7, lambda: started.append(len(rig.processes)))
    rig.at(8, lambda: started.append(len(rig.processes)))
    rig.at(10, rig.end(2, 3))
    rig.at(20, rig.supervisor.on_signal)
    with capture_logs() as lines:
        rig.supervisor.run()
    assert started == [2, 3], "not before the delay is over"
    line = {
        "event": "worker died, starting it again",
        "log_level": "error",
        "worker": 1,
        "seconds": 4.3,
    }
    killed = describe_end(-9, "", None)
    assert lines[:2] == [
        {**line, "code": -9, "why": killed},
        {**line, "code": 3, "why": "ended with code 3: see its last lines on stderr"},
    ]
    assert rig.delays.attempts == [1, 2], "each crash in a row makes the delay longer"
    assert rig.supervisor.state.restarts == 2


def test_a_worker_that_waits_for_its_restart_is_not_started_during_a_drain():
    rig = Rig(restart_seconds=30.0)
    rig.ignore_sigterm(1)
    rig.at(2, rig.end(0, 1))
    rig.at(3, rig.supervisor.on_signal)
    rig.at(36, rig.end(1, 0))
    assert rig.supervisor.run() is False
    assert len(rig.processes) == 2
    assert rig.turns == 36


def test_a_worker_that_keeps_dying_ends_everything_and_the_others_drain():
    rig = Rig()

    def kill_the_newest_of_the_first():
        for process in rig.processes:
            if process.args[1] == 0 and process.is_alive():
                process.end(7)

    for turn in range(1, 100):
        rig.at(turn, kill_the_newest_of_the_first)
    message = (
        f"worker 0 died {MAX_CRASHES} times in a row, last with code 7: "
        "ended with code 7: see its last lines on stderr"
    )
    with pytest.raises(WorkerError, match=f"^{re.escape(message)}$"):
        rig.supervisor.run()
    assert sum(process.args[1] == 0 for process in rig.processes) == MAX_CRASHES
    assert rig.processes[1].signals == ["SIGTERM"]


def test_crashes_far_apart_are_not_in_a_row():
    crashes, apart = MAX_CRASHES * 2, int(TIMING.steady) + 5
    rig = Rig(workers=1, max_turns=(crashes + 1) * apart)
    for number in range(1, crashes + 1):
        rig.at(number * apart, rig.end_newest(1))
    rig.at(crashes * apart + 5, rig.supervisor.on_signal)
    assert rig.supervisor.run() is False
    assert len(rig.processes) == crashes + 1


def test_a_crash_after_a_long_run_is_the_first_in_a_row():
    rig, steady = Rig(workers=1), int(TIMING.steady) + 5
    for number in range(MAX_CRASHES - 1):
        rig.at(steady + 5 * number, rig.end_newest(1))
    rig.at(steady + 5 * MAX_CRASHES, rig.supervisor.on_signal)
    assert rig.supervisor.run() is False
    assert len(rig.processes) == MAX_CRASHES
    assert rig.delays.attempts == [1, 2, 3, 4]


def test_a_final_exit_code_drains_the_others_and_starts_nothing_again():
    rig = Rig()
    rig.at(2, rig.end(0, FINAL))
    assert rig.supervisor.run() is False
    assert rig.supervisor.final_code == FINAL
    assert len(rig.processes) == 2
    assert rig.supervisor.state.restarts == 0
    assert rig.processes[1].signals == ["SIGTERM"]


def test_a_worker_that_dies_during_the_drain_is_not_started_again():
    rig = Rig()
    rig.ignore_sigterm(0)
    rig.at(2, rig.supervisor.on_signal)
    rig.at(4, rig.end(0, 1))
    assert rig.supervisor.run() is False
    assert len(rig.processes) == 2


def test_counts_of_workers_that_died_stay_in_the_totals():
    rig = Rig()
    cause = ("2f6c1b9d04aa", "index")

    def report(pipe, indexed, unhealthy=""):
        return rig.report(
            pipe, indexed=indexed, in_flight=5, unhealthy=unhealthy, dead_letters={cause: 1}
        )

    rig.at(1, report(0, 10))
    rig.at(2, report(0, 30))
    rig.at(3, rig.end(0, 1))
    rig.at(4, report(1, 4, "mend it"))
    rig.at(8, report(2, 7))
    states = []
    for turn in (2, 9):
        rig.at(turn, lambda: states.append(rig.supervisor.state))
    rig.at(10, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert rig.supervisor.totals["indexed"] == 41
    assert rig.supervisor.state.dead_letters[cause] == 3
    early, running = states
    assert (early.workers, early.in_flight) == (2, 5), "one has not reported yet"
    assert (running.workers, running.in_flight, running.unhealthy) == (2, 10, 1)
    assert running.counts["indexed"] == 41
    assert running.dead_letters == {cause: 3}
    assert "in_flight" not in rig.supervisor.totals


def test_what_a_worker_held_when_it_died_is_released():
    rig = Rig()
    rig.at(1, rig.report(0, consumed=30, indexed=20, dead=2, in_flight=8))
    rig.at(1, rig.report(1, consumed=4, released=1, in_flight=3))
    rig.at(3, rig.end(0, -9))
    rig.at(8, rig.report(2, consumed=8, in_flight=8))
    balances = []

    def check():
        state = rig.supervisor.state
        ended = sum(state.counts[name] for name in ("indexed", "dead", "released"))
        balances.append((state.counts["consumed"], ended + state.in_flight))

    for turn in range(2, 11):
        rig.at(turn, check)
    rig.at(10, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert all(consumed == rest for consumed, rest in balances)
    assert balances[-1] == (42, 42)
    assert rig.supervisor.totals["released"] == 9 + 3 + 8, "the others died in the drain"


def test_the_state_says_what_keeps_workers_from_their_work():
    rig = Rig(workers=3, silent=5.0)
    faults = {}
    for turn in range(1, 22):
        if turn % 2:
            rig.at(turn, rig.report(0, indexed=1))
        rig.at(turn, lambda turn=turn: faults.update({turn: rig.supervisor.state.faults}))
    rig.at(2, rig.report(1, indexed=1))
    rig.at(2, rig.report(2, indexed=1))
    rig.at(4, rig.end(2, -9))
    rig.at(21, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert faults[2] == ("worker 1 starts", "worker 2 starts")
    assert faults[4] == ()
    assert faults[5][0].startswith("worker 2 died and is started again: ")
    assert any("worker 1 gives no report" in fault for fault in faults[21])
    assert rig.supervisor.state.faults == ("the workers drain: this process ends",)


def test_the_last_report_of_a_worker_counts_though_it_ends_a_moment_later():
    rig = Rig(workers=1)
    rig.at(1, rig.report(0, indexed=3))
    rig.after(4, rig.report(0, indexed=8))
    rig.after(4, rig.end(0, 0))
    assert rig.supervisor.run() is True
    assert rig.turns == 4
    assert rig.supervisor.totals["indexed"] == 8


def test_a_worker_that_closes_its_reports_and_works_on_is_still_watched():
    rig = Rig(workers=1)
    begin = rig.clock.now
    rig.at(1, rig.report(0, indexed=3))
    rig.at(3, rig.close_reports(0))
    rig.at(6, rig.end(0, 0))
    assert rig.supervisor.run() is True
    assert rig.turns == 6
    assert rig.clock.now == begin + 3 * TIMING.turn, "the last turn ends with the worker"
    assert rig.supervisor.totals["indexed"] == 3


def test_kinds_of_deaths_are_bounded():
    rig = Rig(workers=1)
    dead_letters = {(f"{number:012x}", "index"): 1 for number in range(MAX_KINDS + 10)}
    rig.at(1, rig.report(0, dead_letters=dead_letters))
    rig.at(2, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert rig.supervisor.state.dead_letters["other", "other"] == 10

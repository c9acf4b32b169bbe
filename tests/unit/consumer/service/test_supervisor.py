"""The supervisor: signals, drains, restarts, and the counts of workers that died."""

from __future__ import annotations

import pytest

from llmlog_common.errors import WorkerError
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.service.child_process import run_child
from llmlog_consumer.service.supervisor import (
    MAX_CRASHES,
    MAX_KINDS,
    Supervisor,
    Timing,
)
from support.fakes.service import Clock, FakeContext

FINAL = 6
TIMING = Timing(drain=45.0, steady=60.0, restart=Backoff(first_seconds=1.0, max_seconds=1.0))


class Rig:
    """A supervisor of two workers; each turn does what the test has planned for it."""

    def __init__(self, workers=2, max_turns=500):
        self.clock, self.context = Clock(), FakeContext()
        self.turns, self._max_turns = 0, max_turns
        self.plan = {}
        self.supervisor = Supervisor(
            print,
            ("argument",),
            workers,
            final=frozenset({FINAL}),
            timing=TIMING,
            get_context=self.context,
            wait=self.wait,
            clock=self.clock,
        )

    def wait(self, handles, seconds):
        """Stand in for one turn's wait: a second passes."""
        self.turns += 1
        assert self.turns < self._max_turns, "it never ends"
        self.clock.now += 1.0
        self.plan.get(self.turns, lambda: None)()
        return [pipe for pipe in self.context.pipes if pipe.reports]

    def at(self, turn, action):
        self.plan[turn] = action

    def end(self, number, code):
        """Return the action that ends a process with this code."""

        def action():
            self.context.processes[number].exitcode = code

        return action

    def ignore_sigterm(self, *numbers):
        """Let these processes drain until a test ends them; from the first turn on."""

        def action():
            for number in numbers:
                self.processes[number].obeys = False

        self.at(1, action)

    @property
    def processes(self):
        return self.context.processes


def test_workers_are_spawned_and_never_forked():
    """The Kafka client does not survive a fork."""
    assert Rig().context.method == "spawn"


def test_each_worker_has_its_number_and_the_arguments():
    rig = Rig()
    rig.at(1, rig.supervisor.on_signal)
    rig.supervisor.run()
    for number, process in enumerate(rig.processes):
        target, given, _, arguments, drain_seconds = process.args
        assert process.target is run_child
        assert (target, given, arguments) == (print, number, ("argument",))
        assert drain_seconds == TIMING.drain


def test_it_ends_when_every_worker_has_finished_its_task():
    rig = Rig()
    rig.at(1, rig.end(0, 0))
    rig.at(5, rig.end(1, 0))
    assert rig.supervisor.run() is True
    assert rig.turns == 5
    assert [process.signals for process in rig.processes] == [[], []]


def test_the_first_signal_drains_every_worker_once():
    rig = Rig()
    rig.ignore_sigterm(0, 1)
    rig.at(3, rig.supervisor.on_signal)
    rig.at(9, rig.end(0, 0))
    rig.at(10, rig.end(1, 0))
    assert rig.supervisor.run() is False
    assert [process.signals for process in rig.processes] == [["SIGTERM"], ["SIGTERM"]]
    assert rig.turns == 10


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


def test_a_worker_that_keeps_dying_ends_everything_and_the_others_drain():
    rig = Rig()

    def kill_the_newest_of_the_first():
        for process in rig.processes:
            if process.args[1] == 0:
                process.exitcode = process.exitcode or 1

    for turn in range(1, 100):
        rig.at(turn, kill_the_newest_of_the_first)
    with pytest.raises(WorkerError, match=f"worker 0 died {MAX_CRASHES} times in a row"):
        rig.supervisor.run()
    assert sum(process.args[1] == 0 for process in rig.processes) == MAX_CRASHES
    assert rig.processes[1].signals == ["SIGTERM"]


def test_crashes_far_apart_are_not_in_a_row():
    crashes, apart = MAX_CRASHES * 2, int(TIMING.steady) + 5
    rig = Rig(workers=1, max_turns=(crashes + 1) * apart)

    def crash():
        rig.processes[-1].exitcode = 1

    for number in range(1, crashes + 1):
        rig.at(number * apart, crash)
    rig.at(crashes * apart + 5, rig.supervisor.on_signal)
    assert rig.supervisor.run() is False
    assert len(rig.processes) == crashes + 1


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
        def action():
            rig.context.pipes[pipe].reports.append(
                {
                    "indexed": indexed,
                    "in_flight": 5,
                    "unhealthy": unhealthy,
                    "dead_letters": {cause: 1},
                }
            )

        return action

    rig.at(1, report(0, 10))
    rig.at(2, report(0, 30))
    rig.at(3, rig.end(0, 1))
    rig.at(4, report(1, 4, "mend it"))
    rig.at(8, report(2, 7))
    states = []
    rig.at(9, lambda: states.append(rig.supervisor.state))
    rig.at(10, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert rig.supervisor.totals["indexed"] == 41
    assert rig.supervisor.state.dead_letters[cause] == 3
    (running,) = states
    assert (running.workers, running.in_flight, running.unhealthy) == (2, 10, 1)
    assert "in_flight" not in rig.supervisor.totals


def test_kinds_of_deaths_are_bounded():
    rig = Rig(workers=1)
    dead_letters = {(f"{number:012x}", "index"): 1 for number in range(MAX_KINDS + 10)}
    rig.at(1, lambda: rig.context.pipes[0].reports.append({"dead_letters": dead_letters}))
    rig.at(2, rig.supervisor.on_signal)
    rig.supervisor.run()
    assert rig.supervisor.state.dead_letters["other", "other"] == 10

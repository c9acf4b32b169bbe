"""A pause: one probe at a time, longer waits, and nothing held is lost."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmlog_consumer.delivery.pauses.pause import Pause


def test_the_first_hold_begins_the_pause_and_later_ones_do_not():
    pause = Pause()
    assert not pause.active
    assert pause.hold("a", "closed", 0.0)
    assert pause.active
    assert not pause.hold("b", "blocked", 0.0)
    assert (pause.why, pause.held) == ("blocked", 2)


def test_a_probe_waits_for_its_time():
    pause = Pause()
    pause.hold("a", "closed", 100.0)
    assert pause.take_probe(100.0) is None
    assert pause.take_probe(101.0) == "a"
    assert pause.is_probe("a")
    assert pause.held == 0


def test_a_refused_probe_makes_the_next_wait_longer_and_others_do_not():
    pause = Pause()
    for name in ("a", "b", "c"):
        pause.hold(name, "closed", 0.0)
    assert pause.refusals == 1
    for refusals in range(2, 8):
        probe = pause.take_probe(1000.0 * refusals)
        pause.hold(probe, "closed", 1000.0 * refusals)
        pause.hold("more", "closed", 1000.0 * refusals)
        assert pause.refusals == refusals
    assert pause.take_probe(7000.0 + 1.4) is None, "a tenth of the longest wait has not passed"
    assert pause.take_probe(7000.0 + 15.0) is not None


def test_the_rest_of_a_probe_is_held_until_its_own_time():
    pause = Pause()
    pause.hold("a", "closed", 0.0)
    assert not pause.keep_probe("a", "rest", 50.0), "no probe was taken yet"
    probe = pause.take_probe(10.0)
    assert pause.keep_probe(probe, "rest", 50.0)
    assert not pause.is_probe(probe)
    assert not pause.keep_probe(probe, "more", 60.0), "the probe is over"
    assert pause.refusals == 1
    assert pause.take_probe(49.0) is None
    assert pause.take_probe(50.0) == "rest"


def test_the_end_returns_what_is_held_in_order():
    pause = Pause()
    for name in ("a", "b", "c"):
        pause.hold(name, "closed", 0.0)
    pause.take_probe(100.0)
    assert pause.resume() == ["b", "c"]
    assert (pause.active, pause.why, pause.held) == (False, "", 0)
    assert not pause.is_probe("a")


class PauseMachine(RuleBasedStateMachine):
    """Batches that are held, probed, refused and resumed in any order."""

    @initialize()
    def begin(self):
        self.pause, self.now, self.number = Pause(), 0.0, 0
        self.held, self.probe = [], None

    def new_batch(self):
        self.number += 1
        return self.number

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def refuse_another(self):
        batch = self.new_batch()
        began = self.pause.hold(batch, f"why {batch}", self.now)
        assert began == (not self.held and self.probe is None and self.pause.refusals == 1)
        self.held.append(batch)
        self.probe = None

    @precondition(lambda self: self.probe is None)
    @rule()
    def take(self):
        probe = self.pause.take_probe(self.now)
        if probe is not None:
            assert probe == self.held.pop(0)
            self.probe = probe

    @precondition(lambda self: self.probe is not None)
    @rule(refused=st.booleans())
    def answer(self, refused):
        before = self.pause.refusals
        if refused:
            self.pause.hold(self.probe, "again", self.now)
            assert self.pause.refusals == before + 1
        else:
            assert self.pause.keep_probe(self.probe, self.probe, self.now + 1.0)
            assert self.pause.refusals == before
        self.held.append(self.probe)
        self.probe = None

    @precondition(lambda self: self.probe is not None)
    @rule()
    def resume(self):
        assert self.pause.is_probe(self.probe)
        assert self.pause.resume() == self.held
        self.held, self.probe = [], None

    @invariant()
    def nothing_is_lost_and_the_pause_lasts_while_anything_is_held(self):
        assert self.pause.held == len(self.held)
        if self.held or self.probe is not None:
            assert self.pause.active
        assert self.pause.active == bool(self.pause.why)


PauseMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestAnyOrderOfRefusalsAndProbes = PauseMachine.TestCase

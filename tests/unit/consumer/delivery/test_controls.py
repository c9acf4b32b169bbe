"""Whose fault a refused request is: evidence of controls."""

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, sampled_from

from llmlog_consumer.delivery.controls import (
    LETTERS_SECONDS,
    MAX_CONTROLS,
    MAX_LETTERS,
    MAX_UNPROVEN,
    SMALL_CONTROL_BYTES,
    Controls,
)


def knowing(*names, size=10):
    controls = Controls()
    for name in names:
        controls.remember(name, f"control {name}", size)
    return controls


def test_nothing_waits_where_no_control_is_known():
    controls = Controls()
    assert not controls.wait("a", "logs-1", same_index=False)
    assert controls.take() == []


def test_what_was_refused_before_a_control_was_sent_ends_with_it_and_later_ones_wait():
    controls = knowing("logs-1")
    assert controls.wait("a", "logs-1", same_index=True)
    assert controls.wait("b", "logs-1", same_index=True)
    assert controls.take() == [("logs-1", "control logs-1")]
    assert controls.wait("c", "logs-1", same_index=True)
    assert controls.take() == [], "one is under way"
    assert controls.end("logs-1") == ["a", "b"]
    assert controls.take() == [("logs-1", "control logs-1")]
    assert controls.end("logs-1") == ["c"]


def test_a_control_of_the_newest_index_stands_in_where_another_may_tell():
    controls = knowing("logs-1", "logs-3", "logs-2")
    assert not controls.wait("a", "logs-9", same_index=True)
    assert controls.wait("a", "logs-9", same_index=False)
    assert controls.take() == [("logs-3", "control logs-3")]


def test_each_index_has_a_control_of_its_own():
    controls = knowing("logs-1", "logs-2")
    controls.wait("a", "logs-1", same_index=True)
    controls.wait("b", "logs-2", same_index=True)
    assert [name for name, _ in controls.take()] == ["logs-1", "logs-2"]
    assert controls.end("logs-2") == ["b"]
    assert controls.end("logs-1") == ["a"]


def test_a_control_whose_document_is_gone_is_forgotten_with_all_that_waits_for_it():
    controls = knowing("logs-1")
    controls.wait("a", "logs-1", same_index=True)
    controls.take()
    controls.wait("b", "logs-1", same_index=True)
    assert controls.forget("logs-1") == ["a", "b"]
    assert controls.wants("logs-1")
    assert not controls.wait("a", "logs-1", same_index=False)


def test_a_large_operation_is_a_control_until_there_is_a_small_one():
    large = SMALL_CONTROL_BYTES + 1
    controls = knowing("logs-1", size=large)
    assert controls.wants("logs-1")
    controls.remember("logs-2", "large", large)
    assert controls.wants("logs-2"), "one that is large is enough"
    controls.remember("logs-2", "small", SMALL_CONTROL_BYTES)
    assert not controls.wants("logs-2")
    assert controls.wants("logs-1")
    controls.wait("a", "logs-1", same_index=False)
    assert controls.take() == [("logs-2", "small")]


def test_a_control_that_is_waited_for_stays_known():
    large = SMALL_CONTROL_BYTES + 1
    controls = knowing("logs-1", size=large)
    controls.wait("a", "logs-1", same_index=True)
    controls.remember("logs-2", "small", 5)
    assert controls.take() == [("logs-1", "control logs-1")]


def test_the_controls_of_the_oldest_indices_are_dropped():
    controls = knowing(*(f"logs-{number:02}" for number in range(MAX_CONTROLS + 1)))
    assert controls.wants("logs-00")
    assert not controls.wants("logs-01")


def test_requests_without_a_control_are_halved_a_few_times_between_two_that_pass():
    controls = Controls()
    tries = [controls.may_go_unproven() for _ in range(MAX_UNPROVEN + 2)]
    assert tries == [True] * MAX_UNPROVEN + [False] * 2
    controls.record_passed()
    assert controls.may_go_unproven()


@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0])
def test_letters_are_bounded_in_each_minute(gap):
    controls = Controls()
    moments = [number * gap for number in range(200)]
    written = [moment for moment in moments if controls.may_write_letter(moment)]
    for start in written:
        within = [m for m in written if start <= m < start + LETTERS_SECONDS]
        assert len(within) <= MAX_LETTERS
    assert len(written) >= MAX_LETTERS
    if gap == 3.0:
        assert written == moments, "twenty a minute are no flood"


class EvidenceMachine(RuleBasedStateMachine):
    """Requests of three indices are refused; controls of two pass, fail or are gone."""

    def __init__(self):
        super().__init__()
        self.controls = Controls()
        self.number = 0
        self.time = 0
        self.refused_at = {}
        self.sent_at = {}

    @rule(name=sampled_from("ab"))
    def learn(self, name):
        self.controls.remember(name, name, 1)

    @rule(name=sampled_from("abc"), same_index=booleans())
    def refuse(self, name, same_index):
        self.number += 1
        self.time += 1
        if self.controls.wait((self.number, name, same_index), name, same_index=same_index):
            self.refused_at[self.number] = self.time

    @rule()
    def send(self):
        for name, control in self.controls.take():
            assert control == name
            assert name not in self.sent_at, "one under way for each index"
            self.time += 1
            self.sent_at[name] = self.time

    @precondition(lambda self: self.sent_at)
    @rule(is_gone=booleans())
    def answer(self, is_gone):
        name = next(iter(self.sent_at))
        sent = self.sent_at.pop(name)
        ended = self.controls.forget(name) if is_gone else self.controls.end(name)
        for number, index, same_index in ended:
            assert is_gone or self.refused_at[number] < sent, "evidence of before the refusal"
            assert not same_index or index == name
            del self.refused_at[number]

    @invariant()
    def nothing_is_forgotten(self):
        waiting = self.refused_at.copy()
        copy = dict(self.sent_at)
        assert len(waiting) <= self.number
        assert copy.keys() <= {"a", "b"}

    def teardown(self):
        while self.refused_at:
            self.send()
            assert self.sent_at, "what waits is always asked for"
            self.answer(is_gone=False)


EvidenceMachine.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30)
TestEvidence = EvidenceMachine.TestCase

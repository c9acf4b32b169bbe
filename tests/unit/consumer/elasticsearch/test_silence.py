"""For how long Elasticsearch has not answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.elasticsearch.silence import SAID_AFTER_SECONDS, Silence
from support.fakes.service import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def silence(clock):
    return Silence(clock)


def test_a_request_that_hangs_is_said_with_its_age(silence, clock):
    number = silence.begin()
    clock.now += SAID_AFTER_SECONDS - 0.1
    assert silence.describe("http://e:9200") == ""
    clock.now += 1.1
    assert silence.describe("http://e:9200").startswith(
        "no answer of Elasticsearch at http://e:9200 for 7 s"
    )
    silence.end(number, is_answered=True)
    assert silence.describe("http://e:9200") == ""


def test_requests_that_fail_at_once_are_one_silence_until_an_answer(silence, clock):
    for _ in range(5):
        silence.end(silence.begin(), is_answered=False)
        clock.now += 2.0
    assert silence.seconds == 10.0
    silence.end(silence.begin(), is_answered=True)
    assert silence.seconds == 0.0


def test_one_node_that_hangs_is_said_while_others_answer(silence, clock):
    silence.begin()
    for _ in range(5):
        silence.end(silence.begin(), is_answered=True)
        clock.now += 2.0
    assert silence.seconds == 10.0


def test_time_without_any_request_is_no_silence(silence, clock):
    silence.end(silence.begin(), is_answered=True)
    clock.now += 1e6
    assert silence.seconds == 0.0


@given(st.lists(st.tuples(st.sampled_from(["begin", "answer", "fail"]), st.floats(0, 9))))
def test_there_is_no_silence_after_the_last_request_was_answered(steps):
    clock = Clock()
    silence, open_ones = Silence(clock), []
    for step, seconds in steps:
        if step == "begin":
            open_ones.append(silence.begin())
        elif open_ones:
            silence.end(open_ones.pop(), is_answered=step == "answer")
        assert silence.seconds >= 0.0
        clock.now += seconds
    for number in [*open_ones, silence.begin()]:
        silence.end(number, is_answered=True)
    assert silence.seconds == 0.0

"""The thread that reads the lag: it keeps the last answer, and its age tells how old that is."""

from __future__ import annotations

import threading

from llmlog_common.errors import KafkaUnreachable
from llmlog_consumer.service.group_watch import GroupWatch, Lag


def test_a_look_that_fails_keeps_the_lag_of_the_one_before():
    answers = [({0: 5}, {0: 1.0}), KafkaUnreachable("away"), KafkaUnreachable("away")]
    looked = threading.Event()

    def look():
        if not answers:
            looked.set()
            raise KafkaUnreachable("away")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with GroupWatch(look, interval_seconds=0.001, clock=lambda: 7.0) as watch:
        assert looked.wait(30)
        assert watch.lag == Lag({0: 5}, {0: 1.0}, read_at=7.0)


def test_before_the_first_look_nothing_is_known():
    assert GroupWatch(lambda: ({}, {})).lag == Lag()

"""The threads that ask servers for the metrics: they keep the last answer."""

from __future__ import annotations

import threading

from llmlog_common.errors import KafkaUnreachable
from llmlog_consumer.service.watches import Watch


def test_a_look_that_fails_keeps_the_answer_of_the_one_before():
    answers = [5, 6, KafkaUnreachable("away"), KafkaUnreachable("away")]
    looked = threading.Event()

    def look():
        if not answers:
            looked.set()
            raise KafkaUnreachable("away")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Watch("test", look, 0, interval_seconds=0.001) as watch:
        assert looked.wait(30)
        assert watch.latest == 6


def test_before_the_first_look_the_first_answer_stands():
    assert Watch("test", int, 7, interval_seconds=1.0).latest == 7


def test_the_thread_ends_with_the_context():
    begun = threading.Event()
    with Watch("llmlog-test", begun.set, None, interval_seconds=3600):
        assert begun.wait(30)
    (thread,) = [t for t in threading.enumerate() if t.name == "llmlog-test"] or [None]
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()

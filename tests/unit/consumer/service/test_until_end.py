"""What `pipeline consume --until-end` says while it waits."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from llmlog_common.errors import KafkaUnreachable, PipelineError
from llmlog_consumer.service.until_end import Timing, WaitLines


class Looks:
    """Looks at a group; `enough` is set after so many of them, and a minute passes with each."""

    def __init__(self, *answers: str | Exception, enough: int = 1) -> None:
        self._answers, self._left = list(answers), enough
        self.enough = threading.Event()
        self.now = 100.0
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        self._left -= 1
        if self._left <= 0:
            self.enough.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_first_line_comes_early_and_the_next_ones_once_a_minute():
    looks = Looks("t/0: index x is closed", enough=8)

    def clock() -> float:
        looks.now += 5.0  # twice for a line, once for a look without one
        return looks.now

    with capture_logs() as logs, WaitLines(looks, Timing(0.0, 0.001, 60.0), clock):
        assert looks.enough.wait(30)
    assert 1 <= len(logs) <= 1 + looks.made // 8
    assert logs[0] == {
        "event": "waiting", "what": "t/0: index x is closed", "log_level": "info",
    }  # fmt: skip


def test_the_reason_is_that_of_the_last_look():
    looks = Looks("first", "last", enough=3)
    with WaitLines(looks, Timing(0.0, 0.001)) as lines:
        assert looks.enough.wait(30)
    assert lines.reason == "last"


@pytest.mark.parametrize("error", [KafkaUnreachable("Kafka is away"), PipelineError("refused")])
def test_where_no_look_was_made_the_reason_is_looked_for_at_the_end(error):
    looks = Looks(error)
    with WaitLines(looks, Timing(first=600.0)) as lines:
        pass
    assert lines.reason == str(error)
    assert looks.made == 1

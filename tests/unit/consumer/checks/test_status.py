"""Whether the dashboards are current, and how that is known."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import KafkaError, cimpl
from typer.testing import CliRunner

from llmlog_common.settings import load
from llmlog_consumer.checks import status
from llmlog_consumer.cli import local
from llmlog_consumer.cli import status as command
from llmlog_consumer.cli.app import app
from llmlog_consumer.kafka.admin import Topic
from llmlog_consumer.kafka.offsets import CommittedOffset

SETTINGS = load(environ={})


class Admin:
    """A topic of one partition with 900 records; 100 of them are settled, and one worker runs."""

    def require(self, _topic):
        return Topic(1, 1)

    def committed_with_notes(self, _topic):
        return {0: CommittedOffset(100, {})}

    def watermarks(self, _topic, _partitions):
        return {0: (0, 900)}

    def members(self):
        return "stable", 1

    def topics(self):
        return {}, 1


class Consumer:
    """Answers with these messages, and then with nothing."""

    def __init__(self, messages):
        self.messages = messages

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def consume(self, _most, _seconds):
        messages, self.messages = self.messages, []
        return messages


def looked(monkeypatch, *messages):
    monkeypatch.setattr(status, "_LOOK", 0.05)
    monkeypatch.setattr(
        status.topic_reader, "PartitionConsumer", lambda *_: Consumer(list(messages))
    )
    admin = Admin()
    return status.look(SETTINGS, admin, admin)


def answer(code=None, age=0.0):
    written = (1, int((time.time() - age) * 1000))
    if code is None:
        return cimpl.Message(topic="t", partition=0, offset=100, timestamp=written)
    return cimpl.Message(topic="t", partition=0, error=KafkaError(code))


@pytest.mark.parametrize("answers", [[], [answer(KafkaError.TOPIC_AUTHORIZATION_FAILED)]])
def test_an_age_that_cannot_be_told_is_not_current(monkeypatch, answers):
    found = looked(monkeypatch, *answers)
    assert found.verdict.startswith("BEHIND: 800 records wait, age unknown")
    assert not found.ok
    said = json.loads(json.dumps(found.as_json()))
    assert said["behind_ms"] is said["partitions"][0]["behind_ms"] is None


def test_the_age_is_that_of_the_first_record_that_waits(monkeypatch):
    end = answer(KafkaError._PARTITION_EOF)
    assert looked(monkeypatch, answer(age=10), end).verdict.startswith("CURRENT: 800 records")
    assert looked(monkeypatch, answer(age=90), answer(), end).behind_ms >= 90_000


def test_where_no_record_comes_before_the_end_nothing_waits(monkeypatch):
    """What lies there are markers of transactions."""
    found = looked(monkeypatch, answer(KafkaError._PARTITION_EOF))
    assert found.ok
    assert found.behind_ms == 0


def test_ctrl_c_ends_what_goes_on_until_then_as_any_other_command(monkeypatch, tmp_path):
    def interrupted(_seconds):
        raise KeyboardInterrupt

    log = tmp_path / "log"
    log.touch()
    found = looked(monkeypatch, answer(age=10))
    monkeypatch.setattr(command.current, "look", lambda *_: found)
    for module in (command, local):
        monkeypatch.setattr(module.time, "sleep", interrupted)
    assert CliRunner().invoke(app, ["status", "--watch"]).exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        local._follow([log])

"""The audit topic: what is confirmed is written, and nothing else counts."""

from __future__ import annotations

import json

import pytest

from llmlog_common.errors import KafkaError
from llmlog_common.settings import load
from llmlog_consumer.kafka.audit import AuditLog


class Refusal:
    def str(self):
        return "TOPIC_AUTHORIZATION_FAILED"


class FakeProducer:
    """A producer whose brokers confirm, refuse, or say nothing."""

    made = 0

    def __init__(self, _settings, on_report, *, says="confirmed"):
        type(self).made += 1
        self._on_report, self._says = on_report, says
        self._waiting = []
        self.sent = []

    def try_send(self, item, topic, value, key):
        self.sent.append((topic, key, json.loads(value)))
        self._waiting.append(item)

    def poll(self, _seconds):
        if self._says == "nothing":
            return
        for item in self._waiting:
            self._on_report(item, None if self._says == "confirmed" else Refusal())
        self._waiting.clear()


def audit(says="confirmed", **options):
    made = []

    def producer(settings, on_report):
        made.append(FakeProducer(settings, on_report, says=says))
        return made[-1]

    log = AuditLog(
        load(environ={}),
        "console",
        require=options.pop("require", lambda _topic: None),
        producer=producer,
        clock=lambda: 1_790_000_000.0,
        confirm_seconds=0.01,
        **options,
    )
    return log, made


def test_a_record_says_who_did_what_and_when():
    log, made = audit()
    log.write("ada", "contents", "AZtXgOIAPqM4wrx7hCk_", form="raw")
    log.write("bob", "replay", "all letters")
    (producer,) = made
    assert [(topic, key) for topic, key, _ in producer.sent] == [
        ("litellm-logs.audit", "ada"),
        ("litellm-logs.audit", "bob"),
    ]
    assert producer.sent[0][2] == {
        "at": "2026-09-21T14:13:20.000+00:00",
        "who": "ada",
        "action": "contents",
        "what": "AZtXgOIAPqM4wrx7hCk_",
        "program": "console",
        "group": "llmlog-pipeline",
        "topic": "litellm-logs",
        "form": "raw",
    }


@pytest.mark.parametrize("says", ["nothing", "refused"])
def test_what_the_brokers_do_not_confirm_is_refused_and_the_next_is_tried_anew(says):
    log, made = audit(says)
    for _ in range(2):
        with pytest.raises(KafkaError, match=r"litellm-logs\.audit cannot be written"):
            log.write("ada", "contents", "x")
    assert len(made) == 2


def test_a_topic_that_is_missing_is_refused_before_anything_is_sent():
    def missing(topic):
        raise KafkaError(f"topic {topic} does not exist")

    log, made = audit(require=missing)
    with pytest.raises(KafkaError, match=r"litellm-logs\.audit does not exist"):
        log.write("ada", "contents", "x")
    assert made == []

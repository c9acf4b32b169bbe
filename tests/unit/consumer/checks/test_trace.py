"""Where a request is said to be, and what cannot be said."""

from __future__ import annotations

from llmlog_common.errors import KafkaError
from llmlog_common.settings import load
from llmlog_consumer.checks import trace
from llmlog_consumer.checks.trace import Tracer
from llmlog_consumer.elasticsearch.connection import Answer
from support.messages import Message
from support.payloads import encoded, payload

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})
CALL = payload(1)["litellm_call_id"]


class Admin:
    """A topic of one partition with eight records, all of them settled."""

    def ranges_since(self, _topic, _since):
        return {0: (0, 8)}

    def committed(self, _topic, _partitions):
        return {0: 8}


class Elastic:
    """Has the documents of the call that it is given, one answer after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def request(self, method, path):
        self.asked.append((method, path, None))
        return Answer(200, {})

    def demand(self, method, path, *, body, params=None):
        del body
        self.asked.append((method, path, params))
        found = self.answers.pop(0) if self.answers else []
        hits = [{"_index": "logs-2026.01.31", "_id": name, "_source": {}} for name in found]
        return {"hits": {"hits": hits}}


class Letters:
    """A dead-letter topic that is empty, or refuses."""

    refusal = ""

    def __init__(self, _settings, **_):
        if self.refusal:
            raise KafkaError(self.refusal)

    def read_newest(self, _wanted, *, content):
        assert content
        return iter(())


def traced(monkeypatch, elastic, letters=Letters):
    record = Message(partition_=0, offset_=7, value_=encoded(1))
    monkeypatch.setattr(trace.topic_reader, "read", lambda *_: [[record]])
    monkeypatch.setattr(trace, "DeadLetters", letters)
    return Tracer(SETTINGS, Admin(), elastic, None, lambda *_: None).trace(CALL)


def test_only_indices_of_this_alias_are_asked(monkeypatch):
    elastic = Elastic(["a"])
    assert traced(monkeypatch, elastic).verdict == "INDEXED"
    assert {path.split("/")[1] for _, path, _ in elastic.asked} == {"logs-2*"}


def test_it_is_looked_for_where_all_of_it_can_be_seen(monkeypatch):
    """Refreshed before, and not without the shards that are away."""
    elastic = Elastic(["a"])
    traced(monkeypatch, elastic)
    assert elastic.asked == [
        ("POST", "/logs-2*/_refresh", None),
        ("POST", "/logs-2*/_search", {"allow_partial_search_results": "false"}),
    ]


def test_what_is_indexed_while_the_topics_are_read_is_found(monkeypatch):
    assert traced(monkeypatch, Elastic([], ["a"])).verdict == "INDEXED"


def test_letters_that_may_not_be_read_are_not_taken_for_none(monkeypatch):
    assert "deleted since" in traced(monkeypatch, Elastic()).verdict

    class Refused(Letters):
        refusal = "this user may not see it"

    found = traced(monkeypatch, Elastic(), Refused)
    assert found.verdict == (
        "SETTLED without a document; whether it is a letter is not known: this user may not see it"
    )

    class RefusedLater(Letters):
        def read_newest(self, _wanted, *, content):
            raise KafkaError("this user may not read it")
            yield content

    assert "may not read it" in traced(monkeypatch, Elastic(), RefusedLater).verdict

"""What there is to prove, round by round, and what retention takes meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlog_common.settings import load
from llmlog_consumer.checks import verify
from llmlog_consumer.checks.verify import Verifier
from llmlog_consumer.elasticsearch.connection import Answer
from support.messages import Message
from support.payloads import encoded

if TYPE_CHECKING:
    import pytest

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})


class Admin:
    """A topic: log start, log end and committed offset of each partition."""

    def __init__(self, **places: tuple[int, int, int]) -> None:
        self.places = {int(name[1:]): place for name, place in places.items()}

    def ranges_since(self, _topic, _since):
        return {p: (start, end) for p, (start, end, _) in self.places.items()}

    def watermarks(self, topic, partitions):
        return {p: ends for p, ends in self.ranges_since(topic, None).items() if p in partitions}

    def committed(self, _topic, _partitions):
        return {p: committed for p, (_, _, committed) in self.places.items()}

    def of_topic(self, _topic):
        return {}


class Elastic:
    """Has a document of every id that is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def request(self, _method, path):
        self.asked.append((path, None))
        return Answer(200, {})

    def demand(self, _method, path, *, body, params):
        self.asked.append((path, params))
        ids = body["query"]["ids"]["values"]
        return {"hits": {"hits": [{"_id": i, "_index": "logs-2026.01.31"} for i in ids]}}


def verifier(admin: Admin, elastic: Any = None) -> Verifier:
    return Verifier(SETTINGS, admin, admin, elastic, None, progress=lambda *_: None)


def test_each_round_goes_on_where_the_one_before_ended():
    proving = verifier(Admin(p0=(0, 900, 800), p1=(0, 5, 5)))
    assert proving.onwards({0: (0, 500)}) == ({0: (500, 800), 1: (0, 5)}, [])


def test_a_topic_that_was_made_anew_between_two_rounds_is_proved_from_its_start():
    proving = verifier(Admin(p0=(0, 90, 80), p1=(3, 5, 5)))
    assert proving.onwards({0: (100, 500), 1: (0, 3)}) == ({0: (0, 80), 1: (3, 5)}, [0])


def proved(monkeypatch: pytest.MonkeyPatch, admin: Admin, elastic: Elastic) -> verify.Proof:
    record = Message(partition_=0, offset_=7, value_=encoded(1))
    monkeypatch.setattr(verify.topic_reader, "read", lambda *_: [[record]])
    monkeypatch.setattr(Verifier, "_letters", lambda _: {})
    return verifier(admin, elastic).prove({0: (2, 8), 1: (0, 3)})


def test_what_retention_takes_meanwhile_is_counted(monkeypatch):
    proof = proved(monkeypatch, Admin(p0=(7, 20, 8), p1=(50, 50, 3)), Elastic())
    assert (proof.records, proof.documents, proof.taken) == (1, 1, 5 + 3)
    assert proof.ok


def test_only_indices_of_this_alias_are_asked(monkeypatch):
    """Those of `logs-v2` and `logs-staging` begin alike."""
    elastic = Elastic()
    proved(monkeypatch, Admin(p0=(0, 8, 8), p1=(0, 3, 3)), elastic)
    assert [path for path, _ in elastic.asked] == ["/logs-2*/_refresh", "/logs-2*/_search"]


def test_of_a_log_that_ends_before_what_is_committed_nothing_is_settled():
    """It was made anew: its records wait for `offsets accept-gap`, they are not lost."""
    proving = verifier(Admin(p0=(0, 50, 1000), p1=(0, 5, 5)))
    assert proving.ranges() == {0: (0, 0), 1: (0, 5)}
    assert [row["first"] for row in proving._overtaken] == [1000]


def test_what_is_settled_while_we_look_is_no_sign_of_a_topic_made_anew(monkeypatch):
    admin = Admin(p0=(0, 50, 70))
    monkeypatch.setattr(admin, "watermarks", lambda *_: {0: (0, 90)})
    proving = verifier(admin)
    assert proving.ranges() == {0: (0, 50)}
    assert not proving._overtaken

"""Events without a document that an ingest pipeline drops, as it was declared."""

from dataclasses import replace
from typing import Any

import pytest

from llmlog_common.settings import load
from llmlog_consumer.checks.verify import Verifier
from llmlog_schemas.convert import to_event
from support.fakes.checks import FakeElastic, FakeKafka, deployment
from support.messages import Message
from support.payloads import encoded, payload

DECLARED = load(environ={"LLMLOG_INDEX": "logs", "LLMLOG_INGEST_DROP": "drop"})


class WithPipelines(FakeElastic):
    """Elasticsearch whose daily indices have pipelines, which drop what is listed."""

    def __init__(self, pipelines: dict[str, str], dropped: dict[str, set[str]]) -> None:
        super().__init__()
        self.pipelines, self.dropped = pipelines, dropped
        self.simulated: list[tuple[str, list[Any]]] = []

    def find(self, path):
        index = path.split("/")[1]
        return {index: {"settings": {"index": self.pipelines}}}

    def demand(self, method, path, *, body=None, params=None):
        if not path.endswith("/_simulate"):
            return super().demand(method, path, body=body)
        name = path.split("/")[3]
        self.simulated.append((name, body["docs"]))
        return {
            "docs": [
                None
                if doc["_id"] in self.dropped[name]
                else {"doc": {**doc, "_source": {**doc["_source"], "by": name}}}
                for doc in body["docs"]
            ]
        }


def verify(elastic, seeds, settings=DECLARED):
    records = [Message(partition_=0, offset_=n, value_=encoded(n)) for n in seeds]
    kafka = FakeKafka({0: (0, len(records))}, {0: len(records)})
    sources = replace(deployment(kafka, elastic, records=records), settings=settings)
    verifier = Verifier(sources)
    return verifier.verify(verifier.scope())


def id_of(seed):
    return to_event(payload(seed))["event_id"]


def test_events_that_a_pipeline_drops_are_not_lost():
    elastic = WithPipelines({"default_pipeline": "ours"}, {"ours": {id_of(1), id_of(2)}})
    proof = verify(elastic, range(4))
    assert (proof.dropped, proof.lost_count) == (2, 2)
    assert {row["event_id"] for row in proof.lost} == {id_of(0), id_of(3)}
    assert proof.as_json()["dropped"] == 2
    assert not proof.ok


def test_a_document_goes_through_both_pipelines_of_its_index():
    pipelines = {"default_pipeline": "first", "final_pipeline": "last"}
    elastic = WithPipelines(pipelines, {"first": {id_of(0)}, "last": {id_of(1)}})
    proof = verify(elastic, range(2))
    assert (proof.dropped, proof.lost_count, proof.ok) == (2, 0, True)
    (_, before), (name, after) = elastic.simulated
    assert [len(before), name, len(after)] == [2, "last", 1]
    assert after[0]["_source"]["by"] == "first"


@pytest.mark.parametrize("pipelines", [{}, {"default_pipeline": "_none"}])
def test_without_a_pipeline_nothing_is_dropped(pipelines):
    proof = verify(WithPipelines(pipelines, {}), range(3))
    assert (proof.dropped, proof.lost_count) == (0, 3)


def test_no_pipeline_is_asked_where_no_drop_is_declared():
    elastic = WithPipelines({"default_pipeline": "ours"}, {"ours": {id_of(0)}})
    proof = verify(elastic, range(1), load(environ={"LLMLOG_INDEX": "logs"}))
    assert (proof.dropped, proof.lost_count) == (0, 1)
    assert not elastic.simulated

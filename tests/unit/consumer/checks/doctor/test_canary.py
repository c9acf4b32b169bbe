"""The canary: each hop is timed, and what fails is the hop that says so."""

from __future__ import annotations

import json

import pytest

from llmlog_common.errors import ElasticsearchUnreachable, KafkaError
from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.canary import (
    CALL_TYPE,
    HEADER,
    PATIENCE_SECONDS,
    Canary,
    is_canary,
    new_event,
)
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_schemas.codec import Decoder, Encoder
from support.fakes.delivery import FakeClock, FakeRecord
from support.payloads import event

NOW = 1_796_000_000.0
INDEX, MONTH = "litellm-logs-2026.11.30", "litellm-logs-2026.11"


class Producer:
    def __init__(self, error=None):
        self.sent, self.error = [], error

    def send(self, _item, topic, value, key, *, headers):
        self.sent.append((topic, value, key, headers))

    def finish(self, _records):
        if self.error:
            raise self.error


class Cluster:
    """Answers by path; has the document, and finds it, after so many seconds."""

    def __init__(self, clock, *, indexed=0.5, searchable=1.5, deletes=True, index=INDEX):
        self._index = index
        self._clock, self._begin = clock, clock.now
        self._indexed, self._searchable, self._deletes = indexed, searchable, deletes
        self.deleted = []

    def _is(self, seconds):
        return self._clock.now - self._begin >= seconds

    def request(self, method, path, **_):
        assert path.startswith(f"/{self._index}/_doc/")
        if method == "DELETE":
            self.deleted.append(path)
            return Answer(200 if self._deletes else 403, {})
        return Answer(200 if self._is(self._indexed) else 404, {"found": True})

    def demand(self, _method, path, **_):
        assert path == "/litellm-logs/_search"
        if self._searchable is None:
            raise ElasticsearchUnreachable("503 shards are away")
        return {"hits": {"total": {"value": int(self._is(self._searchable))}}}


def run(error=None, *, environ=None, **options):
    clock = FakeClock()
    cluster, producer = Cluster(clock, **options), Producer(error)

    def sleep(seconds):
        clock.now += seconds

    canary = Canary(
        load(environ=environ or {}),
        Encoder(),
        producer,
        cluster,
        clock=clock,
        wall_clock=lambda: NOW,
        sleep=sleep,
    )
    seen = {finding.check.name.partition(".")[2]: finding.seen for finding in canary.run()}
    return seen, cluster, producer


def test_each_hop_is_green_with_its_time_and_the_document_is_deleted():
    seen, cluster, producer = run()
    assert {one.verdict for one in seen.values()} == {"green"}
    assert seen["indexed"].text.startswith("after 0.5")
    assert seen["searchable"].text.startswith("after 1.0")
    ((topic, value, key, headers),) = producer.sent
    assert (topic, headers) == ("litellm-logs", [(HEADER, b"1")])
    head = Decoder().head(value)
    assert head["event_id"] == key
    assert cluster.deleted == [f"/{INDEX}/_doc/{key}"]
    assert json.loads(head["document"])["call_type"] == CALL_TYPE


def test_its_document_is_looked_for_in_the_index_of_its_period():
    seen, cluster, producer = run(environ={"LLMLOG_INDEX_PERIOD": "month"}, index=MONTH)
    assert {one.verdict for one in seen.values()} == {"green"}
    ((_, value, key, _),) = producer.sent
    assert Decoder().head(value)["index_place"] == "month"
    assert cluster.deleted == [f"/{MONTH}/_doc/{key}"]


def verdicts(seen):
    return [one.verdict for one in seen.values()]


def test_a_topic_that_takes_nothing_ends_it_at_once():
    seen, cluster, _ = run(error=KafkaError("not authorized"))
    assert verdicts(seen) == ["red", "skipped", "skipped", "skipped"]
    assert "not authorized" in seen["acknowledged"].text
    assert not cluster.deleted


def test_an_event_that_no_worker_indexes_is_red_and_status_says_more():
    seen, cluster, _ = run(indexed=PATIENCE_SECONDS + 1)
    assert verdicts(seen) == ["green", "red", "skipped", "skipped"]
    assert seen["indexed"].mend == "pipeline status"
    assert not cluster.deleted


@pytest.mark.parametrize("searchable", [1000, None])
def test_a_document_that_no_search_finds_is_deleted_all_the_same(searchable):
    seen, cluster, _ = run(searchable=searchable)
    assert verdicts(seen) == ["green", "green", "red", "green"]
    assert cluster.deleted


def test_a_document_that_may_not_be_deleted_stays_and_is_named():
    seen, *_ = run(deletes=False)
    assert verdicts(seen) == ["green", "green", "green", "yellow"]
    assert INDEX in seen["deleted"].text
    assert "grant `delete`" in seen["deleted"].mend


def test_a_record_is_a_canary_by_its_header_and_its_document():
    """A header alone hides no event from `pipeline verify`."""
    marked, other = new_event(NOW)["document"], event(1)["document"]
    with_header, without = FakeRecord(1, headers=[(HEADER, b"1")]), FakeRecord(1)
    assert is_canary(with_header, marked)
    assert not is_canary(with_header, other)
    assert not is_canary(without, marked)
    assert not is_canary(FakeRecord(1, headers=[("other", b"1")]), marked)


def test_two_canaries_are_two_events():
    assert new_event(NOW)["event_id"] != new_event(NOW)["event_id"]

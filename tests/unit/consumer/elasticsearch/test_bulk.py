"""Answers to a bulk request, and an index's first use."""

import pytest

from llmlog_common.errors import (
    ElasticsearchCutOff,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
)
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.bulk import BULK_PARAMS, BulkClient, UnexpectedItemsError
from llmlog_consumer.elasticsearch.connection import REQUEST_TIMEOUT_SECONDS, Answer
from llmlog_consumer.elasticsearch.daily_index import llmlog_version
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    DELETED_INDEX,
    FOREIGN_PAGE,
    TIMED_OUT,
    Disposition,
    judge_request,
)

OURS = Answer(200, {"logs-1": {"mappings": {"_meta": {"llmlog_version": 1}}}})
NOT_THERE = Answer(404, {"error": {"type": "index_not_found_exception"}})


class Server:
    """Answers each path in turn from a list; the last answer stays."""

    def __init__(self, **answers):
        self.answers = {"mapping": [OURS], **answers}
        self.asked = []

    def request(self, method, path, **_):
        name = {
            "/_bulk": "bulk",
            "/_index_template/logs": "template",
            "/_cluster/state/metadata": "state",
            "/logs-1": "create",
        }.get(path, "mapping")
        self.asked.append(name)
        turns = self.answers[name]
        if callable(turns):
            return turns(path)
        answer = turns.pop(0) if len(turns) > 1 else turns[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def batch_of(*ids):
    builder = BatchBuilder()
    for document_id in ids:
        builder.add(None, None, 7, "logs-1", document_id, b"{}", 0.0)
    return builder.take()


def created(document_id, **more):
    return {"create": {"_index": "logs-1", "_id": document_id, "status": 201, **more}}


def answer_of(body, *ids, status=200, **answers):
    server = Server(bulk=[Answer(status, body)], **answers)
    return BulkClient(server, "logs").send(batch_of(*(ids or ("a", "b"))))


# Answers


def test_every_item_is_judged():
    error = {"type": "document_parsing_exception", "reason": "no"}
    refused = {"create": {"_id": "b", "status": 400, "error": error}}
    answered = answer_of({"errors": True, "items": [created("a"), refused]})
    assert answered.verdict is None
    assert [judged.operation.document_id for judged in answered.items] == ["a", "b"]
    assert [judged.verdict.disposition for judged in answered.items] == [
        Disposition.INDEXED,
        Disposition.PERMANENT,
    ]
    assert answered.items[1].error == error


def test_a_response_where_every_document_was_created_has_no_items():
    answered = answer_of({"errors": False, "items": [created("a"), created("b")]})
    assert (answered.all_created, answered.verdict, answered.items) == (True, None, [])


@pytest.mark.parametrize(
    "second",
    [
        {"create": {"_id": "b", "status": 200}},
        {"create": {"_id": "b", "status": 201}},
        {"create": {"_index": "other", "_id": "b", "status": 201}},
        {"index": {"_id": "b", "status": 201}},
        created("b", failure_store="used"),
        created("b", error={"type": "odd"}),
    ],
)
def test_any_other_response_is_read_item_by_item(second):
    answered = answer_of({"errors": False, "items": [created("a"), second]})
    assert not answered.all_created
    assert len(answered.items) == 2


def test_a_good_answer_may_hold_failures():
    """HTTP 200 and `errors: false` say nothing; only items do."""
    item = {
        "create": {"_id": "a", "status": 503, "error": {"type": "unavailable_shards_exception"}}
    }
    answered = answer_of({"errors": False, "items": [item]}, "a")
    assert answered.items[0].verdict.disposition is Disposition.RETRY


def test_the_failure_store_is_counted():
    items = [created("a", failure_store="used"), created("b", failure_store="not_enabled")]
    answered = answer_of({"items": items})
    assert answered.failure_store == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        '{"errors": false, "items": [',
        None,
        [],
        {},
        {"items": None},
        {"items": "ab"},
        {"items": []},
        {"items": [created("a")]},
        {"items": [created("a"), None]},
        {"items": [created("a"), {}]},
        {"items": [created("a"), {"create": None}]},
        {"items": [created("a"), {"create": {"_id": "b"}}]},
        {"items": [created("a"), {"create": {"_id": "b", "status": "201"}}]},
        {"items": [created("a"), {"create": {"_id": "b", "status": 400, "error": "text"}}]},
    ],
)
def test_an_answer_that_does_not_answer_every_item_is_broken_as_a_whole(body):
    answered = answer_of(body)
    assert answered.verdict is BROKEN_ANSWER
    assert answered.items == []


@pytest.mark.parametrize(
    "items",
    [
        [created("a"), created("b"), created("c")],
        [created("a"), {"index": {"_id": "another", "status": 201}}],
        [created("b"), created("a")],
        [created("a"), {"create": {"status": 201}}],
        [created("a"), {"delete": {"_id": "other", "status": 200}}],
    ],
)
def test_an_item_that_was_not_sent_raises_an_error(items):
    with pytest.raises(UnexpectedItemsError):
        answer_of({"items": items})


def test_a_refused_request_has_one_verdict_for_all():
    body = {"error": {"type": "es_rejected_execution_exception", "reason": "full"}}
    answered = answer_of(body, status=429)
    assert answered.verdict.disposition is Disposition.RETRY
    assert answered.verdict.pushed_back
    assert answered.status == 429
    assert answered.detail == "429 es_rejected_execution_exception: full"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(ElasticsearchCutOff("closed"), CUT_OFF), (ElasticsearchTimedOut("60 s"), TIMED_OUT)],
)
def test_a_request_without_an_answer_may_have_been_too_large(error, verdict):
    answered = BulkClient(Server(bulk=[error]), "logs").send(batch_of("a"))
    assert answered.verdict is verdict
    assert answered.detail == str(error)


@pytest.mark.parametrize("body", ["<html><title>Log in</title>", "\ufeff \n<!DOCTYPE html>"])
def test_a_page_in_the_place_of_an_answer_is_named(body):
    answered = answer_of(body)
    assert answered.verdict is FOREIGN_PAGE
    assert "an HTML page" in answered.detail


# Ingest pipelines


def test_a_document_that_an_ingest_pipeline_dropped_is_not_indexed():
    dropped = {"create": {"_id": "b", "_index": "logs-1", "status": 200}}
    answered = answer_of({"errors": False, "items": [created("a"), dropped]})
    assert [judged.verdict.disposition for judged in answered.items] == [
        Disposition.INDEXED,
        Disposition.DROPPED,
    ]
    assert not answered.rerouted


@pytest.mark.parametrize(
    "renamed",
    [
        {"_id": "other", "_index": "logs-1", "status": 201},
        {"_id": "other", "status": 409, "error": {"type": "version_conflict_engine_exception"}},
    ],
)
def test_a_document_that_an_ingest_pipeline_gave_another_id_is_not_indexed(renamed):
    answered = answer_of({"items": [created("a"), {"create": renamed}]})
    first, second = answered.items
    assert first.verdict.disposition is Disposition.INDEXED
    assert second.verdict.disposition is Disposition.PERMANENT
    assert "gave the document another _id" in second.error["reason"]
    assert "'other'" in second.error["reason"]


def test_a_document_that_did_not_get_in_is_sent_again_whatever_its_id_became():
    busy = {"type": "es_rejected_execution_exception", "reason": "full"}
    renamed = {"_id": "other", "status": 429, "error": busy}
    answered = answer_of({"items": [created("a"), {"create": renamed}]})
    assert answered.items[1].verdict.disposition is Disposition.RETRY


def test_documents_that_an_ingest_pipeline_sent_elsewhere_are_counted_by_index():
    items = [created("a", _index="other"), created("b"), created("c", _index="other")]
    answered = answer_of({"errors": False, "items": items}, "a", "b", "c")
    assert answered.rerouted == {"other": 2}
    assert {judged.verdict.disposition for judged in answered.items} == {Disposition.INDEXED}


def test_a_refused_document_in_another_index_is_not_rerouted():
    error = {"type": "version_conflict_engine_exception", "reason": "exists"}
    item = {"create": {"_index": "other", "_id": "a", "status": 409, "error": error}}
    assert not answer_of({"errors": True, "items": [item]}, "a").rerouted


def test_the_answer_is_asked_for_what_is_judged_and_for_no_more():
    assert set(BULK_PARAMS["filter_path"].split(",")) == {
        "errors", "items.*.status", "items.*.error", "items.*._id", "items.*._index",
        "items.*.failure_store",
    }  # fmt: skip


def test_an_index_without_its_shards_answers_long_before_the_request_is_given_up():
    assert int(BULK_PARAMS["timeout"].removesuffix("s")) <= REQUEST_TIMEOUT_SECONDS / 4


def test_a_server_that_does_not_answer_is_tried_again_without_bound():
    server = Server(bulk=[ElasticsearchUnreachable("refused")])
    answered = BulkClient(server, "logs").send(batch_of("a"))
    assert answered.verdict.disposition is Disposition.RETRY
    assert not answered.verdict.bounded
    assert answered.detail == "refused"


# The first use of an index


def test_an_index_is_checked_once():
    server = Server(bulk=[Answer(200, {"items": [created("a")]})])
    indexer = BulkClient(server, "logs")
    indexer.send(batch_of("a"))
    indexer.send(batch_of("a"))
    assert server.asked == ["mapping", "bulk", "bulk"]
    indexer.forget("logs-1")
    indexer.send(batch_of("a"))
    assert server.asked[3:] == ["mapping", "bulk"]


@pytest.mark.parametrize(
    "created_now",
    [Answer(200, {}), Answer(400, {"error": {"type": "resource_already_exists_exception"}})],
)
def test_a_missing_index_is_created_whichever_worker_is_first(created_now):
    answered = answer_of(
        {"items": [created("a")]},
        "a",
        mapping=[NOT_THERE, OURS],
        template=[Answer(200, {})],
        create=[created_now],
    )
    assert answered.verdict is None


def test_without_the_template_no_index_is_created():
    server = Server(mapping=[NOT_THERE], template=[Answer(404, {})])
    (item,) = BulkClient(server, "logs").send(batch_of("a")).items
    assert item.verdict.disposition is Disposition.CONFIGURATION
    assert "run `pipeline setup`" in item.error["reason"]
    assert "create" not in server.asked
    assert "bulk" not in server.asked


@pytest.mark.parametrize(
    "body",
    [
        {"logs-1": {"mappings": {"properties": {"model": {"type": "text"}}}}},
        {"logs-1": {"mappings": {"_meta": {"llmlog_version": "1"}}}},
        {"logs-1": {}},
        {},
    ],
)
def test_an_index_without_our_mapping_is_never_written_to(body):
    server = Server(mapping=[Answer(200, body)])
    (item,) = BulkClient(server, "logs").send(batch_of("a")).items
    assert item.verdict.disposition is Disposition.CONFIGURATION
    assert "index logs-1 was not created from our template" in item.error["reason"]
    assert "bulk" not in server.asked


def two_indices():
    builder = BatchBuilder()
    for index, name in (("logs-1", "a"), ("logs-2", "b"), ("logs-1", "c")):
        builder.add(None, None, 7, index, name, b"{}", 0.0)
    return builder.take()


def test_an_index_that_cannot_be_used_keeps_its_own_documents_alone():
    full = {"error": {"type": "validation_exception", "reason": "maximum shards open"}}
    server = Server(
        mapping=lambda path: OURS if "logs-2" in path else NOT_THERE,
        template=[Answer(200, {})],
        create=[Answer(400, full)],
        bulk=[Answer(200, {"items": [created("b", _index="logs-2")]})],
    )
    client = BulkClient(server, "logs")
    answered = client.send(two_indices())
    assert [item.operation.document_id for item in answered.items] == ["a", "c"]
    assert {item.status for item in answered.items} == {400}
    assert answered.verdict is None
    assert "bulk" not in server.asked
    assert [op.document_id for op in answered.unsent.operations] == ["b"]
    assert client.send(answered.unsent).all_created


@pytest.mark.parametrize(
    ("answer", "disposition"),
    [
        (Answer(503, {"error": {"type": "process_cluster_event_timeout_exception"}}), "retry"),
        (Answer(400, {"error": {"type": "mapper_parsing_exception"}}), "configuration"),
        (Answer(400, {"error": {"type": "brand_new_exception"}}), "configuration"),
    ],
)
def test_an_index_that_is_not_created_makes_no_letter(answer, disposition):
    """A template that Elasticsearch refuses is no fault of a document."""
    server = Server(mapping=[NOT_THERE], template=[Answer(200, {})], create=[answer])
    (item,) = BulkClient(server, "logs").send(batch_of("a")).items
    assert item.verdict.disposition.value == disposition
    assert not item.verdict.is_final


def test_an_index_that_this_user_may_not_see_waits_alone():
    """A role may name some indices and leave out others."""
    answer = Answer(403, {"error": {"type": "security_exception", "reason": "no"}})
    (item,) = BulkClient(Server(mapping=[answer]), "logs").send(batch_of("a")).items
    assert item.verdict.disposition is Disposition.CONFIGURATION


def test_without_an_answer_about_the_template_no_index_is_created():
    """It would have a mapping that Elasticsearch guesses, where the template is missing."""
    trouble = {"error": {"type": "master_not_discovered_exception", "reason": None}}
    server = Server(mapping=[NOT_THERE], template=[Answer(503, trouble)])
    (item,) = BulkClient(server, "logs").send(batch_of("a")).items
    assert item.verdict.disposition is Disposition.RETRY


def test_who_may_not_read_the_template_may_create_indices_from_it():
    refused = {"error": {"type": "security_exception", "reason": "no"}}
    server = Server(
        mapping=[NOT_THERE, OURS],
        template=[Answer(403, refused)],
        create=[Answer(200, {})],
        bulk=[Answer(200, {"items": [created("a")]})],
    )
    assert BulkClient(server, "logs").send(batch_of("a")).all_created


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"error": {"type": "security_exception", "reason": "no"}}),
        Answer(403, "<html>"),
        Answer(404, "<html>"),
        Answer(502, "<html>"),
    ],
)
def test_an_answer_that_tells_nothing_about_the_index_is_the_whole_requests(answer):
    server = Server(mapping=[answer])
    answered = BulkClient(server, "logs").send(batch_of("a"))
    assert not answered.items
    verdict = judge_request(answer.status, answer.error)
    assert answered.verdict.advice == verdict.advice
    assert answered.verdict.disposition is (
        verdict.then if verdict.disposition is Disposition.CHECK else verdict.disposition
    ), "no document was sent, so none is at fault"
    assert answered.status == answer.status


# An index that was deleted


TOMBSTONES = Answer(
    200,
    {
        "metadata": {
            "index-graveyard": {
                "tombstones": [
                    {"index": {"index_name": "logs-0"}},
                    {"index": {"index_name": "logs-1"}},
                ]
            }
        }
    },
)


def test_a_deleted_index_before_the_newest_is_not_created_again():
    server = Server(mapping=[NOT_THERE], state=[TOMBSTONES])
    client = BulkClient(server, "logs")
    client.set_newest("logs-2")
    (item,) = client.send(batch_of("a")).items
    assert item.verdict is DELETED_INDEX
    assert "logs-1 was deleted" in item.error["reason"]
    assert "create" not in server.asked


@pytest.mark.parametrize("newest", ["logs-1", "logs-0", ""])
def test_the_newest_index_is_created_again(newest):
    server = Server(
        mapping=[NOT_THERE, OURS],
        template=[Answer(200, {})],
        create=[Answer(200, {})],
        bulk=[Answer(200, {"items": [created("a")]})],
        state=[TOMBSTONES],
    )
    client = BulkClient(server, "logs")
    client.set_newest(newest)
    assert client.send(batch_of("a")).all_created


@pytest.mark.parametrize(
    "state",
    [
        Answer(403, {"error": {"type": "security_exception"}}),
        Answer(200, {}),
        Answer(200, {"metadata": {"index-graveyard": {"tombstones": [{}, 1, {"index": 2}]}}}),
    ],
)
def test_an_index_that_never_existed_is_created_however_late_its_event_is(state):
    """A gateway that kept its events for days, while Kafka was away."""
    server = Server(
        mapping=[NOT_THERE, OURS],
        template=[Answer(200, {})],
        create=[Answer(200, {})],
        bulk=[Answer(200, {"items": [created("a")]})],
        state=[state],
    )
    client = BulkClient(server, "logs")
    client.set_newest("logs-2")
    assert client.send(batch_of("a")).all_created


def test_an_index_that_was_there_and_is_gone_is_deleted_even_where_no_one_may_ask():
    server = Server(
        mapping=[OURS, NOT_THERE],
        bulk=[Answer(200, {"items": [created("a")]})],
        state=[Answer(403, {})],
    )
    client = BulkClient(server, "logs")
    client.set_newest("logs-2")
    client.send(batch_of("a"))
    client.forget("logs-1")
    (item,) = client.send(batch_of("a")).items
    assert item.verdict is DELETED_INDEX


def test_the_version_of_our_mapping_is_read():
    assert llmlog_version(OURS.body) == 1


@pytest.mark.parametrize(
    "body",
    [{"status": "ok"}, {"i": None}, {"i": {"mappings": None}}, {"i": {"mappings": {"_meta": 1}}}],
)
def test_an_object_that_is_no_mapping_has_no_version(body):
    """Something between may answer with an object of its own."""
    assert llmlog_version(body) is None


@pytest.mark.parametrize("error", ["", 0, False, []])
@pytest.mark.parametrize("status", [400, 429])
def test_an_error_without_content_ends_no_thread(status, error):
    item = {"create": {"_id": "a", "status": status, "error": error}}
    answered = answer_of({"errors": True, "items": [item]}, "a")
    assert [judged.status for judged in answered.items] == [status]

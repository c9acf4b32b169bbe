"""Where a request is, and what cannot be known about it."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.checks.trace import MAX_ROWS, Trace, Tracer
from llmlog_consumer.elasticsearch.connection import Answer
from support.fakes.checks import (
    SETTINGS,
    TODAY,
    FakeElastic,
    FakeKafka,
    FakeSources,
    deployment,
    letter_of,
)
from support.messages import Message
from support.payloads import encoded, event, payload

TOPIC = SETTINGS.topic
CALL = payload(1)["litellm_call_id"]
OTHER = payload(2)["litellm_call_id"]
RECORD = Message(topic_=TOPIC, partition_=0, offset_=7, value_=encoded(1))


def topic(committed: int = 8) -> FakeKafka:
    """Return a topic of one partition with eight records; all of them are settled."""
    return FakeKafka({0: (0, 8)}, {0: committed})


def with_document(index: str = TODAY, call_id: str = CALL, name: str = "a") -> FakeElastic:
    elastic = FakeElastic()
    elastic.index(index, name, litellm_call_id=call_id)
    return elastic


def sources(
    elastic: FakeElastic | None = None, committed: int = 8, record: Message = RECORD, **more
) -> FakeSources:
    return deployment(topic(committed), elastic, records=[record], **more)


def trace(where: FakeSources, **options) -> Trace:
    return Tracer(where).trace(CALL, **options)


# The index


def test_a_request_with_a_document_is_indexed_and_the_topics_are_not_read():
    result = trace(sources(with_document()))
    assert (result.verdict, result.scanned, result.records) == ("INDEXED", False, [])
    assert [row["document_id"] for row in result.documents] == ["a"]


def test_the_topics_are_read_too_when_asked_for():
    result = trace(sources(with_document()), scan=True)
    assert (result.verdict, result.scanned) == ("INDEXED", True)
    assert [row["coordinates"] for row in result.records] == [f"{TOPIC}/0/7"]


@pytest.mark.parametrize("index", ["logs-v2-2026.01.31", "logs-staging", "other-2026.01.31"])
def test_a_document_of_another_deployment_is_not_this_request(index):
    """The names of its indices begin alike."""
    assert trace(sources(with_document(index))).verdict.startswith("SETTLED without a document")


def test_a_document_of_another_request_is_not_this_one():
    assert trace(sources(with_document(call_id=OTHER))).documents == []


def test_documents_are_searched_after_a_refresh():
    elastic = with_document()
    trace(sources(elastic))
    assert [path for _, path in elastic.asked] == [
        "/_alias/logs",
        "/logs-2*/_refresh",
        "/logs-2*/_search",
    ]


@pytest.mark.parametrize("fault", ["failing", "blocked"])
def test_an_index_that_cannot_be_searched_is_named(fault):
    elastic = with_document()
    getattr(elastic, fault).add(TODAY)
    (note,) = trace(sources(elastic)).notes
    assert note.startswith(f"index {TODAY} ")


def test_an_answer_that_is_no_search_result_is_not_taken_for_no_documents():
    """A proxy may answer 200 with JSON of its own."""
    elastic = FakeElastic()
    elastic.request = lambda *_, **__: Answer(200, {"took": 1})
    with pytest.raises(ElasticsearchError, match="no answer to a search"):
        trace(sources(elastic))


def test_a_document_that_users_do_not_find_is_said():
    elastic = with_document()
    elastic.detached = {TODAY}
    result = trace(sources(elastic))
    assert result.verdict == f"INDEXED in {TODAY}, which is not behind logs: users do not find it"
    assert result.documents[0]["behind_alias"] is False


def test_a_document_that_users_find_twice_is_said():
    elastic = with_document()
    elastic.attached = {"restored"}
    elastic.index("restored", "a", litellm_call_id=CALL)
    assert trace(sources(elastic)).verdict == (
        f"INDEXED, but doubled: a is in {TODAY} and in restored"
    )


def test_two_events_of_one_call_are_not_doubled():
    """A fallback has the call's id as well."""
    elastic = with_document()
    elastic.index(TODAY, "b", litellm_call_id=CALL)
    assert trace(sources(elastic)).verdict == "INDEXED"


def test_an_event_is_traced_by_its_own_id_too():
    event_id = event(1)["event_id"]
    elastic = with_document(name=event_id)
    assert [row["document_id"] for row in Tracer(sources(elastic)).trace(event_id).documents] == [
        event_id
    ]
    found = Tracer(sources(committed=0)).trace(event_id)
    assert [row["event_id"] for row in found.records] == [event_id]


def test_a_request_that_is_indexed_while_the_topics_are_read_is_found():
    elastic = FakeElastic()
    elastic.on_search.append(lambda: elastic.index(TODAY, "a", litellm_call_id=CALL))
    result = trace(sources(elastic))
    assert (result.verdict, result.scanned) == ("INDEXED", True)


def test_rows_of_one_request_are_bounded():
    elastic = FakeElastic()
    for number in range(MAX_ROWS + 1):
        elastic.index(TODAY, str(number), litellm_call_id=CALL)
    assert len(trace(sources(elastic)).documents) == MAX_ROWS

    topic = [Message(TOPIC, 0, offset, value_=RECORD.value_) for offset in range(MAX_ROWS + 1)]
    sent_often = deployment(FakeKafka({0: (0, MAX_ROWS + 1)}, {0: 0}), records=topic)
    assert len(trace(sent_often).records) == MAX_ROWS


# The source topic


def test_a_record_beyond_the_committed_offset_waits():
    result = trace(sources(committed=5))
    assert result.verdict == "WAITING: 2 records before it are not settled"
    (row,) = result.records
    assert (row["settled"], row["records_ahead"]) == (False, 2)


def test_the_record_at_the_committed_offset_waits():
    assert trace(sources(committed=7)).verdict == "WAITING: 0 records before it are not settled"


def test_a_record_in_a_partition_without_a_committed_offset_waits():
    where = deployment(FakeKafka({0: (0, 8)}), records=[RECORD])
    assert trace(where).verdict == "WAITING: 7 records before it are not settled"


def test_a_settled_record_without_a_document_was_deleted():
    result = trace(sources())
    assert "deleted since" in result.verdict
    assert result.found
    assert (result.records[0]["settled"], result.records[0]["records_ahead"]) == (True, 0)


def test_a_record_of_another_request_that_names_this_one_is_not_this_one():
    quoting = Message(topic_=TOPIC, partition_=0, offset_=7, value_=encoded(2, trace_id=CALL))
    result = trace(sources(record=quoting))
    assert result.verdict.startswith("NOT FOUND")
    assert not result.found


def test_a_record_that_cannot_be_decoded_and_names_the_request_is_this_one():
    damaged = Message(topic_=TOPIC, partition_=0, offset_=7, value_=b"\xc3\x01" + CALL.encode())
    (row,) = trace(sources(record=damaged)).records
    assert (row["event_id"], row["started_at"]) == (None, None)


def test_a_request_without_a_trace_is_not_found():
    result = trace(deployment(topic()))
    assert result.verdict.startswith("NOT FOUND: not in the index, and on neither topic")
    assert not result.found


# The dead letters


def test_the_dead_letter_of_its_record_is_found_and_names_the_cause():
    letter = letter_of(TOPIC, 0, 7, **{"es.type": "parsing", "es.reason": "failed to parse"})
    result = trace(sources(letters=[letter, letter_of(TOPIC, 0, 3)]))
    assert result.verdict == "DEAD: parsing: failed to parse"
    assert [row["source"] for row in result.dead_letters] == [f"{TOPIC}/0/7"]
    assert result.as_json()["dead_letters"] == result.dead_letters


def test_a_dead_letter_whose_record_is_deleted_is_found_by_its_value():
    letter = letter_of(TOPIC, 0, 3)
    letter.value_ = encoded(1)
    result = trace(deployment(topic(), letters=[letter, letter_of(TOPIC, 0, 4)]))
    assert [row["source"] for row in result.dead_letters] == [f"{TOPIC}/0/3"]


def test_a_letter_of_another_event_with_the_place_of_the_record_is_not_its_letter():
    """It is of the topic as it was before it was recreated."""
    other, garbage = letter_of(TOPIC, 0, 7), letter_of(TOPIC, 0, 7, timestamp="1")
    other.value_, garbage.value_ = encoded(2), b"garbage"
    assert trace(sources(letters=[other, garbage])).dead_letters == []


def test_the_letter_of_the_same_event_at_another_place_is_its_letter():
    letter = letter_of(TOPIC, 0, 3)
    letter.value_, letter.key_ = encoded(1), b"any"
    (row,) = trace(sources(letters=[letter])).dead_letters
    assert row["event_id"] == event(1)["event_id"]


def test_a_letter_of_another_request_that_names_this_one_is_not_its_letter():
    letter = letter_of(TOPIC, 0, 3)
    letter.value_ = encoded(2, trace_id=CALL)
    assert trace(sources(letters=[letter])).dead_letters == []


def test_letters_of_another_group_are_left_out_and_counted():
    letter = letter_of(TOPIC, 0, 7, group="blue")
    letter.value_ = encoded(1)
    result = trace(sources(letters=[letter]))
    assert result.dead_letters == []
    assert result.notes == ["1 letter of other consumer groups left out: blue"]


def test_a_dead_letter_without_a_cause_says_so():
    assert trace(sources(letters=[letter_of(TOPIC, 0, 7)])).verdict == "DEAD: unknown"


def test_a_dead_letter_topic_that_may_not_be_read_does_not_count_as_empty():
    assert "deleted since" in trace(sources()).verdict
    refusal = "this user may not see it"
    assert trace(sources(refusal=refusal)).verdict == (
        f"SETTLED without a document; whether it is a dead letter is not known: {refusal}"
    )
    late = trace(sources(late_refusal="this user may not read it"))
    assert "may not read it" in late.verdict


def test_a_waiting_record_is_named_before_a_dead_letter_topic_that_may_not_be_read():
    assert trace(sources(committed=5, refusal="no")).verdict.startswith("WAITING")

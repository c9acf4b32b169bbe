"""Documents are looked up where users look, and what cannot be looked up is said."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.index_names import home_index
from llmlog_consumer.elasticsearch.lookup import (
    DocumentLookup,
    Limits,
    describe_unreadable,
)
from llmlog_schemas.event import make_event_id
from support.fakes.checks import TODAY, FakeElastic
from support.payloads import event

IDS = [event(seed)["event_id"] for seed in range(6)]


def lookup(elastic, **options):
    return DocumentLookup(elastic, "logs", **options)


def with_copies(copies: int) -> FakeElastic:
    """Return documents of all events, the first of them in as many indices more."""
    elastic = FakeElastic()
    for number in range(copies):
        elastic.index(f"logs-20{number:02}.01.01", IDS[0])
    for event_id in IDS:
        elastic.index(TODAY, event_id)
    elastic.refresh()
    return elastic


def test_many_copies_of_one_document_do_not_hide_those_of_others():
    found = lookup(with_copies(40), limits=Limits(hits=30)).find(IDS)
    assert len(found.indices[IDS[0]]) == 30
    assert {event_id: found.indices[event_id] for event_id in IDS[1:]} == {
        event_id: [TODAY] for event_id in IDS[1:]
    }


def test_a_document_that_no_search_finds_yet_is_found_in_the_index_of_its_day():
    elastic = FakeElastic()
    elastic.index(TODAY, IDS[0])
    assert lookup(elastic).find(IDS[:2]).indices == {IDS[0]: [TODAY]}


@pytest.mark.parametrize("place", ["-pay", "month", "week-pay"])
def test_a_document_of_any_period_and_group_is_found_before_a_refresh(place):
    elastic = FakeElastic()
    index = home_index("logs", IDS[0], place)
    elastic.index(index, IDS[0])
    elastic.index(TODAY, IDS[2])
    assert lookup(elastic).find(IDS[:2]).indices == {IDS[0]: [index]}
    known = {IDS[0]: place, IDS[1]: ""}
    assert lookup(elastic).find(IDS[:2], known).indices == {IDS[0]: [index]}


def test_an_unreadable_index_of_another_group_says_nothing_of_an_event_whose_place_is_known():
    elastic = FakeElastic()
    elastic.index(TODAY, IDS[1])
    elastic.closed = {f"{TODAY}-pay"}
    assert lookup(elastic).find(IDS[:1], {IDS[0]: ""}).unknown == {}
    assert "is closed" in lookup(elastic).find(IDS[:1], {IDS[0]: "-pay"}).unknown[IDS[0]]
    assert "is closed" in lookup(elastic).find(IDS[:1]).unknown[IDS[0]]


def test_a_document_that_is_found_is_not_unknown_because_of_another_group():
    elastic = FakeElastic()
    elastic.index(TODAY, IDS[0])
    elastic.closed = {f"{TODAY}-a", f"{TODAY}-pay"}
    found = lookup(elastic).find(IDS[:1])
    assert (found.indices, found.unknown) == ({IDS[0]: [TODAY]}, {})
    elastic = FakeElastic()
    elastic.index(f"{TODAY}-pay", IDS[0])
    elastic.closed = {TODAY}  # it is asked first
    found = lookup(elastic).find(IDS[:1])
    assert (found.indices, found.unknown) == ({IDS[0]: [f"{TODAY}-pay"]}, {})


def test_any_number_of_events_is_looked_up_in_requests_of_a_bounded_size():
    elastic = with_copies(0)
    found = lookup(elastic, limits=Limits(ids=2, documents=1)).find([*IDS, "A" * 20])
    assert found.indices.keys() == set(IDS)
    sizes = [len(body["query"]["ids"]["values"]) for body, _ in elastic.searches]
    assert sizes == [2, 2, 2, 1]


@pytest.mark.parametrize("year", [1970, 2019, 2101, 8000])
def test_an_event_of_a_time_that_has_no_index_is_not_asked_for(year):
    ms = (year - 1970) * 31_556_952_000
    event_id = make_event_id(ms, call_id="c", call_type="t", status="s", start_time=ms)
    assert home_index("logs", event_id, "") is None
    elastic = FakeElastic()
    assert lookup(elastic).find([event_id]).indices == {}
    assert ("POST", "/_mget") not in elastic.asked


def test_without_an_index_of_the_day_another_that_cannot_be_read_may_have_the_document():
    elastic = FakeElastic()
    elastic.attached = elastic.failing = {"restored"}
    found = lookup(elastic).find(IDS[:1])
    assert found.unknown == {IDS[0]: "index restored has no shard that answers"}


def test_an_index_that_has_the_name_of_the_alias_is_what_users_search():
    elastic = FakeElastic()
    elastic.alias_status = 404
    assert lookup(elastic).behind_alias() == {"logs"}


def test_more_names_than_a_path_can_hold_are_searched_by_the_alias():
    elastic = FakeElastic()
    elastic.attached = {f"restored-{number}" for number in range(500)}
    lookup(elastic).find(IDS[:1])
    assert ("POST", "/logs-2*,logs/_search") in elastic.asked


def test_every_blocked_index_is_left_out_of_the_search_once():
    elastic = with_copies(3)
    elastic.blocked = {"logs-2000.01.01", "logs-2001.01.01"}
    documents = lookup(elastic)
    found = documents.find(IDS)
    assert found.indices[IDS[0]] == ["logs-2002.01.01", TODAY]
    assert found.unread.keys() == elastic.blocked
    searches = len(elastic.searches)
    documents.find(IDS)
    assert len(elastic.searches) == searches + 1


@pytest.mark.parametrize(
    ("status", "body", "raises"),
    [
        (500, {"error": {"type": "e", "reason": "r"}}, ElasticsearchUnreachable),
        (401, {"error": {"type": "security_exception"}}, ElasticsearchError),
        (403, {"error": {"type": "cluster_block_exception", "reason": "?"}}, ElasticsearchError),
        (200, {"took": 1}, ElasticsearchError),
        (200, {"_shards": {"failed": 2}}, ElasticsearchUnreachable),
        (200, {"_shards": {"failed": 0}, "timed_out": True}, ElasticsearchUnreachable),
        (200, "<html>", ElasticsearchError),
    ],
)
def test_an_answer_that_is_no_result_is_never_nothing_found(status, body, raises):
    elastic = FakeElastic()
    no_alias = Answer(404, {})
    elastic.request = lambda _, path, **__: Answer(status, body) if "_search" in path else no_alias
    with pytest.raises(raises):
        lookup(elastic).find(IDS[:1])


@pytest.mark.parametrize("docs", [None, [], [{}, {}]])
def test_an_answer_without_a_document_for_each_is_none(docs):
    elastic = FakeElastic()
    elastic.demand = lambda *_, **__: {"docs": docs}
    with pytest.raises(ElasticsearchError, match="no answer for each document"):
        lookup(elastic).find(IDS[:1])


def test_a_search_of_which_all_shards_failed_names_their_indices():
    """Elasticsearch answers 503 then, and not 200 with failures."""
    reason = {"type": "no_shard_available_action_exception", "reason": None}
    shards = [{"index": TODAY, "reason": reason}]
    answer = Answer(503, {"error": {"type": "search_phase", "failed_shards": shards}})
    elastic = FakeElastic()
    elastic.failing = {TODAY}
    request = elastic.request

    def failing(method, path, **options):
        return answer if "_search" in path else request(method, path, **options)

    elastic.request = failing
    found = lookup(elastic).find(IDS[:1])
    assert found.unknown == {IDS[0]: f"index {TODAY} has no shard that answers"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"type": "index_closed_exception", "reason": "closed"}, "index i is closed"),
        ({"type": "no_shard_available_action_exception"}, "index i has no shard that answers"),
        (
            {"type": "e", "reason": "index [i] blocked by: [FORBIDDEN/7/index read (api)];"},
            "index i is blocked (index read)",
        ),
        (
            {"type": "security_exception", "reason": "no"},
            "index i cannot be read: security_exception: no",
        ),
        ({"type": "index_not_found_exception"}, ""),
        ("text", "index i: text"),
        ({"type": "e", "reason": "index [" * 100_000}, None),
    ],
)
def test_why_an_index_cannot_be_read_is_said_in_one_bounded_line(error, text):
    said = describe_unreadable("i", error)
    assert said == text or (text is None and len(said) <= 300)


def test_shards_that_do_not_refresh_are_waited_for_too():
    elastic, waits = FakeElastic(), []
    request = elastic.request

    def failing(method, path, **options):
        if "_refresh" in path:
            return Answer(200, {"_shards": {"failed": 2}})
        return request(method, path, **options)

    elastic.request = failing
    note = lookup(elastic, sleep=waits.append).refresh()
    assert note == "2 shards of logs did not refresh: waited 6 s for their own refresh instead"
    assert waits == [6.0]


def test_a_refresh_without_an_answer_is_given_up_soon_and_said():
    """An index without its primary shard would have it wait for a minute."""
    slept = []
    elastic = FakeElastic()
    elastic.refresh_hangs = True
    note = DocumentLookup(elastic, "logs", sleep=slept.append).refresh()
    assert note == "a refresh of logs had no answer: waited 6 s for their own refresh instead"
    assert slept == [6.0]

"""What `pipeline report` counts, and that it names what it does not."""

import pytest

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.checks.report import Reporter
from llmlog_consumer.elasticsearch.connection import Answer, Elastic

DAY, OTHER = "logs-2026.01.01", "logs-2026.01.02"
NUMBERS = {
    "hits": {"total": {"value": 3}, "hits": []},
    "aggregations": {
        "models": {"buckets": []},
        "avg_response_time": {"value": None},
        "percentiles": {"values": {"50.0": None}},
    },
}


class FakeIndices(Elastic):
    """Daily indices, some behind the alias, and answers that a test puts in front."""

    def __init__(self):
        self.where = "nowhere"
        self.indices: dict[str, dict] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.posted: list[tuple[str, object, dict]] = []

    def request(self, method, path, *, body=None, params=None, **_):
        if method == "POST":
            self.posted.append((path, body, dict(params)))
        if self.answers.get(path):
            return self.answers[path].pop(0)
        if path == "/logs-2*":
            return Answer(200, self.indices)
        if path == "/_alias/logs":
            behind = {i: v for i, v in self.indices.items() if "logs" in v.get("aliases", {})}
            return Answer(200, behind) if behind else Answer(404, {"error": "alias missing"})
        if path == "/logs/_mapping":
            there = "logs" in self.indices
            return Answer(200, {"logs": {}}) if there else Answer(404, {"error": {}})
        if path == "/logs/_refresh":
            return Answer(200, {"_shards": {"failed": 0}})
        assert path == "/logs/_search"
        return Answer(200, NUMBERS)


def index(*, behind=True, closed=False):
    settings = {"verified_before_close": "true"} if closed else {"uuid": "u"}
    return {"aliases": {"logs": {}} if behind else {}, "settings": {"index": settings}}


def cluster(**indices):
    fake = FakeIndices()
    fake.indices = {DAY: index(), **indices}
    return fake


def report(elastic, since_ms=None):
    notes = []
    return Reporter(elastic, "logs", notes.append).report(since_ms), notes


def test_a_whole_report_leaves_nothing_out():
    result, notes = report(cluster())
    assert (result["events"], result["left_out"], notes) == (3, [], [])


def test_every_event_is_in_a_row_or_counted_beside_them():
    elastic = cluster()
    models = {"buckets": [], "sum_other_doc_count": 3}
    aggregations = {**NUMBERS["aggregations"], "models": models}
    elastic.answers["/logs/_search"] = [Answer(200, {**NUMBERS, "aggregations": aggregations})]
    assert report(elastic)[0]["others"] == 3
    numbers = next(body for path, body, _ in elastic.posted if path.endswith("_search"))
    assert numbers["aggs"]["models"]["terms"]["missing"] == "(none)"


def test_only_calls_since_are_asked_for():
    elastic = cluster()
    report(elastic, since_ms=5)
    window = {"range": {"@timestamp": {"gte": 5}}}
    numbers, errors = [body for path, body, _ in elastic.posted if path.endswith("_search")]
    assert numbers["query"] == {"bool": {"filter": [window]}}
    assert window in errors["query"]["bool"]["filter"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (index(behind=False), f"{OTHER} is not behind logs, where users search"),
        (index(closed=True), f"{OTHER} is closed"),
    ],
)
def test_an_index_that_a_search_does_not_see_is_named(other, words):
    result, _ = report(cluster(**{OTHER: other}))
    (left_out,) = result["left_out"]
    assert words in left_out


def test_many_indices_are_named_in_one_line():
    others = {f"logs-2025.01.{day:02}": index(behind=False) for day in range(1, 8)}
    result, _ = report(cluster(**others))
    (left_out,) = result["left_out"]
    assert left_out.startswith("logs-2025.01.01, logs-2025.01.02, logs-2025.01.03 and 4 more are")


def test_an_index_with_another_name_is_not_missed():
    result, _ = report(cluster(**{"logs-2fast": index(behind=False)}))
    assert result["left_out"] == []


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ({}, "no daily index exists"),
        ({DAY: index(behind=False)}, f"{DAY} is not behind it any more: run `pipeline setup`"),
    ],
)
def test_no_index_behind_the_alias_is_explained(indices, words):
    elastic = FakeIndices()
    elastic.indices = indices
    with pytest.raises(ElasticsearchError, match="no index behind logs") as caught:
        report(elastic)
    assert words in str(caught.value)


def test_a_plain_index_with_the_aliass_name_is_reported_on():
    elastic = FakeIndices()
    elastic.indices = {"logs": {}}
    assert report(elastic)[0]["events"] == 3


FORBIDDEN = Answer(403, {"error": {"type": "security_exception", "reason": "no"}})


@pytest.mark.parametrize(
    ("path", "words"),
    [("/logs/_refresh", "`maintenance`"), ("/logs-2*", "`view_index_metadata`")],
)
def test_a_privilege_that_a_report_can_do_without_is_named(path, words):
    elastic = cluster()
    elastic.answers[path] = [FORBIDDEN]
    result, (note,) = report(elastic)
    assert result["left_out"] == []
    assert words in note


def test_a_search_that_is_forbidden_is_an_error():
    elastic = cluster()
    elastic.answers["/logs/_search"] = [FORBIDDEN]
    with pytest.raises(ElasticsearchError, match="403 security_exception"):
        report(elastic)


def test_an_alias_that_may_not_be_listed_and_that_is_missing_is_an_error():
    elastic = cluster()
    elastic.answers["/logs-2*"] = [FORBIDDEN]
    elastic.answers["/logs/_refresh"] = [Answer(404, {"error": {}})]
    with pytest.raises(ElasticsearchError, match="no index behind logs"):
        report(elastic)


def test_an_answer_in_part_is_named_once():
    elastic = cluster()
    part = {**NUMBERS, "_shards": {"failed": 1, "total": 3}}
    elastic.answers["/logs/_search"] = [Answer(200, part), Answer(200, part)]
    result, _ = report(elastic)
    assert result["left_out"] == ["1 of 3 shards did not answer"]


def test_a_closed_index_that_refuses_the_whole_search_is_left_out_and_named():
    elastic = cluster()
    closed = Answer(400, {"error": {"type": "index_closed_exception", "index": OTHER}})
    elastic.answers["/logs/_refresh"] = [closed]
    result, _ = report(elastic)
    assert result["left_out"] == [f"{OTHER} is closed: `POST /INDEX/_open`"]
    assert all(params == {"ignore_unavailable": "true"} for _, _, params in elastic.posted[1:]), (
        elastic.posted
    )


def test_an_answer_that_is_none_to_a_search_is_refused():
    elastic = cluster()
    elastic.answers["/logs/_search"] = [Answer(200, {"aggregations": {}})]
    with pytest.raises(ElasticsearchUnreachable, match="no answer to a search"):
        report(elastic)

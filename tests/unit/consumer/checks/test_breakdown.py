"""The questions of `pipeline report --by`: what is asked, and the rows of the answer."""

import pytest

from llmlog_consumer.checks.breakdown import (
    QUESTIONS,
    RANKINGS,
    describe_coverage,
    query_of,
    read_answer,
)
from llmlog_schemas.fields import DOCUMENT

COVERED = {"doc_count": 8, "first": {"value": 1_767_225_600_000.0}}
TIMES = {"50.0": 1.0, "95.0": 2.0, "99.0": None}


def bucket(key, **more):
    sums = ("total_cost", "prompt_tokens", "completion_tokens", "cached_tokens", "saved_cost")
    times = ("duration", "first_token", "tokens_per_second")
    return {
        "key": key, "doc_count": 5, "failures": {"doc_count": 1}, "cache_hits": {"doc_count": 2},
        **{name: {"value": 4.0} for name in sums}, **{name: {"values": TIMES} for name in times},
        **more,
    }  # fmt: skip


def answer(buckets, *, events=10, **groups):
    aggs = {"covered": COVERED, "groups": {"buckets": buckets, **groups}}
    return {"hits": {"total": {"value": events}, "hits": []}, "aggregations": aggs}


@pytest.mark.parametrize("by", QUESTIONS)
def test_what_is_asked_for_is_a_field_of_documents(by):
    question = QUESTIONS[by]
    names = {question.field, question.label} - {""}
    if question.budget:
        names |= {f"{question.budget}_spend", f"{question.budget}_max_budget"}
    assert names <= DOCUMENT.keys()
    aggs = query_of(by, 7, [])["aggs"]["groups"]
    if by != "day":
        assert aggs["terms"]["size"] == 7
        assert aggs["terms"]["order"] == {"total_cost": "desc"}
        assert ("missing" in aggs["terms"]) is not question.is_partial


@pytest.mark.parametrize("by", RANKINGS)
def test_single_calls_are_sorted_and_as_many_as_asked(by):
    body = query_of(by, 3, [{"window": 1}])
    assert (body["size"], body["query"]) == (3, {"bool": {"filter": [{"window": 1}]}})
    assert body["sort"] == [{RANKINGS[by]: {"order": "desc", "missing": "_last"}}]
    hit = {"_source": {"endTime": 1_767_225_600_000, "model": "m", "duration": 9.5}}
    found = answer([])
    found["hits"]["hits"] = [hit]
    (row,) = read_answer(by, 3, found)["rows"]
    assert (row["at"], row["model"], row["duration"]) == ("2026-01-01T00:00:00+00:00", "m", 9.5)


def test_a_team_has_its_name_and_the_newest_budget():
    newest = {"hits": {"hits": [{"_source": {"team_spend": 3.5, "team_max_budget": 30.0}}]}}
    label = {"buckets": [{"key": "payments"}]}
    groups = [bucket("t-1", label=label, newest=newest)]
    result = read_answer("team", 20, answer(groups, sum_other_doc_count=4))
    (row,) = result["rows"]
    assert (row["team"], row["name"], row["events"], row["failures"]) == ("t-1", "payments", 5, 1)
    assert (row["spend"], row["max_budget"], row["total_cost"]) == (3.5, 30.0, 4.0)
    assert (row["duration_p95"], row["first_token_p99"]) == (2.0, None)
    assert result["others"] == 4


def test_of_days_the_newest_are_kept():
    days = [bucket(1_767_225_600_000 + day * 86_400_000) for day in range(3)]
    result = read_answer("day", 2, answer(days))
    assert [row["day"] for row in result["rows"]] == ["2026-01-02", "2026-01-03"]
    assert result["others"] == 5


def test_a_partial_answer_says_what_it_covers_and_a_whole_one_nothing():
    partial = read_answer("team", 20, answer([]))
    assert partial["covered"] == {
        "events": 8, "share": 0.8, "since": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert "8 of 10 events (80.0%)" in describe_coverage(partial)
    assert "2026-01-01" in describe_coverage(partial)
    assert describe_coverage(read_answer("team", 20, answer([], events=8))) == ""

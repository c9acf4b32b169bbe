"""The questions of the console as Query DSL, and what their answers mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.console.fields import DIMENSIONS, FIELDS, describe_call, read_field
from llmlog_consumer.console.queries.calls import (
    CONTENT_FILTERS,
    FILTERS,
    SORT,
    find_call,
    list_calls,
    read_cursor,
    read_filter,
    write_cursor,
)
from llmlog_consumer.console.queries.letters import bound_ranges
from llmlog_consumer.console.queries.period import MAX_SPAN_SECONDS, SPANS, Period, read_period
from llmlog_consumer.console.queries.usage import (
    NOT_NAMED,
    OTHERS,
    PANELS,
    ask_panel,
    read_panel,
)
from llmlog_schemas.fields import DOCUMENT

NOW_MS = 1_790_000_000_000
DAY = Period(NOW_MS - 86_400_000, NOW_MS, "24h")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# Calls


def test_a_page_of_calls_is_bounded_and_goes_on_where_the_last_one_ended():
    first = list_calls(read_filter({}), DAY)
    assert first["size"] == 50
    assert first["track_total_hits"] == 10_000
    assert first["query"] == {"bool": {"filter": [DAY.as_filter()]}}
    assert "search_after" not in first
    following = list_calls(read_filter({}), DAY, [1, "a", 2, "success"])
    assert following["search_after"] == [1, "a", 2, "success"]
    assert following["track_total_hits"] is False
    assert following["sort"] == SORT


def test_a_list_never_reads_contents():
    included = list_calls(read_filter({}), DAY)["_source"]["includes"]
    for name in ("messages", "response", "error_str", "metadata", "extra", "end_user"):
        assert name not in included
    assert not [name for name in included if name.endswith("_text")]


def test_the_numbers_of_a_call_are_read_without_its_contents():
    excluded = find_call("x", with_contents=False)["_source"]["excludes"]
    assert {"messages", "response", "error_str", "extra", "messages_text"} <= set(excluded)
    assert "_source" not in find_call("x", with_contents=True)


@pytest.mark.parametrize(
    ("params", "clause"),
    [
        ({"model": "gpt-4o"}, {"term": {"model": "gpt-4o"}}),
        ({"model": "gpt*"}, {"prefix": {"model": "gpt"}}),
        ({"model": "*"}, {"term": {"model": "*"}}),
        ({"team": " research "}, {"term": {"metadata.user_api_key_team_alias": "research"}}),
        ({"min_cost": "0.5"}, {"range": {"response_cost": {"gte": 0.5}}}),
        ({"max_seconds": "3"}, {"range": {"response_time": {"lte": 3.0}}}),
        ({"tool": "f"}, {"term": {"tool_names_called": "f"}}),
    ],
)
def test_a_filter_is_one_clause(params, clause):
    assert read_filter(params).clauses() == [clause]


def test_an_id_is_looked_for_among_all_ids():
    (clause,) = read_filter({"call_id": "x"}).clauses()
    fields = [next(iter(one["term"])) for one in clause["bool"]["should"]]
    assert fields == ["litellm_call_id", "trace_id", "session_id", "id"]


def test_text_is_words_and_never_an_expensive_query():
    (clause,) = read_filter({"text": '+"a b" -c* ~'}).clauses()
    query = clause["simple_query_string"]
    assert query["query"] == '+"a b" -c* ~'
    assert not {"PREFIX", "FUZZY", "SLOP", "NEAR"} & set(query["flags"].split("|"))
    assert {"messages_text", "prompt_text", "response_text", "tool_text"} <= set(query["fields"])


@pytest.mark.parametrize("number", ["x", "1e400", "nan", "inf", "-inf", "1,5", "0x1"])
def test_what_is_no_number_is_said_and_left_out(number):
    wanted = read_filter({"min_cost": number, "model": "m"})
    assert wanted.problems == [f"min cost: {number} is no number"]
    assert len(wanted.clauses()) == 1


@given(st.dictionaries(st.sampled_from([*FILTERS, "other"]), st.text(max_size=600)))
def test_any_address_is_a_query(params):
    wanted = read_filter(params)
    json.dumps(list_calls(wanted, DAY), allow_nan=False)
    guesses = any("@" in word for name, word in wanted.values.items() if name in ("team", "key"))
    assert wanted.needs_contents >= (bool(CONTENT_FILTERS & wanted.values.keys()) or guesses)
    assert all(len(value) <= 500 for value in wanted.values.values())


@pytest.mark.parametrize(
    ("params", "needs"),
    [
        ({"key": "ada@example.org"}, True),
        ({"key": "ada@*"}, True),
        ({"tag": "x@y"}, True),
        ({"call_id": "a@b"}, True),
        ({"key": "ada"}, False),
        ({"model": "claude-sonnet-4@20250514"}, False),
        ({"end_user": "ada"}, True),
    ],
)
def test_who_may_not_see_an_address_may_not_guess_it(params, needs):
    assert read_filter(params).needs_contents is needs


SORTS = st.lists(st.none() | st.integers() | st.text(max_size=40), min_size=4, max_size=4)


@given(SORTS)
def test_a_place_in_the_table_survives_the_address(sort):
    assert read_cursor(write_cursor(sort)) == sort


@given(st.text(max_size=60) | JSON.map(lambda value: write_cursor([value])))
def test_an_address_with_any_other_place_begins_at_the_top(text):
    found = read_cursor(text)
    assert found is None or len(found) == len(SORT)


# Period


@pytest.mark.parametrize("name", SPANS)
def test_a_named_period_ends_now_and_has_sixty_bars_or_fewer(name):
    period = read_period({"period": name}, NOW_MS)
    assert (period.name, period.problem) == (name, "")
    assert NOW_MS - period.since_ms == SPANS[name][1] * 1000
    assert SPANS[name][1] / period.step_seconds <= 61


def test_moments_are_those_of_the_readers_zone():
    params = {"period": "custom", "since": "2026-09-20T12:00", "zone": "Europe/Berlin"}
    berlin = read_period({**params, "until": "2026-09-20T13:00"}, NOW_MS)
    utc = read_period({**params, "until": "2026-09-20T13:00", "zone": "UTC"}, NOW_MS)
    assert utc.since_ms - berlin.since_ms == 2 * 3_600_000
    assert berlin.until_ms - berlin.since_ms == 3_600_000


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "period": st.sampled_from(["custom", "24h", "x"]) | st.text(max_size=10),
            "since": st.text(max_size=30) | st.datetimes().map(lambda at: at.isoformat()),
            "until": st.text(max_size=30) | st.datetimes().map(lambda at: at.isoformat()),
            "zone": st.sampled_from(["UTC", "Asia/Tokyo", "../etc/passwd", "/"]) | st.text(),
        },
    )
)
def test_any_address_has_a_period(params):
    period = read_period(params, NOW_MS)
    assert period.since_ms < period.until_ms
    assert period.until_ms - period.since_ms <= MAX_SPAN_SECONDS * 1000 + 60_000
    assert period.step_seconds > 0


# Usage


def bucket(ms, count, value=None):
    return {"key": ms, "doc_count": count} | ({} if value is None else {"value": {"value": value}})


def usage(groups, whole, *, total, named, other=0, covered=None):
    aggs = {
        "groups": {"buckets": groups, "sum_other_doc_count": other},
        "time": {"buckets": whole},
        "named": {"doc_count": named},
    }
    if covered is not None:
        aggs["covered"] = {"doc_count": covered}
        aggs["value"] = {"value": sum(b["value"]["value"] for b in whole)}
    return {"hits": {"total": {"value": total}}, "aggregations": aggs}


def test_what_is_in_no_group_of_its_own_is_one_more_series():
    groups = [bucket(0, 2, 3.0) | {"key": "a", "time": {"buckets": [bucket(10, 2, 3.0)]}}]
    whole = [bucket(10, 2, 3.0), bucket(20, 3, 4.0)]
    found = usage(groups, whole, total=5, named=5, other=3, covered=4)
    series = read_panel(PANELS["cost"], found)
    assert series.names == ["a", OTHERS]
    assert series.times == [10, 20]
    assert series.values == [[3.0, 0.0], [0.0, 4.0]]
    assert series.totals == [3.0, 4.0]
    assert (series.calls, series.covered) == (5, 4)


def test_calls_without_a_team_are_said_to_be_without():
    groups = [bucket(0, 2) | {"key": "a", "time": {"buckets": [bucket(10, 2)]}}]
    found = usage(groups, [bucket(10, 5)], total=5, named=2)
    series = read_panel(PANELS["calls"], found)
    assert (series.names, series.totals) == (["a", NOT_NAMED], [2.0, 3.0])


def test_a_call_with_two_tags_is_in_both_and_nothing_is_left():
    groups = [
        bucket(0, 3) | {"key": name, "time": {"buckets": [bucket(10, 3)]}} for name in ("a", "b")
    ]
    found = usage(groups, [bucket(10, 3)], total=3, named=3)
    series = read_panel(PANELS["calls"], found, is_disjoint=False)
    assert (series.names, series.totals) == (["a", "b"], [3.0, 3.0])


def test_percentiles_have_a_gap_where_there_are_no_calls():
    def values(p50):
        return {"values": {"50.0": p50, "95.0": 2.0, "99.0": 3.0}}

    found = {
        "hits": {"total": {"value": 9}},
        "aggregations": {
            "time": {"buckets": [
                bucket(1, 0) | {"p": values(None)}, bucket(2, 9) | {"p": values(1.0)}]},
            "all": values(1.0),
            "covered": {"doc_count": 4},
        },
    }  # fmt: skip
    series = read_panel(PANELS["first_token"], found)
    assert series.names == ["p50", "p95", "p99"]
    assert series.values[0] == [None, 1.0]
    assert (series.totals[0], series.calls, series.covered) == (1.0, 9, 4)


@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("by", DIMENSIONS)
def test_a_panel_reads_no_documents_and_the_period_alone(name, by):
    body = ask_panel(PANELS[name], DAY, [{"term": {"model": "m"}}], by)
    assert body["size"] == 0
    assert body["query"]["bool"]["filter"][:2] == [DAY.as_filter(), {"term": {"model": "m"}}]
    assert body["aggs"]["time"]["date_histogram"]["fixed_interval"] == "1800s"


def test_what_is_stacked_and_searched_is_indexed_today():
    for _, field in DIMENSIONS.values():
        assert field.partition(".")[0] in DOCUMENT


# Fields


def test_an_older_document_has_its_values_elsewhere():
    source = {
        "startTime": 1000, "endTime": 3500, "completionStartTime": 1400, "stream": True,
        "metadata": {"user_api_key_team_alias": "research"},
        "cost_breakdown": {"input_cost": 0.5}, "hidden_params": {"litellm_overhead_time_ms": 25},
    }  # fmt: skip
    assert read_field(source, "team_alias") == "research"
    assert read_field(source, "input_cost") == 0.5
    cached = {"cost_breakdown": {"input_cost": 0.5, "cache_read_cost": 0.125}}
    assert read_field(cached, "input_cost") == 0.375
    assert read_field(source, "overhead") == 0.025
    assert read_field(source, "duration") == 2.5
    assert read_field(source, "time_to_first_token") == pytest.approx(0.4)
    assert read_field({**source, "stream": False}, "time_to_first_token") is None
    assert read_field({**source, "team_alias": "new"}, "team_alias") == "new"
    assert read_field(source, "cached_tokens") is None


@given(st.dictionaries(st.sampled_from([*FIELDS, "metadata", "startTime", "endTime"]), JSON))
def test_any_document_is_described(source):
    for shows in (True, False):
        groups = describe_call(source, shows_contents=shows)
        labels = [label for fields in groups.values() for label, _, _ in fields]
        assert ("end user" in labels) == shows


# Dead letters


@given(
    st.dictionaries(st.integers(0, 20), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))),
    st.integers(0, 10**6),
)
def test_the_newest_letters_are_read_and_the_others_counted(sizes, most):
    ranges = {p: (start, start + size) for p, (start, size) in sizes.items()}
    bounded, left_out = bound_ranges(ranges, most)
    read = sum(end - start for start, end in bounded.values())
    total = sum(size for _, size in sizes.values())
    assert (read, left_out) == (min(total, most), max(0, total - most))
    assert all(
        bounded[p][1] == end and bounded[p][0] >= start for p, (start, end) in ranges.items()
    )

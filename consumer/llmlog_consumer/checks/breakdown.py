"""Owns the questions of `pipeline report --by`: a query for each, and the rows of its answer. Pure.

What is grouped by is a derived field, or LiteLLM's own. Documents of earlier versions have no
derived fields: each answer says how many do, and since when.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from llmlog_consumer.times import iso
from llmlog_schemas.fields import DOCUMENT_VERSION

NONE: Final = "(none)"
"""Stands for calls that have no value in what is grouped by."""

_MIN_SHARD_SIZE: Final = 1_000
_PERCENTS: Final = [50, 95, 99]


class Question(NamedTuple):
    """What calls are grouped by.

    Attributes:
        field: whose values make the groups.
        label: a field with a name for each value; empty for none.
        budget: beginning of the fields with spend and limit; empty for none.
        is_partial: calls without a value are left out, and no group of their own.
    """

    field: str
    label: str = ""
    budget: str = ""
    is_partial: bool = False


QUESTIONS: Final[dict[str, Question]] = {
    "team": Question("team_id", "team_alias", "team"),
    "key": Question("key_hash", "key_alias", "key"),
    "user": Question("user_id", "user_email", "user"),
    "end-user": Question("end_user"),
    "org": Question("org_id", "org_alias"),
    "project": Question("project_id", "project_alias"),
    "model": Question("model"),
    "provider": Question("custom_llm_provider"),
    "tag": Question("request_tags"),
    "day": Question("@timestamp"),
    "error": Question("error_class", is_partial=True),
    "guardrail": Question("guardrail_names", "guardrail_action", is_partial=True),
    "tool": Question("tool_names_called", is_partial=True),
}
"""By the word after `--by`."""

RANKINGS: Final[dict[str, str]] = {"dearest": "response_cost", "slowest": "duration"}
"""Words after `--by` that list single calls, and the field that they are sorted by."""

_OF_CALLS: Final = (
    "endTime", "model", "team_alias", "key_alias", "status", "response_cost", "total_tokens",
    "duration", "time_to_first_token", "litellm_call_id",
)  # fmt: skip

_SUMS: Final = {
    "total_cost": "response_cost",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "cached_tokens": "cached_tokens",
    "saved_cost": "saved_cache_cost",
}
_TIMES: Final = {
    "duration": "duration",
    "first_token": "time_to_first_token",
    "tokens_per_second": "tokens_per_second",
}


def query_of(by: str, top: int, window: list[Any]) -> dict[str, Any]:
    """Return the body of the search that answers a question.

    Args:
        by: a word of `QUESTIONS` or `RANKINGS`.
        top: groups or calls at most.
        window: filters of the calls.
    """
    body: dict[str, Any] = {
        "size": 0,
        "track_total_hits": True,
        "query": {"bool": {"filter": window}},
        "aggs": {
            "covered": {
                "filter": {"exists": {"field": DOCUMENT_VERSION}},
                "aggs": {"first": {"min": {"field": "@timestamp"}}},
            }
        },
    }
    if by in RANKINGS:
        order = {RANKINGS[by]: {"order": "desc", "missing": "_last"}}
        return body | {"size": top, "sort": [order], "_source": list(_OF_CALLS)}
    question = QUESTIONS[by]
    aggs: dict[str, Any] = {name: {"sum": {"field": field}} for name, field in _SUMS.items()}
    aggs["failures"] = {"filter": {"term": {"status": "failure"}}}
    aggs["cache_hits"] = {"filter": {"term": {"cache_hit": True}}}
    for name, field in _TIMES.items():
        aggs[name] = {"percentiles": {"field": field, "percents": _PERCENTS}}
    if question.label:
        aggs["label"] = {"terms": {"field": question.label, "size": 1}}
    if question.budget:
        newest = [{"@timestamp": "desc"}]
        fields = [f"{question.budget}_spend", f"{question.budget}_max_budget"]
        aggs["newest"] = {"top_hits": {"size": 1, "sort": newest, "_source": fields}}
    body["aggs"]["groups"] = _groups(question, top) | {"aggs": aggs}
    return body


def _groups(question: Question, top: int) -> dict[str, Any]:
    if question.field == "@timestamp":
        by_day = {"field": question.field, "calendar_interval": "day", "min_doc_count": 1}
        return {"date_histogram": by_day}
    terms = {
        "field": question.field,
        "size": top,
        "shard_size": max(_MIN_SHARD_SIZE, 20 * top),
        "order": {"total_cost": "desc"},
    }
    if not question.is_partial:
        terms["missing"] = NONE
    return {"terms": terms}


def read_answer(by: str, top: int, answer: Any) -> dict[str, Any]:
    """Return what `pipeline report --by … --json` prints.

    Args:
        by: as asked.
        top: as asked; of days the newest ones are kept.
        answer: of the search.
    """
    events = answer["hits"]["total"]["value"]
    covered = answer["aggregations"]["covered"]
    first = covered["first"]["value"]
    result = {
        "events": events,
        "by": by,
        "covered": {
            "events": covered["doc_count"],
            "share": covered["doc_count"] / events if events else 1.0,
            "since": None if first is None else iso(int(first)),
        },
    }
    if by in RANKINGS:
        return result | {"rows": [_call(hit["_source"]) for hit in answer["hits"]["hits"]]}
    groups = answer["aggregations"]["groups"]
    buckets = groups["buckets"]
    if QUESTIONS[by].field == "@timestamp":
        rows = [_row(by, bucket | {"key": (iso(bucket["key"]) or "")[:10]}) for bucket in buckets]
        return result | {"rows": rows[-top:], "others": sum(b["doc_count"] for b in buckets[:-top])}
    others = groups.get("sum_other_doc_count", 0)
    return result | {"rows": [_row(by, bucket) for bucket in buckets], "others": others}


def _row(by: str, bucket: Any) -> dict[str, Any]:
    row: dict[str, Any] = {by: bucket["key"]}
    if "label" in bucket:
        labels = bucket["label"]["buckets"]
        row["name"] = labels[0]["key"] if labels else None
    row |= {
        "events": bucket["doc_count"],
        "failures": bucket["failures"]["doc_count"],
        "cache_hits": bucket["cache_hits"]["doc_count"],
        "total_cost": bucket["total_cost"]["value"],
        "saved_cost": bucket["saved_cost"]["value"],
    }
    row |= {f"{n}_tokens": int(bucket[f"{n}_tokens"]["value"]) for n in
            ("prompt", "completion", "cached")}  # fmt: skip
    for name in _TIMES:
        for percent, value in bucket[name]["values"].items():
            row[f"{name}_p{float(percent):g}"] = value
    if "newest" in bucket:
        hits = bucket["newest"]["hits"]["hits"]
        source = hits[0]["_source"] if hits else {}
        budget = QUESTIONS[by].budget
        row["spend"], row["max_budget"] = (
            source.get(f"{budget}_{name}") for name in ("spend", "max_budget")
        )
    return row


def _call(source: Any) -> dict[str, Any]:
    row = {"at": iso(source.get("endTime"))}
    return row | {name: source.get(name) for name in _OF_CALLS[1:]}


def describe_coverage(result: dict[str, Any]) -> str:
    """Say which part of the events has derived fields; empty where all of them have."""
    covered, events = result["covered"], result["events"]
    if covered["events"] == events:
        return ""
    since = f", the first of {covered['since']}" if covered["since"] else ""
    return (
        f"{covered['events']} of {events} events ({covered['share']:.1%}) have derived fields"
        f"{since}: groups, tokens from the cache and durations are of those alone"
    )

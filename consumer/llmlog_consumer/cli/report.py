"""`pipeline report`: LiteLLM's three documented queries as tables."""

from __future__ import annotations

from typing import Any

from llmlog_common.errors import ElasticsearchError
from llmlog_common.settings import load
from llmlog_consumer.cli.options import ConfigOption, JsonOption, SinceOption, parse_when
from llmlog_consumer.cli.output import complain, say, write_json, write_table
from llmlog_consumer.elasticsearch.patience import PatientElastic
from llmlog_consumer.times import iso

COST_BY_MODEL: dict[str, Any] = {
    "models": {
        "terms": {"field": "model", "size": 1000, "order": {"total_cost": "desc"}},
        "aggs": {
            "total_cost": {"sum": {"field": "response_cost"}},
            "tokens": {"sum": {"field": "total_tokens"}},
            "avg_response_time": {"avg": {"field": "response_time"}},
            "failures": {"filter": {"term": {"status": "failure"}}},
        },
    },
    "avg_response_time": {"avg": {"field": "response_time"}},
    "percentiles": {"percentiles": {"field": "response_time", "percents": [50, 95, 99]}},
}
_TIMEOUT_SECONDS = 30.0
_ERROR_CHARACTERS = 80
_ERROR_FIELDS = ["endTime", "model", "error_str", "error_information", "litellm_call_id"]


def report(
    since: SinceOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show cost by model, response times and recent errors.

    Example: pipeline report --since 24h
    """
    settings = load(config=config)
    elastic = PatientElastic(settings, timeout=_TIMEOUT_SECONDS, announce=complain)
    since_ms = None if since is None else parse_when(since)
    window: list[Any] = []
    if since_ms is not None:
        window.append({"range": {"@timestamp": {"gte": since_ms}}})
    path = f"/{settings.index}/_search"
    refresh = elastic.request("POST", f"/{settings.index}/_refresh")
    if refresh.status == 404:  # noqa: PLR2004
        raise ElasticsearchError(f"no index behind {settings.index}: run `pipeline setup`")
    numbers = elastic.demand(
        "POST",
        path,
        body={
            "size": 0,
            "track_total_hits": True,
            "query": {"bool": {"filter": window}},
            "aggs": COST_BY_MODEL,
        },
    )
    errors = elastic.demand(
        "POST",
        path,
        body={
            "query": {"bool": {"filter": [{"term": {"status": "failure"}}, *window]}},
            "size": 10,
            "sort": [{"endTime": {"order": "desc"}}],
            "_source": _ERROR_FIELDS,
        },
    )
    result = build_report(numbers, errors)
    if as_json:
        write_json(result)
    else:
        _print(result)


def build_report(numbers: Any, errors: Any) -> dict[str, Any]:
    """Return what `pipeline report --json` prints, of the answers of both searches."""
    aggs = numbers["aggregations"]
    return {
        "events": numbers["hits"]["total"]["value"],
        "models": [
            {
                "model": bucket["key"],
                "events": bucket["doc_count"],
                "failures": bucket["failures"]["doc_count"],
                "total_cost": bucket["total_cost"]["value"],
                "total_tokens": int(bucket["tokens"]["value"]),
                "avg_response_time": bucket["avg_response_time"]["value"],
            }
            for bucket in aggs["models"]["buckets"]
        ],
        "response_time": {
            "avg": aggs["avg_response_time"]["value"],
            **{f"p{float(p):g}": v for p, v in aggs["percentiles"]["values"].items()},
        },
        "errors": [
            {
                "at": iso(source.get("endTime")),
                "model": source.get("model"),
                "error_class": (source.get("error_information") or {}).get("error_class"),
                "error": source.get("error_str"),
                "litellm_call_id": source.get("litellm_call_id"),
            }
            for source in (hit["_source"] for hit in errors["hits"]["hits"])
        ],
    }


def _print(result: dict[str, Any]) -> None:
    say(f"{result['events']} events\n\nCost by model (USD)")
    write_table(
        ("model", "events", "failures", "total_cost", "total_tokens", "avg_response_time"),
        [tuple(row.values()) for row in result["models"]],
    )
    say("\nResponse time (seconds)")
    write_table(tuple(result["response_time"]), [tuple(result["response_time"].values())])
    say("\nRecent errors")
    write_table(
        ("at", "model", "class", "error", "litellm_call_id"),
        [
            (
                e["at"],
                e["model"],
                e["error_class"],
                (e["error"] or "")[:_ERROR_CHARACTERS],
                e["litellm_call_id"],
            )
            for e in result["errors"]
        ],
    )

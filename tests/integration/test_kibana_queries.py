"""What Kibana's panels ask, and their filters, are answered rightly by a real Elasticsearch."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from contract.test_kibana import BUILDER
from support.pipeline import Pipeline

NOW = int(time.time() * 1000)
CALL = {
    "startTime": NOW, "status": "success", "model": "m", "team_alias": "t", "key_alias": "k",
    "end_user": "u", "response_cost": 1.5, "total_tokens": 10, "prompt_tokens": 6,
    "cached_tokens": 2, "response_time": 0.5, "tokens_per_second": 20.0, "overhead": 3.0,
    "stream": False, "cache_hit": False,
}  # fmt: skip
CALLS: dict[str, dict[str, Any]] = {
    "plain": CALL,
    "cached": {**CALL, "cache_hit": True},
    "streamed": {**CALL, "stream": True, "time_to_first_token": 0.1},
    "failed": {**CALL, "status": "failure", "error_class": "Timeout", "error_code": "408",
               "response_cost": 0.0},
}  # fmt: skip
FOUND = {
    json.dumps(BUILDER.FAILED): {"failed"},
    json.dumps(BUILDER.SUCCEEDED): {"plain", "cached", "streamed"},
    json.dumps(BUILDER.STREAMED): {"streamed"},
    json.dumps({"bool": {"filter": [BUILDER.SUCCEEDED, BUILDER.NOT_CACHED]}}): {
        "plain", "streamed"
    },
}  # fmt: skip
"""The calls that each filter leaves."""


def test_every_filter_and_every_panel_is_answered(pipeline: Pipeline) -> None:
    (index,) = [name for name in pipeline.get(f"/{pipeline.index}/_alias") if "-2" in name]
    lines = (
        json.dumps(line)
        for name, call in CALLS.items()
        for line in ({"create": {"_index": index, "_id": name}}, call)
    )
    answer = httpx.post(
        f"{pipeline.elasticsearch}/_bulk", params={"refresh": "true"},
        content="\n".join([*lines, ""]), headers={"content-type": "application/x-ndjson"},
    ).json()  # fmt: skip
    assert not answer["errors"], answer

    def search(body: dict[str, Any]) -> dict[str, Any]:
        found = pipeline.get(f"/{pipeline.index}/_search", **body)
        assert "error" not in found, (body, found)
        return found

    for query in BUILDER.filters():
        hits = search({"query": query, "size": 10})["hits"]["hits"]
        assert {hit["_id"] for hit in hits} == FOUND[json.dumps(query)], query
    for panel in BUILDER.PANELS:
        buckets = search(BUILDER.search_of(panel))["aggregations"]
        for level in (["time"] if panel.over_time else []) + (["split"] if panel.by else []):
            (buckets, *_) = buckets[level]["buckets"]  # each panel has at least one
        for number, metric in enumerate(panel.metrics):
            if metric.field:
                found = buckets[f"number{number}"]
                values = found["values"] if metric.percentile else {"value": found["value"]}
                assert all(value is not None for value in values.values()), panel.title
    total = search(BUILDER.search_of(BUILDER.PANELS[0]))["aggregations"]
    assert total["time"]["buckets"][0]["split"]["buckets"][0]["number0"]["value"] == 4.5

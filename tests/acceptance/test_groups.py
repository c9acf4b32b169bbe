"""Groups and periods on real servers: whatever is changed since, an event keeps its index."""

from __future__ import annotations

import json
from typing import Any

import httpx

from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from support.payloads import ndjson, payload
from support.pipeline import Pipeline

TEAMS = ("t-1", "t-2", "t-3")


def produce(pipeline: Pipeline, seeds: range) -> None:
    """Make events of the three teams in turn, of three days ago."""
    pipeline.run("produce", "-", input=ndjson(list(map(call, seeds))))


def call(seed: int) -> dict[str, Any]:
    began = payload(seed)["startTime"] - 3 * DAY_MS / 1000
    team = {"user_api_key_team_id": TEAMS[seed % 3]}
    return payload(seed, startTime=began, endTime=began + 0.5, metadata=team)


def by_group(pipeline: Pipeline) -> dict[str, int]:
    """Return the documents of each index behind the alias, by the end of its name."""
    pipeline.refresh()
    body = {"size": 0, "aggs": {"by": {"terms": {"field": "_index"}}}}
    answer = httpx.post(f"{pipeline.elasticsearch}/{pipeline.index}/_search", json=body).json()
    counts: dict[str, int] = {}
    for bucket in answer["aggregations"]["by"]["buckets"]:
        _, _, group = bucket["key"].removeprefix(f"{pipeline.index}-").partition("-")
        counts[group] = counts.get(group, 0) + bucket["doc_count"]
    return counts


def verify(pipeline: Pipeline) -> dict[str, int]:
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    return {name: proof[name] for name in ("documents", "doubled_count", "lost_count")}


def put(pipeline: Pipeline, path: str, body: object = None) -> None:
    httpx.put(f"{pipeline.elasticsearch}{path}", json=body, timeout=60).raise_for_status()


def test_a_changed_map_doubles_nothing_on_redelivery_or_replay(pipeline: Pipeline) -> None:
    environment = pipeline.environment
    began_ms = int(payload(0)["startTime"] * 1000) - 3 * DAY_MS
    pay = daily_index(pipeline.index, began_ms, "-pay")
    environment["LLMLOG_INDEX_WAIT"] = "2 seconds"
    environment["LLMLOG_INDEX_GROUPS"] = "t-1=pay,t-2=legal"
    environment["LLMLOG_GROUP_MAX_EVENT_AGE"] = "legal=3650 days"
    pipeline.run("setup")
    put(pipeline, f"/{pay}")
    put(pipeline, f"/{pay}/_settings", {"index.blocks.write": True})
    produce(pipeline, range(30))
    pipeline.run("consume", "--until-end")
    counts = by_group(pipeline)
    assert counts == {"": 10, "legal": 10}  # and ten letters
    # Another map, and another period: in the gateway, in the consumer, for the replay.
    environment["LLMLOG_INDEX_GROUPS"] = "t-1=legal,t-3=other"
    environment["LLMLOG_INDEX_PERIOD"] = "month"
    pipeline.run("setup")
    pipeline.run("offsets", "reset", "--to", "earliest", "--yes")
    pipeline.run("consume", "--until-end")
    assert by_group(pipeline) == counts
    put(pipeline, f"/{pay}/_settings", {"index.blocks.write": None})
    pipeline.run("dlq", "replay", "--yes")
    assert by_group(pipeline) == {"": 10, "pay": 10, "legal": 10}
    assert verify(pipeline) == {"documents": 30, "doubled_count": 0, "lost_count": 0}
    # What is made from now on goes by the new map.
    produce(pipeline, range(30, 60))
    pipeline.run("consume", "--until-end")
    assert by_group(pipeline) == {"": 20, "pay": 10, "legal": 20, "other": 10}
    assert verify(pipeline) == {"documents": 60, "doubled_count": 0, "lost_count": 0}
    assert json.loads(pipeline.run("report", "--json").stdout)["events"] == 60
    found = json.loads(pipeline.run("trace", call(1)["litellm_call_id"], "--json").stdout)
    assert "legal" in json.dumps(found)
    template = pipeline.get(f"/_index_template/{pipeline.index}@other")["index_templates"][0]
    assert template["index_template"]["index_patterns"] == [f"{pipeline.index}-2*-other"]
    (other,) = pipeline.get(f"/{pipeline.index}-2*-other/_alias").values()
    assert pipeline.index in other["aliases"]

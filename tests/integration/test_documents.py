"""Documents in a real Elasticsearch: sums, texts, other names, foreign values, two generations."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llmlog_consumer.checks import breakdown
from llmlog_consumer.provision import templates
from llmlog_consumer.provision.merge import missing_fields
from llmlog_consumer.provision.profiles import PROFILES
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.jars import ELASTICSEARCH_VERSIONS
from llmlog_local.ports import free_ports
from llmlog_producer.testing import document_of
from llmlog_schemas.convert import to_event
from llmlog_schemas.derived.aliases import ALIASES
from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.kinds import Kind
from support.calls import made_calls
from support.questions import QUESTIONS
from support.rich_payload import RIGHT_VALUES, START, rich_payload

MAPPINGS = templates.index_template("logs")["template"]["mappings"]
HOSTILE = 10_000


class Node:
    """One Elasticsearch, and what is asked of it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Send what has to work; return the answer."""
        answer = self.http.request(method, path, json=body or None)
        assert answer.is_success, answer.text
        return answer.json()

    def index(self, name: str, documents: list[dict[str, Any]]) -> list[Any]:
        """Create documents as the consumer does; return the refusals."""
        lines = []
        for number, document in enumerate(documents):
            body = {key: value for key, value in document.items() if key != "event_id"}
            lines += [json.dumps({"create": {"_index": name, "_id": f"{name}-{number}"}})]
            lines += [json.dumps({"indexed_at": 1_767_225_700_000, **body})]
        answer = self.http.post(
            "/_bulk?refresh=true",
            content="\n".join(lines) + "\n",
            headers={"content-type": "application/x-ndjson"},
        ).json()
        return [one["create"] for one in answer["items"] if "error" in one["create"]]

    def count(self, name: str, **query: Any) -> int:
        """Return how many documents a query finds."""
        return int(self.call("POST", f"/{name}/_count", query=query)["count"])


@pytest.fixture(scope="module", params=ELASTICSEARCH_VERSIONS)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    (port,) = free_ports(1)
    server = ElasticsearchServer(tmp_path_factory.mktemp("node"), port, version=request.param)
    with server, httpx.Client(base_url=server.url, timeout=120) as http:
        yield Node(http)


def test_documents_answer_by_value_by_text_and_by_other_names(node: Node) -> None:
    node.call("PUT", "/new", mappings=MAPPINGS, aliases={"logs": {}})
    rich = document_of(rich_payload())
    assert not node.index("new", [rich] * 3)
    numbers_are_added_up(node)
    words_are_found(node)
    profiles_find_words_and_phrases(node)
    other_names_answer(node)
    cases_are_right(node)
    questions_are_answered(node)
    groups_are_reported(node)
    hostile_payloads_make_no_refusal(node)
    two_generations_answer_as_one(node)


def numbers_are_added_up(node: Node) -> None:
    names = [n for n, f in DERIVED.items() if f.kind in (Kind.COUNT, Kind.MEASURE)]
    sums = {name: {"sum": {"field": name}} for name in names}
    found = node.call("POST", "/new/_search", size=0, aggs=sums)["aggregations"]
    assert {name: found[name]["value"] for name in names} == {
        name: pytest.approx(3 * RIGHT_VALUES[name]) for name in names
    }
    for name, field in DERIVED.items():
        value = RIGHT_VALUES[name]
        if field.kind in (Kind.COUNT, Kind.MEASURE):
            assert node.count("new", range={name: {"gte": value, "lte": value}}) == 3, name
        else:
            value = value[-1] if isinstance(value, list) else value
            assert node.count("new", term={name: value}) == 3, name


def words_are_found(node: Node) -> None:
    said = [
        ("German", "Bitte übersetze die Straßenverkehrsordnung für Fußgänger", "Fußgänger"),
        ("Chinese", "请解释一下数据库的索引是如何工作的", "数据库的索引"),
        ("code", "def parse_config(path: str) -> dict: return toml.load(path)", "parse_config"),
    ]
    node.call("PUT", "/words", mappings=MAPPINGS)
    long_ago = [{"role": "user", "content": f"oldest {'word ' * 9000}"}]
    documents = []
    for language, text, _ in said:
        asked = [{"role": "system", "content": language}, *long_ago]
        asked.append({"role": "user", "content": text})
        answer = {"choices": [{"message": {"content": text}}]}
        documents.append(document_of({"messages": asked, "response": answer}))
    assert not node.index("words", documents)
    for language, _, wanted in said:
        for field in ("prompt_text", "messages_text", "response_text"):
            found = node.call("POST", "/words/_search", query={"match_phrase": {field: wanted}})
            hits = found["hits"]["hits"]
            assert len(hits) == 1, (field, wanted)
            assert hits[0]["_source"]["messages"][0]["content"] == language
    # Of a long chat the newest question is found, and the oldest turn is cut.
    assert node.count("words", match={"prompt_text": "oldest"}) == 3
    assert all(len(one["messages_text"]) <= 32_769 for one in documents)


def profiles_find_words_and_phrases(node: Node) -> None:
    document = document_of({"messages": [{"role": "user", "content": "the quick brown fox"}]})
    for name, profile in PROFILES.items():
        # The codec itself wants a native library, which an Elasticsearch of jars has not.
        codec = {"best_compression": "legacy_best_compression"}.get(profile.codec, profile.codec)
        settings = templates.default_settings(
            "a", lifecycle=False, profile=profile._replace(codec=codec)
        )
        node.call(
            "PUT", f"/{name}",
            settings=settings["template"]["settings"],
            mappings=templates.index_template("a", profile)["template"]["mappings"],
        )  # fmt: skip
        assert not node.index(name, [document])
        assert node.count(name, match={"prompt_text": "fox"}) == 1, name
        if profile.text["index_options"] == "positions":
            assert node.count(name, match_phrase={"prompt_text": "quick brown"}) == 1, name
            assert node.count(name, match_phrase={"prompt_text": "brown quick"}) == 0, name
        else:
            query = {"match_phrase": {"prompt_text": "quick brown"}}
            refused = node.http.post(f"/{name}/_search", json={"query": query})
            assert refused.status_code == 400, name
            assert "position" in refused.text


def other_names_answer(node: Node) -> None:
    for alias, field in ALIASES.items():
        there = node.count("new", exists={"field": field})
        assert node.count("new", exists={"field": alias}) == there, alias
    aggs = {"a": {"terms": {"field": "gen_ai.request.model"}},
            "b": {"sum": {"field": "gen_ai.usage.input_tokens"}}}  # fmt: skip
    found = node.call("POST", "/new/_search", size=1, aggs=aggs)
    assert found["aggregations"]["a"]["buckets"] == [{"key": "gpt-4o", "doc_count": 3}]
    assert found["aggregations"]["b"]["value"] == 300
    assert "gen_ai" not in found["hits"]["hits"][0]["_source"]


def cases_are_right(node: Node) -> None:
    payload = {
        "litellm_call_id": "case03-1", "status": "success", "model": "gpt-4o-mini", "stream": True,
        "startTime": START, "endTime": START + 6, "completionStartTime": START + 0.5,
        "response_time": 0.5, "response_cost": 3e-05, "completion_tokens": 20,
        "cost_breakdown": {"input_cost": 1e-05, "output_cost": 2e-05, "total_cost": 3e-05},
        "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 64},
                                      "completion_tokens_details": {"reasoning_tokens": 8}}},
        "hidden_params": {"litellm_overhead_time_ms": 12.5},
    }  # fmt: skip
    node.call("PUT", "/case", mappings=MAPPINGS)
    assert not node.index("case", [document_of(payload)])
    wanted = {"cached_tokens": 64, "reasoning_tokens": 8, "input_cost": 1e-05, "overhead": 0.0125,
              "duration": 6.0}  # fmt: skip
    aggs = {name: {"sum": {"field": name}} for name in wanted}
    found = node.call("POST", "/case/_search", size=0, aggs=aggs)["aggregations"]
    assert {name: one["value"] for name, one in found.items()} == wanted


def questions_are_answered(node: Node) -> None:
    calls = made_calls()
    node.call("PUT", "/calls", mappings=MAPPINGS)
    documents = [json.loads(to_event(call)["document"]) for call in calls]
    assert not node.index("calls", documents)
    assert len(QUESTIONS) == 30
    for question in QUESTIONS:
        answer = question.read(node.call("POST", "/calls/_search", **question.body))
        right = question.right(calls)
        assert right, question.text
        assert answer == pytest.approx(right), question.text


def groups_are_reported(node: Node) -> None:
    calls = made_calls()
    for by in (*breakdown.QUESTIONS, *breakdown.RANKINGS):
        body = breakdown.query_of(by, 100, [])
        found = breakdown.read_answer(by, 100, node.call("POST", "/calls/_search", **body))
        assert (found["events"], found["covered"]["share"]) == (len(calls), 1.0)
        assert found["rows"], by
    body = breakdown.query_of("team", 3, [])
    found = breakdown.read_answer("team", 3, node.call("POST", "/calls/_search", **body))
    assert len(found["rows"]) == 3
    assert found["others"] == len(calls) * 5 // 8
    row = found["rows"][0]
    own = [c for c in calls if c["metadata"]["user_api_key_team_id"] == row["team"]]
    assert row["total_cost"] == pytest.approx(sum(c["response_cost"] for c in own))
    assert row["name"] == own[0]["metadata"]["user_api_key_team_alias"]
    assert row["spend"] == own[-1]["metadata"]["user_api_key_team_spend"]
    durations = sorted(c["endTime"] - c["startTime"] for c in own)
    assert row["duration_p50"] == pytest.approx(durations[len(durations) // 2], rel=0.1)


def hostile_payloads_make_no_refusal(node: Node) -> None:
    pick = random.Random(7)
    strange = [None, True, -1, 2**63, 1e300, "", "x" * 9_000, "NaN", [], [[]], {}, {"a": [1]},
               [{"name": 5}], "<redacted>", "\0", "\ud800"]  # fmt: skip
    paths = sorted({path for field in DERIVED.values() for path in field.paths})
    documents = []
    for number in range(HOSTILE):
        payload = rich_payload() if number % 2 else {"litellm_call_id": str(number)}
        for path in pick.sample(paths, 4):
            node_of = payload
            *above, last = path.replace("[]", "").replace("{}", "").split(".")
            for key in above:
                inside = node_of.get(key)
                node_of[key] = inside if isinstance(inside, dict) else {}
                node_of = node_of[key]
            node_of[last] = pick.choice(strange)
        documents.append(json.loads(to_event(payload, captured_at=START)["document"]))
    node.call("PUT", "/hostile", mappings=MAPPINGS, settings={"number_of_replicas": 0})
    for start in range(0, HOSTILE, 2500):
        part = documents[start : start + 2500]
        name = f"hostile-{start}"
        node.call("PUT", f"/{name}", mappings=MAPPINGS)
        assert node.index(name, part) == []


def two_generations_answer_as_one(node: Node) -> None:
    """An old index takes both kinds of documents, and so does a new one; both names answer."""
    derived = {*DERIVED, "tool_text", "document_version", "indexed_at"}
    old_mapping = {
        "dynamic": False,
        "_meta": {"llmlog_version": 1},
        "properties": {
            name: field
            for name, field in MAPPINGS["properties"].items()
            if name not in derived and "properties" not in field and field.get("type") != "alias"
        },
    }
    new = document_of(rich_payload() | {"messages": "newly asked"})
    old = {name: value for name, value in new.items() if name not in derived}
    old["messages_text"] = "asked long ago"
    node.call("PUT", "/old", mappings=old_mapping, aliases={"logs": {}})
    assert not node.index("old", [old])
    added = missing_fields(old_mapping["properties"], MAPPINGS["properties"])
    node.call("PUT", "/old/_mapping", _meta=MAPPINGS["_meta"], properties=added)
    mixed = [old | {"litellm_call_id": "o"}, new | {"litellm_call_id": "n"}]
    node.call("DELETE", "/new")
    node.call("PUT", "/new", mappings=MAPPINGS, aliases={"logs": {}})
    assert not node.index("new", mixed)
    node.call("POST", "/old/_doc?refresh=true", **{k: v for k, v in new.items() if k != "event_id"})
    for field in ("messages_text", "prompt_text"):
        assert node.count("logs", match={field: "asked"}) == 4, field
        assert node.count("logs", match_phrase={field: "long ago"}) == 2, field
    total = node.call("POST", "/logs/_search", size=0,
                      aggs={"cost": {"sum": {"field": "output_cost"}}})  # fmt: skip
    assert total["aggregations"]["cost"]["value"] == pytest.approx(2 * RIGHT_VALUES["output_cost"])
    assert node.count("logs", exists={"field": "document_version"}) == 2

"""The words that Elasticsearch's answers are told apart by, provoked out of real servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from llmlog_consumer.elasticsearch.error_rules import (
    Disposition,
    Verdict,
    judge_item,
    judge_request,
)
from llmlog_consumer.provision import templates
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.jars import ELASTICSEARCH_VERSIONS
from llmlog_local.ports import free_ports

_numbers = count(1)
PRESSURE = 512 * 1024


@dataclass
class Node:
    """One running Elasticsearch, and what this test asks of it."""

    http: httpx.Client

    def put(self, path: str, **json_body: Any) -> dict[str, Any]:
        """Send what has to work."""
        answer = self.http.put(path, json=json_body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def index(self, *, settings: dict[str, Any] | None = None, **properties: Any) -> str:
        """Create an index of its own, with these fields."""
        name = f"i{next(_numbers)}"
        self.put(f"/{name}", settings=settings or {}, mappings={"properties": properties})
        return name

    @contextmanager
    def cluster_setting(self, name: str, value: Any) -> Iterator[None]:
        """Set something for the length of the block."""
        self.put("/_cluster/settings", persistent={name: value})
        try:
            yield
        finally:
            self.put("/_cluster/settings", persistent={name: None})

    def bulk(self, index: str, *documents: Any, verb: str = "create", **action: Any) -> Any:
        """Send documents as the worker does; return the whole answer."""
        lines = []
        for number, document in enumerate(documents):
            where = {"_index": index, "_id": str(number), **action}
            lines += [json.dumps({verb: where}), json.dumps(document)]
        return self.http.post(
            "/_bulk",
            content="\n".join(lines) + "\n",
            headers={"content-type": "application/x-ndjson"},
        )

    def item(self, index: str, document: Any, **options: Any) -> dict[str, Any]:
        """Send one document; return what the answer says of it."""
        answer = self.bulk(index, document, **options)
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()["items"]
        return dict(next(iter(item.values())))


@pytest.fixture(scope="module", params=ELASTICSEARCH_VERSIONS)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node with one write thread, a queue of one, and little room for requests."""
    (port,) = free_ports(1)
    server = ElasticsearchServer(
        tmp_path_factory.mktemp("node"),
        port,
        version=request.param,
        settings={
            "node.processors": "1",
            "thread_pool.write.queue_size": "1",
            "indexing_pressure.memory.limit": f"{PRESSURE}b",
        },
    )
    with server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield Node(http)


def verdict_of(item: dict[str, Any], error_type: str) -> Verdict:
    """Return the verdict on an item that has to have failed with this type."""
    assert item["error"]["type"] == error_type, item
    return judge_item(item["status"], item["error"])


def test_mapping_conflict_is_the_documents_fault(node: Node) -> None:
    item = node.item(node.index(number={"type": "long"}), {"number": "seven"})
    assert verdict_of(item, "document_parsing_exception").disposition is Disposition.PERMANENT


def test_strict_mapping_is_the_documents_fault(node: Node) -> None:
    name = f"i{next(_numbers)}"
    node.put(f"/{name}", mappings={"dynamic": "strict"})
    item = node.item(name, {"new": 1})
    assert verdict_of(item, "strict_dynamic_mapping_exception").disposition is Disposition.PERMANENT


def test_immense_term_is_the_documents_fault(node: Node) -> None:
    item = node.item(node.index(word={"type": "keyword"}), {"word": "x" * 33_000})
    verdict = judge_item(item["status"], item["error"])
    assert "immense term" in json.dumps(item["error"])
    assert verdict.disposition is Disposition.PERMANENT
    assert not verdict.unclassified


def test_field_limit_is_the_documents_fault(node: Node) -> None:
    index = node.index(settings={"index.mapping.total_fields.limit": 5})
    item = node.item(index, {f"field{number}": number for number in range(20)})
    verdict = judge_item(item["status"], item["error"])
    assert "Limit of total fields" in json.dumps(item["error"])
    assert verdict.disposition is Disposition.PERMANENT
    assert not verdict.unclassified


def test_changed_mapper_is_the_documents_fault(node: Node) -> None:
    """An object where the mapping has a value, and the other way round."""
    index = node.index(thing={"properties": {"a": {"type": "long"}}})
    verdict = verdict_of(node.item(index, {"thing": 7}), "document_parsing_exception")
    assert verdict.disposition is Disposition.PERMANENT


def test_id_over_512_bytes_has_the_request_halved_down_to_it(node: Node) -> None:
    answer = node.bulk(node.index(), {}, _id="x" * 513)
    assert answer.status_code == 400
    assert "must be no longer than 512 bytes" in answer.text
    assert judge_request(400, answer.json()["error"]).disposition is Disposition.BISECT


def test_closed_index_is_configuration(node: Node) -> None:
    index = node.index()
    node.http.post(f"/{index}/_close").raise_for_status()
    verdict = verdict_of(node.item(index, {}), "index_closed_exception")
    assert verdict.disposition is Disposition.CONFIGURATION
    assert "open" in verdict.advice


def test_flood_stage_block_is_waited_for(node: Node) -> None:
    index = node.index()
    node.put(f"/{index}/_settings", **{"index.blocks.read_only_allow_delete": True})
    item = node.item(index, {})
    assert "flood-stage" in item["error"]["reason"]
    verdict = verdict_of(item, "cluster_block_exception")
    assert verdict.disposition is Disposition.RETRY
    assert "disk" in verdict.advice


@pytest.mark.parametrize("block", ["write", "read_only"])
def test_somebodys_block_is_configuration(node: Node, block: str) -> None:
    index = node.index()
    node.put(f"/{index}/_settings", **{f"index.blocks.{block}": True})
    verdict = verdict_of(node.item(index, {}), "cluster_block_exception")
    assert verdict.disposition is Disposition.CONFIGURATION
    assert "block" in verdict.advice


def test_shard_limit_is_configuration(node: Node) -> None:
    node.index()
    with node.cluster_setting("cluster.max_shards_per_node", 1):
        item = node.item(f"i{next(_numbers)}", {})
    verdict = verdict_of(item, "validation_exception")
    assert verdict.disposition is Disposition.CONFIGURATION
    assert "max_shards_per_node" in verdict.advice


def test_missing_pipeline_is_configuration(node: Node) -> None:
    item = node.item(node.index(), {}, pipeline="no-such")
    verdict = verdict_of(item, "illegal_argument_exception")
    assert verdict.disposition is Disposition.CONFIGURATION
    assert "pipeline" in verdict.advice


def test_missing_index_without_auto_create_is_configuration(node: Node) -> None:
    with node.cluster_setting("action.auto_create_index", "false"):
        item = node.item(f"i{next(_numbers)}", {})
    verdict = verdict_of(item, "index_not_found_exception")
    assert verdict.disposition is Disposition.CONFIGURATION


def test_our_template_lets_no_document_make_an_index(node: Node) -> None:
    alias = f"a{next(_numbers)}"
    index = f"{alias}-2026.01.31"
    node.put(
        f"/_component_template/{templates.settings_name(alias)}",
        **templates.default_settings(alias, lifecycle=False),
    )
    node.put(f"/_index_template/{alias}", **templates.index_template(alias))
    assert node.item(index, {})["error"]["type"] == "index_not_found_exception"
    node.put(f"/{index}")
    assert node.item(index, {})["status"] == 201
    node.http.delete(f"/{index}")
    assert verdict_of(node.item(index, {}), "index_not_found_exception")
    assert node.http.head(f"/{index}").status_code == 404


def test_alias_without_write_index_is_configuration(node: Node) -> None:
    alias = f"a{next(_numbers)}"
    for index in (node.index(), node.index()):
        node.put(f"/{index}/_alias/{alias}")
    verdict = verdict_of(node.item(alias, {}), "illegal_argument_exception")
    assert verdict.disposition is Disposition.CONFIGURATION


def test_alias_name_taken_by_a_plain_index_is_configuration(node: Node) -> None:
    alias = f"a{next(_numbers)}"
    node.put(
        f"/_index_template/t-{alias}",
        index_patterns=[f"day-{alias}*"],
        template={"aliases": {alias: {}}},
    )
    node.put(f"/{alias}")
    verdict = verdict_of(node.item(f"day-{alias}", {}), "invalid_alias_name_exception")
    assert verdict.disposition is Disposition.CONFIGURATION


def test_version_conflict_is_a_duplicate(node: Node) -> None:
    index = node.index()
    assert judge_item(node.item(index, {})["status"], None).disposition is Disposition.INDEXED
    verdict = verdict_of(node.item(index, {}), "version_conflict_engine_exception")
    assert verdict.disposition is Disposition.DUPLICATE


def test_data_stream_is_configuration(node: Node) -> None:
    """Data streams are a module that is not at hand; their words are their own alone."""
    error = {
        "type": "illegal_argument_exception",
        "reason": "only write ops with an op_type of create are allowed in data streams",
    }
    assert judge_item(400, error).disposition is Disposition.CONFIGURATION
    version = node.http.get("/").json()["version"]["number"]
    assert version in ELASTICSEARCH_VERSIONS


def _at_once(ask: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, range(200)))


def test_full_write_queue_is_pushed_back(node: Node) -> None:
    index = node.index()

    def ask(number: int) -> Any:
        return node.bulk(index, *({"number": n, "text": "x" * 40} for n in range(20)))

    seen = set()
    for answer in _at_once(ask):
        errors = [answer.json()] if answer.status_code == 429 else answer.json()["items"]
        for found in errors:
            body = found if "error" in found else next(iter(found.values()))
            error = body.get("error")
            if error is None or error["type"] != "es_rejected_execution_exception":
                continue
            of = judge_request if answer.status_code == 429 else judge_item
            verdict = of(429, error)
            assert body["status"] == 429
            assert verdict.disposition is Disposition.RETRY, error
            assert verdict.pushed_back
            seen.add(error["reason"].split(" of ")[0].split("[")[0])
    assert seen, "the queue of one never was full"


def test_request_over_the_indexing_pressure_limit_is_halved(node: Node) -> None:
    """8.x counts a request as a whole; 9.x piece by piece, and cannot tell it from a busy node."""
    answer = node.bulk(node.index(), *({"text": "x" * 1000} for _ in range(PRESSURE // 500)))
    if answer.status_code == 429:
        verdicts = [judge_request(429, answer.json()["error"])]
    else:
        items = [item["create"] for item in answer.json()["items"]]
        refused = [item for item in items if item["status"] == 429]
        verdicts = [verdict_of(item, "es_rejected_execution_exception") for item in refused]
    assert verdicts
    for verdict in verdicts:
        assert verdict.disposition is Disposition.BISECT or verdict.pushed_back, answer.text
    one = node.bulk(node.index(), {"text": "x" * PRESSURE})
    assert one.status_code == 429, "one document over the limit can never pass"
    assert judge_request(429, one.json()["error"]).disposition is Disposition.BISECT, one.text


def test_circuit_breaker_is_pushed_back(node: Node) -> None:
    index = node.index()
    with node.cluster_setting("indices.breaker.total.limit", "1%"):
        answer = node.bulk(index, {"a": 1})
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert error["type"] == "circuit_breaking_exception"
    verdict = judge_request(answer.status_code, error)
    assert verdict.disposition is Disposition.RETRY
    assert verdict.pushed_back


@pytest.mark.parametrize(
    "words",
    [
        "no write index is defined for alias [x]",
        "pipeline with id [x] does not exist",
        "only write ops with an op_type of create are allowed in data streams",
        "Validation Failed: 1: this action would add [2] shards, but this cluster currently has "
        "[1000]/[1000] maximum normal shards open;",
        "index [x] blocked by: [FORBIDDEN/8/index write (api)];",
        "blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];",
    ],
)
def test_a_prompt_that_quotes_a_configuration_error_changes_nothing(node: Node, words: str) -> None:
    index = node.index(number={"type": "long"}, word={"type": "keyword"}, when={"type": "date"})
    for document in ({"number": words}, {"word": (words * 1000)[:33_000]}, {"when": words}):
        item = node.item(index, document)
        verdict = judge_item(item["status"], item["error"])
        assert verdict.disposition is Disposition.PERMANENT, item
        assert not verdict.unclassified, item

"""The gateway's side through real LiteLLM, in both versions: a proxy, and SDK scripts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acceptance.gateway.proxy import ROOT, VERSIONS, Proxy, offline, python_of
from acceptance.gateway.scripts import SCRIPTS
from llmlog_local.ports import free_ports
from support.judge import judge, read_all
from support.pipeline import SLOW, Pipeline, base_environment
from support.shared_servers import Addresses

TEMPLATE = ROOT / "schemas/llmlog_schemas/elasticsearch/index_template.json"
MAPPED = json.loads(TEMPLATE.read_text())["template"]["mappings"]["properties"]
TIMES = ("startTime", "endTime", "completionStartTime")
OF_THE_GUIDE = ("model", "response_cost", "total_tokens", "prompt_tokens", "completion_tokens",
                "response_time", "status", "messages", "response", "metadata")  # fmt: skip
SEARCH_TEXTS = ("messages_text", "response_text")
FAILING = ("rate-limited", "context-too-long", "server-error", "filtered", "unreachable",
           "chat-with-fallback", "retried")  # fmt: skip


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """A version of LiteLLM."""
    return request.param


@dataclass
class Scripts:
    """The scripts of one LiteLLM version, running; to ask for one is to wait for its end."""

    pipeline: Pipeline
    running: dict[str, Future[subprocess.CompletedProcess[str]]]
    journals: Path
    left: dict[str, int] = field(default_factory=dict)
    """Events that were left in a script's journal; known once all are consumed."""

    def ended(self, name: str) -> subprocess.CompletedProcess[str]:
        """Return how a script ended."""
        return self.running[name].result()

    def lines(self, name: str) -> list[str]:
        """Return the log lines of ours that a script wrote."""
        return [line for line in self.ended(name).stderr.splitlines() if "llmlog" in line]

    def output(self, name: str) -> dict[str, Any]:
        """Return what a script printed at its end."""
        return json.loads(self.ended(name).stdout.splitlines()[-1])


@pytest.fixture(scope="module", autouse=True)
def scripts(
    version: str, servers: Addresses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scripts]:
    """Start every script of `gateway.scripts`; they run while the proxy is tested."""
    name = f"scripts-{version}"
    folder = tmp_path_factory.mktemp(name)
    names = {f"LLMLOG_{setting}": name for setting in ("TOPIC", "INDEX", "GROUP")}
    environment = base_environment({**servers.environment, **names, "LLMLOG_PARTITIONS": "4"})
    pipeline = Pipeline(environment, folder, servers.elasticsearch_url, name, name, name)
    pipeline.run("setup")
    journals = folder / "journals"  # of each script: none sends what another has left
    (closed,) = free_ports(1)
    special = {
        "wrong settings": {"LLMLOG_BOGUS": "1"},
        "no Kafka": {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}",
            "LLMLOG_JOURNAL": "off",
        },
    }

    def run(name: str, source: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python_of(version), "-c", source],
            env=offline(environment | {"LLMLOG_JOURNAL_DIR": str(journals / name)}
                        | special.get(name, {})),
            cwd=folder, text=True, capture_output=True, timeout=60 * SLOW, check=False,
        )  # fmt: skip

    with ThreadPoolExecutor(3) as pool:
        running = {name: pool.submit(run, name, source) for name, source in SCRIPTS.items()}
        yield Scripts(pipeline, running, journals)


def send_journal(pipeline: Pipeline, folder: Path) -> int:
    """Send what a process has left in its journal; return how many events that are.

    There are some where the machine is so busy that Kafka has not answered before the end.
    """
    done = subprocess.run(
        [sys.executable, "-m", "llmlog_producer", "journal", "send"],
        env=pipeline.environment | {"LLMLOG_JOURNAL_DIR": str(folder)},
        text=True, capture_output=True, timeout=60 * SLOW, check=True,
    )  # fmt: skip
    return int(re.search(r"(\d+) events sent", done.stderr)[1])


@pytest.fixture(scope="module")
def consumed(scripts: Scripts) -> Scripts:
    """Every script at its end, and its events in Elasticsearch."""
    wait(scripts.running.values())
    for name in SCRIPTS:
        scripts.left[name] = send_journal(scripts.pipeline, scripts.journals / name)
    scripts.pipeline.run("consume", "--until-end")
    return scripts


def expected(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the document that a recorded payload has to become, by rules of this test's own."""
    document: dict[str, Any] = {}
    for name, value in payload.items():
        if name == "model_map_information":
            continue
        if name not in MAPPED:
            document.setdefault("extra", {})[name] = value
        elif value is not None:
            document[name] = int(value * 1000) if name in TIMES else value
    return {**document, "@timestamp": document["startTime"]}


def identity(of: dict[str, Any]) -> tuple[str, str, str, int]:
    """Tell calls, and the legs of one call, apart; the same for an event that fired twice."""
    return of["litellm_call_id"], of["call_type"], of["status"], of["startTime"]


def send_requests(proxy: Proxy) -> Counter[tuple[str, int]]:
    """Send every kind of request; return which model's requests were answered with what."""
    answers: Counter[tuple[str, int]] = Counter()

    def post(path: str, body: dict[str, Any], **options: Any) -> str:
        answer = proxy.client.post(path, json=body, **options)
        answers[body["model"], answer.status_code] += 1
        return answer.text

    def chat(model: str, /, options: dict[str, Any] | None = None, **fields: Any) -> str:
        messages = [{"role": "user", "content": f"What does {model} say? Grüße, \u2028 and \0."}]
        body = {"model": model, "messages": messages, **fields}
        return post("/v1/chat/completions", body, **(options or {}))

    for model in ("chat", "chat-large", "tools", *FAILING, "no-such-model"):
        chat(model)
    post("/v1/embeddings", {"model": "embeddings", "input": ["where", "do logs go"]})
    chat("chat", {"headers": {"Authorization": "Bearer sk-of-another-user"}})
    assert "data: [DONE]" in chat("chat", stream=True, stream_options={"include_usage": True})
    chat("chat", user="eve", metadata={"tags": ["night"], "deep": {"a": [1, {"b": None}]}})
    return answers


def test_every_call_of_a_proxy_is_one_document_that_equals_its_payload(
    version: str, pipeline: Pipeline
) -> None:
    journal = pipeline.folder / "journal"
    environment = pipeline.environment | {"LLMLOG_JOURNAL_DIR": str(journal)}
    proxy = Proxy(version, pipeline.folder, environment)
    try:
        proxy.wait_ready()
        answers = send_requests(proxy)
        # Nothing is flushed and nothing waited for: what was handed out is on its way already.
        proxy.stop()
    finally:
        proxy.clean_up()
    left = send_journal(pipeline, journal)
    for model in ("chat-large", "tools", "embeddings", "chat-with-fallback"):
        assert answers[model, 200] == 1, answers
    assert answers["chat", 200] == 3
    for model, status in (("rate-limited", 429), ("context-too-long", 400), ("server-error", 500)):
        assert answers[model, status] == 1, answers
    payloads = {identity(expected(payload)): payload for payload in proxy.recorded()}
    kafka = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    records = list(read_all(kafka, pipeline.topic))
    assert len({record.key() for record in records}) == len(payloads), proxy.log()
    # What was on its way at the end is in the journal as well, and is sent twice.
    assert left or len(records) == len(proxy.recorded()), proxy.log()

    pipeline.run("consume", "--workers", "2", "--until-end")
    documents = {identity(document): document for document in pipeline.documents().values()}
    assert pipeline.count() == len(documents) == len(payloads)
    for key, payload in payloads.items():
        document = {n: v for n, v in documents[key].items() if n not in SEARCH_TEXTS}
        assert document == expected(payload)
    result = judge(kafka, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    result.assert_exact()
    assert not result.dead

    found = Counter((d.get("model_group"), d["status"]) for d in documents.values())
    for model in FAILING:
        assert found[model, "failure"] >= 1, found
    for model in ("chat-large", "tools", "embeddings"):
        assert found[model, "success"] == 1, found
    assert found["chat", "success"] == 4, "chat, streaming, metadata and the fallback's second leg"
    large = next(d for d in documents.values() if d.get("model_group") == "chat-large")
    assert set(OF_THE_GUIDE) <= set(large)
    assert large["response_cost"] > 0
    assert large["total_tokens"] == large["prompt_tokens"] + large["completion_tokens"] > 0
    assert "model_map_information" not in large
    asked = next(d for d in documents.values() if d.get("end_user") == "eve")
    assert asked["metadata"]["requester_metadata"]["deep"] == {"a": [1, {"b": None}]}
    assert "What does chat say?" in asked["messages_text"]
    assert "Kafka keeps it" in asked["response_text"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_as_if_the_callback_were_not_there(scripts: Scripts, name: str) -> None:
    ended = scripts.ended(name)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_scripts_that_end_at_once_are_one_document_for_each_call(consumed: Scripts) -> None:
    documents = consumed.pipeline.documents().values()
    asked = Counter(
        (document["messages"][0]["content"], document["status"])
        for document in documents
        if document.get("model_group") != "hostile"
    )
    assert asked == {
        ("sync", "success"): 1,
        ("async", "success"): 1,
        ("connected", "success"): 2,
        ("both lists", "success"): 1,
        ("both lists", "failure"): 1,
        ("router", "success"): 1,
    }
    for name in ("sync", "async", "lists and router"):
        assert consumed.left[name] or not consumed.lines(name)


def test_a_script_that_ends_while_kafka_answers_waits_for_the_delivery(consumed: Scripts) -> None:
    assert consumed.left["connected"] == 0, "the journal is for a Kafka that does not answer"
    assert not consumed.lines("connected")


def test_the_callback_loads_nothing_of_the_consumer(scripts: Scripts) -> None:
    assert scripts.output("sync") == {"loaded": []}


def test_wrong_settings_are_one_line_and_the_calls_go_on(scripts: Scripts) -> None:
    (line,) = scripts.lines("wrong settings")
    assert line.startswith("ERROR ")
    assert "LLMLOG_BOGUS" in line
    output = scripts.output("wrong settings")
    assert output["answers"] == ["hi", "hi"]
    assert output["stats"]["dropped_disabled"] == 2
    assert output["stats"]["accepted"] == 0


def test_no_kafka_and_no_journal_cost_the_events_and_say_so(scripts: Scripts) -> None:
    output = scripts.output("no Kafka")
    assert output["answers"] == ["hi", "hi"]
    assert output["stats"]["accepted"] == output["stats"]["pending"] == 2
    assert output["stats"]["delivered"] == 0
    lost = scripts.lines("no Kafka")[-1]
    assert lost.startswith("ERROR ")
    assert lost.endswith(" 2 events unsent")


def test_hostile_payloads_never_reach_the_caller(consumed: Scripts) -> None:
    output = consumed.output("hostile")
    assert output["raised"] == []
    stats = output["stats"]
    assert stats["pending"] == 0
    assert stats["dropped_no_payload"] + stats["accepted"] == output["called"]
    assert stats["dropped_no_payload"] == 4 * output["without_payload"]
    assert stats["dropped_unreadable"] == 4 * output["unreadable"], consumed.lines("hostile")
    assert stats["delivered"] == stats["accepted"] - stats["dropped_unreadable"]
    assert stats["truncated"] == 4, "an event larger than a record loses its largest part"
    hostile = [
        document
        for document in consumed.pipeline.documents().values()
        if document.get("model_group") == "hostile"
    ]
    assert len(hostile) == output["distinct"]
    result = judge(
        consumed.pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
        consumed.pipeline.elasticsearch,
        consumed.pipeline.topic,
        consumed.pipeline.index,
    )
    result.assert_exact()
    assert not result.dead

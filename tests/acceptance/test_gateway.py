"""The gateway's side through real LiteLLM, in each version: a proxy, and SDK scripts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.gateway.provider import Provider
from acceptance.gateway.proxy import ROOT, VERSIONS, Proxy, offline, python_of
from acceptance.gateway.scripts import SCRIPTS
from llmlog_local.ports import free_ports
from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.fields import DOCUMENT_VERSION, INDEXED_AT, SEARCH_TEXTS
from support.judge import judge, read_all
from support.pipeline import SLOW, Pipeline, base_environment
from support.shared_servers import Addresses

TEMPLATE = ROOT / "schemas/llmlog_schemas/elasticsearch/index_template.json"
MAPPED = json.loads(TEMPLATE.read_text())["template"]["mappings"]["properties"]
TIMES = ("startTime", "endTime", "completionStartTime")
OF_THE_GUIDE = ("model", "response_cost", "total_tokens", "prompt_tokens", "completion_tokens",
                "response_time", "status", "messages", "response", "metadata")  # fmt: skip
OURS = {*SEARCH_TEXTS, *DERIVED, DOCUMENT_VERSION, INDEXED_AT}
"""Fields that stand beside those of LiteLLM's."""
FAILING = ("rate-limited", "context-too-long", "server-error", "filtered", "unreachable",
           "chat-with-fallback")  # fmt: skip


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
        return self.running[name].result(60 * SLOW)

    def lines(self, name: str) -> list[str]:
        """Return the log lines of ours that a script wrote, other than the one of its start."""
        written = self.ended(name).stderr.splitlines()
        return [line for line in written if "llmlog" in line and "llmlog: events go to" not in line]

    def trouble(self, name: str) -> list[str]:
        """Return those lines but for what is said of a broker that is slow to answer."""
        slow = ("(no leader, or no answer)", "take events again")
        return [line for line in self.lines(name) if not any(one in line for one in slow)]

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

    jobs = {
        script: {
            "source": source,
            "environment": {"LLMLOG_JOURNAL_DIR": str(journals / script)} | special.get(script, {}),
            "out": str(folder / f"{script}.out"),
            "err": str(folder / f"{script}.err"),
        }
        for script, source in SCRIPTS.items()
    }
    (folder / "scripts.json").write_text(json.dumps(jobs))
    running: dict[str, Future[subprocess.CompletedProcess[str]]] = {one: Future() for one in jobs}
    process = subprocess.Popen(
        [python_of(version), ROOT / "tests/acceptance/gateway/fork_scripts.py", "scripts.json"],
        env=offline(environment), cwd=folder, text=True, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip

    def follow() -> None:
        for line in process.stdout or ():
            script, code = json.loads(line)
            texts = (Path(jobs[script][file]).read_text() for file in ("out", "err"))
            running[script].set_result(subprocess.CompletedProcess(script, code, *texts))
        for future in running.values():
            if not future.done():
                future.set_exception(RuntimeError("the scripts' process ended before them"))

    with process, ThreadPoolExecutor(1) as pool:
        pool.submit(follow)
        yield Scripts(pipeline, running, journals)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


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
    wait(scripts.running.values(), 120 * SLOW)
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
        elif value is not None and (name != "model" or value):  # a batch names none
            document[name] = int(value * 1000) if name in TIMES else value
    return {**document, "@timestamp": document["startTime"]}


def identity(of: dict[str, Any]) -> tuple[str, str, str, int]:
    """Tell calls, and the legs of one call, apart; the same for an event that fired twice."""
    return of["litellm_call_id"], of["call_type"], of["status"], of["startTime"]


def is_failed_pass_through(of: dict[str, Any]) -> bool:
    """Tell whether a document or payload is of a failed pass-through request."""
    return of["call_type"] == "pass_through_endpoint" and of["status"] == "failure"


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


PASS_THROUGH = """
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  pass_through_endpoints:
    - {{path: /tool, target: "{url}/tool", include_subpath: true}}
    - {{path: /away, target: "http://127.0.0.1:9/tool", include_subpath: true}}
files_settings:
  - {{custom_llm_provider: openai, api_base: "{url}/v1", api_key: none}}
"""
REFUSED = ("gpt-429", "gpt-401", "gpt-502", "gpt-529", "gpt-429-again-429")
BROKEN_OFF = ("gpt-cut", "gpt-cut-too-cut", "gpt-short")
FAILED = (*REFUSED, *BROKEN_OFF, "away")


def send_pass_throughs(proxy: Proxy) -> Counter[int]:
    """Send requests that the proxy passes on; return how they were answered."""
    answers: Counter[int] = Counter()

    def post(path: str, body: dict[str, Any], **headers: str) -> None:
        answer = proxy.client.post(path, json=body, headers=headers)
        answers[answer.status_code] += 1

    messages = [{"role": "user", "content": "passed on"}]
    for model in REFUSED:  # all under one call id, which clients may choose
        body = {"model": model, "messages": messages}
        post("/openai/v1/chat/completions", body, **{"x-litellm-call-id": "of-the-client"})
    for model in BROKEN_OFF:  # in mid-stream: both hooks are called, in either order
        with suppress(httpx.HTTPError):
            body = {"model": model, "messages": messages, "stream": model.endswith("-cut")}
            proxy.client.post("/openai/v1/chat/completions", json=body)
    post("/away/x", {"model": "away"})
    post("/tool/run", {"modelId": "named-in-its-body"})
    post("/tool/models/named-in-its-path:generate", {"q": 1})
    proxy.client.get("/tool/x?model=named-in-its-query")
    # Refused by the proxy's own authentication, whatever the body says.
    spoofed = {"model": "spoofed", "call_type": "pass_through_endpoint", "start_time": "now"}
    post("/tool/run", spoofed, authorization="Bearer sk-wrong")
    chat = {"model": "chat", "messages": messages}
    post("/v1/chat/completions", chat | {"user": {"id": "ann", "plan": "gold"}})
    proxy.client.get("/health", params={"model": "chat"})
    for _ in range(3):
        answers[proxy.client.get("/v1/batches/batch_1").status_code] += 1
    return answers


@dataclass
class Traffic:
    """What one proxy was asked, and what became of it."""

    pipeline: Pipeline
    proxy: Proxy
    answers: Counter[tuple[str, int]]
    passed: Counter[int]
    left: int
    """Events that were left in the journal."""

    @property
    def payloads(self) -> dict[Any, dict[str, Any]]:
        """What LiteLLM told its log hooks, once for each call."""
        return {identity(expected(one)): one for one in self.proxy.recorded()}

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Every document."""
        return list(self.pipeline.documents().values())

    def passed_on(self, model: str) -> dict[str, Any]:
        """Return the document of a pass-through request; there is one."""
        (found,) = (
            one
            for one in self.documents
            if one["call_type"] == "pass_through_endpoint" and one.get("model") == model
        )
        return found


@pytest.fixture(scope="module")
def traffic(version: str, servers: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    """A proxy that was asked everything and has ended, and its events in Elasticsearch."""
    name = f"proxy-{version}"
    folder = tmp_path_factory.mktemp(name)
    names = {f"LLMLOG_{setting}": name for setting in ("TOPIC", "INDEX", "GROUP")}
    environment = base_environment({**servers.environment, **names, "LLMLOG_PARTITIONS": "4"})
    pipeline = Pipeline(environment, folder, servers.elasticsearch_url, name, name, name)
    pipeline.run("setup")
    journal = folder / "journal"
    with Provider() as provider:
        proxy = Proxy(
            version, folder,
            environment | {"LLMLOG_JOURNAL_DIR": str(journal), "OPENAI_API_BASE": provider.url,
                           "OPENAI_API_KEY": "none"},
            more_config=PASS_THROUGH.format(url=provider.url),
        )  # fmt: skip
        try:
            proxy.wait_ready()
            answers, passed = send_requests(proxy), send_pass_throughs(proxy)
            # Nothing is flushed or waited for: what was handed out is on its way already.
            proxy.stop()
        finally:
            proxy.clean_up()
    left = send_journal(pipeline, journal)
    pipeline.run("consume", "--workers", "2", "--until-end")
    return Traffic(pipeline, proxy, answers, passed, left)


def test_every_call_of_a_proxy_is_one_document_that_equals_its_payload(traffic: Traffic) -> None:
    answers, proxy, pipeline = traffic.answers, traffic.proxy, traffic.pipeline
    for model in ("chat-large", "tools", "embeddings", "chat-with-fallback"):
        assert answers[model, 200] == 1, answers
    assert answers["chat", 200] == 3
    for model, status in (("rate-limited", 429), ("context-too-long", 400), ("server-error", 500)):
        assert answers[model, status] == 1, answers
    payloads = traffic.payloads
    failed = [one for one in payloads.values() if is_failed_pass_through(one)]
    assert 2 <= len(failed) < len(FAILED), "LiteLLM tells its log hooks of broken streams alone"
    told = len(payloads) - len(failed) + len(FAILED)
    kafka = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    records = list(read_all(kafka, pipeline.topic))
    assert len({record.key() for record in records}) == told, proxy.log()
    # What was on its way at the end is in the journal as well, and is sent twice.
    assert traffic.left or len(records) >= told, proxy.log()

    documents = {identity(document): document for document in traffic.documents}
    assert pipeline.count() == len(documents) == told
    for key, payload in payloads.items():
        document = {n: v for n, v in documents[key].items() if n not in {*OURS, *ADDED}}
        wanted = {n: v for n, v in expected(payload).items() if n not in changed_fields(payload)}
        assert {n: v for n, v in document.items() if n not in changed_fields(payload)} == wanted
    result = judge(kafka, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    result.assert_exact()
    assert not result.dead

    of_proxy = [one for one in documents.values() if one["call_type"] != "pass_through_endpoint"]
    asked = [one for one in of_proxy if "passed on" not in one.get("messages_text", "")]
    found = Counter((d.get("model_group"), d["status"]) for d in asked if "call_origin" not in d)
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
    asked_by_eve = next(d for d in documents.values() if d.get("end_user") == "eve")
    assert asked_by_eve["metadata"]["requester_metadata"]["deep"] == {"a": [1, {"b": None}]}
    assert "What does chat say?" in asked_by_eve["messages_text"]
    assert "Kafka keeps it" in asked_by_eve["response_text"]
    check_derived(documents.values(), proxy)


def check_derived(documents: Any, proxy: Proxy) -> None:
    """Check the derived fields of real payloads."""
    for one in documents:
        assert one["indexed_at"] > one["endTime"]
        assert one["gateway_version"] in proxy.version, one
        assert one["duration"] == pytest.approx(
            (one["endTime"] - one["startTime"]) / 1000, abs=0.002
        )
        if "original_cost" in one:
            parts = ("input", "cache_read", "cache_write", "output", "tool", "additional")
            costs = sum(one.get(f"{part}_cost", 0) for part in parts)
            assert costs == pytest.approx(one["original_cost"])
            assert costs == pytest.approx(one["response_cost"]), "no discount, no guardrail"
        if one["status"] == "failure" and one["call_type"] != "pass_through_endpoint":
            assert one["error_class"]
    (fallback,) = (one for one in documents if one.get("fallbacks"))
    assert (fallback["fallback_from"], fallback["model_group"]) == ("chat-with-fallback", "chat")
    (tools,) = (one for one in documents if one.get("model_group") == "tools")
    assert tools["tool_names_called"] == ["weather"]
    assert tools["tool_text"] == 'weather {"city": "Wien"}'
    streams = [one for one in documents if one.get("stream") and one["status"] == "success"]
    assert any("time_to_first_token" in one for one in streams)
    asked = [one for one in documents if one.get("request_route") == "/v1/chat/completions"]
    assert asked
    queued = [one["queue_time"] for one in asked if "queue_time" in one]
    assert queued
    assert min(queued) >= 0


ADDED = ("call_origin", "end_user_object")
COUNTED = ("response_cost", "total_tokens", "prompt_tokens", "completion_tokens", "cost_breakdown",
           "extra")  # fmt: skip


def changed_fields(payload: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields in which a document differs from its payload; other tests look at them."""
    if payload["call_type"] == "aretrieve_batch":
        return COUNTED
    if isinstance(payload["end_user"], dict):
        return ("end_user",)
    return ("model",) if payload["model"] == "unknown" else ()


@pytest.mark.parametrize("model", FAILED)
def test_a_failed_pass_through_request_is_one_document(traffic: Traffic, model: str) -> None:
    document = traffic.passed_on(model)
    assert document["status"] == "failure"
    assert document["error_str"]
    information = document["error_information"]
    assert information["error_code"] == (model[-3:] if model[-3:].isdigit() else "")
    assert document["metadata"]["user_api_key_user_id"] == "default_user_id"
    assert document["startTime"] <= document["endTime"]
    assert document["api_base"].startswith("http://127.0.0.1:")
    if model.startswith("gpt-4"):
        assert document["litellm_call_id"]
        assert f"no: {model}" in document["error_str"]
        assert "passed on" in document["messages_text"]


def test_a_key_that_the_proxy_refuses_makes_no_pass_through_event(traffic: Traffic) -> None:
    assert not [one for one in traffic.documents if one.get("model") == "spoofed"]
    passing = [one for one in traffic.documents if one["call_type"] == "pass_through_endpoint"]
    assert len(passing) == len(FAILED) + 3


@pytest.mark.parametrize("place", ["body", "path", "query"])
def test_a_pass_through_has_the_model_that_its_request_names(traffic: Traffic, place: str) -> None:
    assert traffic.passed_on(f"named-in-its-{place}")["status"] == "success"


def test_a_user_that_is_an_object_is_found_by_its_id(traffic: Traffic) -> None:
    (found,) = (one for one in traffic.documents if one.get("end_user") == "ann")
    assert found["end_user_object"] == {"id": "ann", "plan": "gold"}


def test_the_proxys_own_health_checks_are_marked(traffic: Traffic) -> None:
    checks = [one for one in traffic.documents if one.get("call_origin") == "health_check"]
    assert len(checks) == 1
    assert checks[0]["metadata"]["user_api_key_alias"] == "litellm-internal-health-check"


def test_the_cost_of_a_batch_counts_once(traffic: Traffic) -> None:
    told = [one for one in traffic.payloads.values() if one["call_type"] == "aretrieve_batch"]
    looks = [one for one in traffic.documents if one["call_type"] == "aretrieve_batch"]
    assert len(looks) == len(told) > 1, "LiteLLM may end before it has told of the last one"
    *others, counted = sorted(one["response_cost"] for one in looks)
    assert set(others) == {0}
    assert counted > 0


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
        assert consumed.left[name] or not consumed.trouble(name)


def test_a_script_that_ends_while_kafka_answers_waits_for_the_delivery(consumed: Scripts) -> None:
    assert consumed.left["connected"] == 0, "the journal is for a Kafka that does not answer"
    assert not consumed.trouble("connected")


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

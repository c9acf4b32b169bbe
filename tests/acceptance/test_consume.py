"""The main job through the installed command: produce, consume, inspect; signals and kill -9."""

from __future__ import annotations

import json
import os
import re
import signal
from subprocess import Popen

import httpx
import psutil
import pytest

from support.judge import judge
from support.payloads import encoded, event, ndjson, payload, send
from support.pipeline import SLOW, Pipeline, wait_until, workers_of

DEAD_ARE_MISSED_SOON = {"LLMLOG_KAFKA_CONSUMER_SESSION_TIMEOUT_MS": "6000"}
"""The shortest that the broker grants: after a kill -9 the group waits for so long."""


def judged(pipeline: Pipeline):
    """Judge everything that this test's pipeline did."""
    return judge(
        pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
        pipeline.elasticsearch,
        pipeline.topic,
        pipeline.index,
    )


def write(pipeline: Pipeline, values: list[bytes | None], partition: int = -1) -> None:
    """Write raw values to the source topic."""
    bootstrap = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    send(bootstrap, pipeline.topic, values, partition=partition)


def test_every_event_is_one_document_and_a_second_run_changes_nothing(pipeline: Pipeline) -> None:
    payloads = [payload(seed) for seed in range(500)]
    source = pipeline.folder / "payloads.ndjson"
    source.write_text(ndjson(payloads))
    for _ in range(2):
        pipeline.run("produce", str(source))
        pipeline.run("consume", "--workers", "2", "--until-end")
        assert pipeline.count() == 500
    judged(pipeline).assert_exact()
    documents = {d["litellm_call_id"]: d for d in pipeline.documents().values()}
    sent = payloads[10]
    document = documents[sent["litellm_call_id"]]
    for name in ("model", "response_cost", "total_tokens", "prompt_tokens", "completion_tokens",
                 "response_time", "status", "messages", "response", "metadata", "request_tags",
                 "error_str", "id", "trace_id"):  # fmt: skip
        assert document[name] == sent[name]
    assert document["response_cost"] == 0.0, "zero is not absent"
    assert "cache_hit" not in document
    assert document["endTime"] == int(sent["endTime"] * 1000)


def test_the_guides_queries_answer_rightly(pipeline: Pipeline) -> None:
    payloads = [payload(seed) for seed in range(60)]
    pipeline.run("produce", "-", input=ndjson(payloads))
    pipeline.run("consume", "--until-end")
    pipeline.refresh()
    path = f"/{pipeline.index}/_search"
    by_model = pipeline.get(
        path,
        size=0,
        aggs={
            "models": {
                "terms": {"field": "model"},
                "aggs": {"total_cost": {"sum": {"field": "response_cost"}}},
            }
        },
    )["aggregations"]["models"]["buckets"]
    expected: dict[str, float] = {}
    for sent in payloads:
        expected[sent["model"]] = expected.get(sent["model"], 0.0) + sent["response_cost"]
    assert {b["key"]: round(b["total_cost"]["value"], 9) for b in by_model} == {
        model: round(cost, 9) for model, cost in expected.items()
    }
    average = pipeline.get(
        path, size=0, aggs={"avg_response_time": {"avg": {"field": "response_time"}}}
    )
    assert average["aggregations"]["avg_response_time"]["value"] == pytest.approx(0.5)
    errors = pipeline.get(
        path,
        query={"term": {"status": "failure"}},
        size=10,
        sort=[{"endTime": {"order": "desc"}}],
    )["hits"]["hits"]
    times = [hit["_source"]["endTime"] for hit in errors]
    assert len(errors) == 6
    assert times == sorted(times, reverse=True)
    report = json.loads(pipeline.run("report", "--json").stdout)
    assert report["events"] == 60
    assert {m["model"]: m["failures"] for m in report["models"]} == {
        "gpt-0": 2, "gpt-1": 2, "gpt-2": 2,
    }  # fmt: skip


def test_what_cannot_be_indexed_is_a_letter_and_its_neighbours_are_documents(
    pipeline: Pipeline,
) -> None:
    start = pipeline.get("/")["version"]["number"]
    assert start
    # The day before yesterday has an index of ours in which one field conflicts.
    old = payload(7001, startTime=payload(1)["startTime"] - 2 * 86_400)
    poisoned = event(7001)
    del poisoned
    from llmlog_schemas.convert import to_event

    old_event = to_event(old)
    from llmlog_consumer.elasticsearch.index_names import daily_index

    conflicting = daily_index(pipeline.index, old_event["start_time_ms"])
    made = httpx.put(
        f"{pipeline.elasticsearch}/{conflicting}",
        json={"mappings": {"_meta": {"llmlog_version": 1}, "dynamic": False,
                           "properties": {"model": {"type": "long"}}}},
    )  # fmt: skip
    assert made.status_code == 200, made.text
    from llmlog_schemas.codec import Encoder

    values = [
        encoded(1),
        b"\x00\x01garbage",
        encoded(2),
        None,
        b"",
        encoded(3, document=b'{"a":1}\n{"delete":{"_index":"x","_id":"y"}}\n'),
        encoded(4, document=b'{"response":\n{"a":[1,2]}}'),
        encoded(5, event_id="short"),
        encoded(6, document=b"[1]"),
        encoded(7, document=b'{"messages":{"broken": }'),
        encoded(8),
        Encoder().encode(old_event),
        encoded(9),
    ]
    write(pipeline, values, partition=0)
    pipeline.run("consume", "--workers", "2", "--until-end")
    letters = [
        json.loads(line)
        for line in pipeline.run("dlq", "list", "--json").stdout.splitlines()
    ]  # fmt: skip
    by_offset = {letter["source"]["offset"]: letter for letter in letters}
    stages = {offset: letter["stage"] for offset, letter in by_offset.items()}
    assert stages == {
        1: "decode", 3: "decode", 4: "decode", 5: "transform", 7: "transform", 8: "transform",
        9: "transform", 11: "index",
    }  # fmt: skip
    refused = by_offset[11]
    assert refused["source"] == {"topic": pipeline.topic, "partition": 0, "offset": 11}
    assert refused["es"]["status"] == 400
    assert refused["es"]["type"] == "document_parsing_exception"
    assert "failed to parse field [model] of type [long]" in refused["es"]["reason"]
    assert refused["document_id"] == old_event["event_id"]
    assert refused["index"] == conflicting
    assert refused["disposition"] == "permanent"
    assert refused["recovered"] is False
    assert refused["replay_count"] == 0
    assert re.fullmatch(r"[0-9a-f]{12}", refused["fingerprint"])
    documents = pipeline.documents()
    assert len(documents) == 5
    rewritten = documents[event(4)["event_id"]]
    assert rewritten["response"] == {"a": [1, 2]}
    result = judged(pipeline)
    assert len(result.dead) == 8
    shown = pipeline.run("dlq", "show", refused["coordinates"], "--json")
    body = json.loads(shown.stdout)
    assert body["event"]["model"] == old_event["model"]
    assert "question" not in shown.stdout, "contents are shown only when asked for"
    full = pipeline.run("dlq", "show", refused["coordinates"], "--json", "--show-content").stdout
    assert "question 7001" in full
    garbage = pipeline.run("dlq", "show", by_offset[1]["coordinates"], "--json", "--show-content")
    assert json.loads(garbage.stdout)["value_hex"] == b"\x00\x01garbage".hex(" ")
    assert pipeline.run("dlq", "show", "nonsense", check=False).returncode == 2


def test_an_injected_operation_deletes_nothing(pipeline: Pipeline) -> None:
    victim = event(1)
    write(pipeline, [encoded(1)])
    pipeline.run("consume", "--until-end")
    index = next(iter(pipeline.get(f"/{pipeline.index}/_search")["hits"]["hits"]), {}).get("_index")
    pipeline.refresh()
    index = pipeline.get(f"/{pipeline.index}/_search")["hits"]["hits"][0]["_index"]
    operation = f'{{"delete":{{"_index":"{index}","_id":"{victim["event_id"]}"}}}}'
    attacks = (
        '{"a":1}\n%s\n{"b":2}', '{"a":1}\r\n%s\r\n{"b":2}', '{"a":"\n%s\n"}', '{"a":1}\n%s',
        '\n%s\n{"b":2}',
    )  # fmt: skip
    for number, attack in enumerate(attacks):
        document = attack.replace("%s", operation).encode()
        write(pipeline, [encoded(100 + number, document=document)])
    pipeline.run("consume", "--until-end")
    assert victim["event_id"] in pipeline.documents()
    assert len(pipeline.run("dlq", "list", "--json").stdout.splitlines()) == 5


def test_kill_9_of_a_worker_loses_and_doubles_nothing(pipeline: Pipeline) -> None:
    pipeline.environment |= DEAD_ARE_MISSED_SOON
    write(pipeline, [encoded(seed) for seed in range(20_000)])
    running = pipeline.start("consume", "--workers", "2", "--until-end")

    def a_worker_with_work() -> psutil.Process | None:
        workers = workers_of(running)
        return workers[0] if len(workers) == 2 and pipeline.count() > 500 else None

    wait_until(a_worker_with_work).send_signal(signal.SIGKILL)
    assert running.wait(120 * SLOW) == 0, pipeline.stderr_of(running)
    assert "worker died, starting it again" in pipeline.stderr_of(running)
    result = judged(pipeline)
    result.assert_exact()
    assert sum(result.documents.values()) == 20_000


def test_kill_9_of_the_template_loses_and_doubles_nothing(pipeline: Pipeline) -> None:
    pipeline.environment |= DEAD_ARE_MISSED_SOON
    write(pipeline, [encoded(seed) for seed in range(20_000)])
    running = pipeline.start("consume", "--workers", "2", "--until-end")
    wait_until(lambda: pipeline.count() > 500)
    family = psutil.Process(running.pid).children(recursive=True)
    (template,) = (one for one in family if "template" in " ".join(one.cmdline()))
    workers = template.children()
    template.kill()
    assert running.wait(120 * SLOW) == 0, pipeline.stderr_of(running)
    assert "ended with the process that workers are forked from" in pipeline.stderr_of(running)
    assert len(workers) == 2
    assert not any(worker.is_running() for worker in workers)
    result = judged(pipeline)
    result.assert_exact()
    assert sum(result.documents.values()) == 20_000


def test_a_signal_to_every_process_of_the_service_drains(pipeline: Pipeline) -> None:
    write(pipeline, [encoded(seed) for seed in range(20_000)])
    running = pipeline.start("consume", "--workers", "2")
    wait_until(lambda: pipeline.count() > 100)
    for process in psutil.Process(running.pid).children(recursive=True):
        process.terminate()
    running.send_signal(signal.SIGTERM)
    assert running.wait(60 * SLOW) == 0, pipeline.stderr_of(running)
    count_at_end(pipeline, running)


def count_at_end(pipeline: Pipeline, running: Popen[str]) -> int:
    """Return the number of documents: all that was consumed and not released, at least.

    A request may be carried out after its answer was waited for in vain: its records are released.
    """
    found = re.search(r"event=ended (.*)", pipeline.stderr_of(running))
    assert found is not None
    ended = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[1])}
    assert ended["consumed"] == ended["indexed"] + ended["released"], "it was indexed"
    assert ended["indexed"] <= pipeline.count() <= ended["consumed"]
    return ended["indexed"]


def test_sigterm_drains_and_commits(pipeline: Pipeline) -> None:
    write(pipeline, [encoded(seed) for seed in range(5_000)])
    running = pipeline.start("consume", "--workers", "2")
    wait_until(lambda: pipeline.count() > 100)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60 * SLOW) == 0, pipeline.stderr_of(running)
    before = count_at_end(pipeline, running)
    again = pipeline.run("consume", "--until-end")
    assert pipeline.count() == 5_000
    read = re.search(r"indexed=(\d+) duplicate=(\d+)", again.stderr)
    assert read is not None
    assert int(read[1]) + int(read[2]) == 5_000 - before, "a drain commits"


def test_until_end_that_is_stopped_before_says_so_with_its_code(pipeline: Pipeline) -> None:
    write(pipeline, [encoded(seed) for seed in range(20_000)])
    running = pipeline.start("consume", "--until-end")
    wait_until(lambda: "consuming" in pipeline.stderr_of(running))
    running.send_signal(signal.SIGTERM)
    assert running.wait(60 * SLOW) == 1, pipeline.stderr_of(running)
    assert "stopped before everything was settled" in pipeline.stderr_of(running)
    assert pipeline.count() < 20_000


def test_kill_9_of_the_supervisor_leaves_no_worker(pipeline: Pipeline) -> None:
    pipeline.environment |= DEAD_ARE_MISSED_SOON
    write(pipeline, [encoded(seed) for seed in range(100)])
    running = pipeline.start("consume", "--workers", "2")
    wait_until(lambda: pipeline.count() == 100)
    workers = psutil.Process(running.pid).children(recursive=True)
    assert len(workers) >= 2
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=20 * SLOW)
    assert not alive
    assert "duplicate=0" in pipeline.run("consume", "--until-end").stderr
    judged(pipeline).assert_exact()


def test_wrong_deployments_end_with_one_line_that_says_what_to_run(
    bare_pipeline: Pipeline,
) -> None:
    pipeline = bare_pipeline

    def fails(code: int, words: str, *arguments: str, **settings: str) -> None:
        before = dict(pipeline.environment)
        pipeline.environment.update(settings)
        done = pipeline.run(*arguments, check=False)
        pipeline.environment = before
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == code, done.stderr
        assert len(lines) == 1, done.stderr
        assert words in lines[0]
        assert "Traceback" not in done.stderr

    fails(3, "pipeline setup", "consume", "--until-end")
    fails(3, "pipeline setup", "produce", "-")
    pipeline.run("setup", "--dry-run")
    fails(3, "pipeline setup", "consume", "--until-end")
    # A plain index in the alias's place, as LiteLLM's older guide makes it.
    httpx.put(f"{pipeline.elasticsearch}/{pipeline.index}").raise_for_status()
    fails(4, "_reindex", "setup")
    fails(4, "plain index", "consume", "--until-end")
    httpx.delete(f"{pipeline.elasticsearch}/{pipeline.index}").raise_for_status()
    fails(4, "pipeline setup", "consume", "--until-end")
    pipeline.run("setup")
    pipeline.run("consume", "--until-end")
    fails(2, "LLMLOG_NOPE", "consume", LLMLOG_NOPE="1")
    fails(2, "LLMLOG_ELASTICSEARCH", "setup", LLMLOG_ELASTICSEARCH_URL="not a url")
    kafka = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    away = {"LLMLOG_ELASTICSEARCH_URL": "http://127.0.0.1:1", "LLMLOG_COMMAND_PATIENCE": "1 s"}
    fails(4, "Elasticsearch", "setup", **away)
    fails(3, "127.0.0.1:1", "produce", "-", LLMLOG_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    fails(2, "enable.auto.commit", "consume", LLMLOG_KAFKA_CONSUMER_ENABLE_AUTO_COMMIT="true")
    fails(2, "no.such", "consume", LLMLOG_KAFKA_NO_SUCH="x")
    assert kafka


def test_bad_lines_are_named_and_the_rest_is_sent(pipeline: Pipeline) -> None:
    lines = [
        json.dumps(payload(1)), "{bad", "[1]", "",
        json.dumps(payload(2, response_time=float("nan"))),
        json.dumps(payload(3, messages="\ud800", total_tokens="12", prompt_tokens="many")),
    ]  # fmt: skip
    done = pipeline.run("produce", "-", input="\n".join(lines), check=False)
    assert done.returncode == 2
    assert "line 2: " in done.stderr
    assert "line 3: " in done.stderr
    assert "line 4: " not in done.stderr
    assert "sent 3 events" in done.stderr
    pipeline.run("consume", "--until-end")
    documents = {d["litellm_call_id"]: d for d in pipeline.documents().values()}
    assert len(documents) == 3
    mistyped = documents[payload(3)["litellm_call_id"]]
    assert mistyped["total_tokens"] == 12
    assert "prompt_tokens" not in mistyped
    assert mistyped["extra"]["mistyped"]["prompt_tokens"] == "many"


def test_setup_is_idempotent_and_shows_a_diff(pipeline: Pipeline) -> None:
    again = pipeline.run("setup").stdout
    assert "created" not in again
    template = f"{pipeline.elasticsearch}/_index_template/{pipeline.index}"
    there = httpx.get(template).json()["index_templates"][0]["index_template"]
    there["template"]["mappings"]["properties"]["model"] = {"type": "text"}
    httpx.put(template, json=there).raise_for_status()
    shown = pipeline.run("setup", "--dry-run").stdout
    assert "would be updated" in shown
    assert "template.mappings.properties.model.type: text -> keyword" in shown
    assert "updated" in pipeline.run("setup").stdout
    assert "updated" not in pipeline.run("setup").stdout


@pytest.mark.parametrize(
    "membership",
    [{"GROUP_INSTANCE_ID": "host-a"}, {"GROUP_PROTOCOL": "consumer"}],
    ids=["static", "consumer-protocol"],
)
def test_other_kinds_of_membership_consume_as_well(pipeline: Pipeline, membership) -> None:
    for name, value in membership.items():
        pipeline.environment[f"LLMLOG_KAFKA_CONSUMER_{name}"] = value
    write(pipeline, [encoded(seed) for seed in range(400)])
    process = pipeline.start("consume", "--workers", "2")
    wait_until(lambda: pipeline.count() == 400, 60)
    members = wait_until(
        lambda: (
            (s := json.loads(pipeline.run("status", "--json", check=False).stdout))
            and s["members"] == 2
        )
    )
    assert members
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0
    pipeline.run("consume", "--until-end")
    assert json.loads(pipeline.run("status", "--json", check=False).stdout)["lag"] == 0
    judged(pipeline).assert_exact()

"""Dead letters on real servers: counted, shown, fixed, replayed; killed and run again."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support import foreign
from support.payloads import encoded, payload, send
from support.pipeline import SLOW, Pipeline, wait_until


def bootstrap(pipeline: Pipeline) -> str:
    return pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]


def conflicting(pipeline: Pipeline, days: int, seeds: range, properties: dict) -> tuple[str, list]:
    """Make a past day's index with a mapping that refuses; return its URL and values for it."""
    started = payload(1)["startTime"] - days * 86_400
    events = [to_event(payload(seed, startTime=started + seed / 1000)) for seed in seeds]
    name = daily_index(pipeline.index, events[0]["start_time_ms"])
    mappings = {"_meta": {"llmlog_version": 1}, "dynamic": False, "properties": properties}
    url = f"{pipeline.elasticsearch}/{name}"
    httpx.put(url, json={"mappings": mappings}).raise_for_status()
    return url, [Encoder().encode(event) for event in events]


def letters(pipeline: Pipeline, *options: str) -> list[dict]:
    shown = pipeline.run("dlq", "list", "--json", *options).stdout
    return [json.loads(line) for line in shown.splitlines()]


def stats(pipeline: Pipeline, *options: str) -> dict:
    return json.loads(pipeline.run("dlq", "stats", "--json", *options).stdout)


def replay(pipeline: Pipeline, *options: str) -> dict:
    return json.loads(pipeline.run("dlq", "replay", "--json", *options).stdout)


def on_topic(pipeline: Pipeline) -> int:
    return json.loads(pipeline.run("status", "--json", check=False).stdout)["dead_letters_on_topic"]


def small_letters(pipeline: Pipeline) -> None:
    """Make the dead-letter topic take 200 KB a record at most."""
    admin = AdminClient({"bootstrap.servers": bootstrap(pipeline)})
    entry = ConfigEntry("max.message.bytes", "200000", incremental_operation=AlterConfigOpType.SET)
    topic = f"{pipeline.topic}.dlq"
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


def test_dead_letters_are_counted_shown_fixed_and_replayed(pipeline: Pipeline) -> None:
    small_letters(pipeline)
    wrong_model, of_model = conflicting(pipeline, 2, range(100, 107), {"model": {"type": "long"}})
    _, of_alias = conflicting(
        pipeline,
        3,
        range(200, 205),
        {"metadata": {"properties": {"user_api_key_alias": {"type": "object"}}}},
    )
    too_large = f'["{random.Random(1).randbytes(300_000).hex()}"]'
    values = [
        *(encoded(seed) for seed in range(30)),
        *(b"garbage %d" % number for number in range(4)),
        *(b"\xc3\x01" + bytes(8) + b"body" for _ in range(3)),
        *(encoded(300 + number, document=b'{"messages":{"broken": }') for number in range(2)),
        *of_model,
        *of_alias,
        encoded(400, document=too_large.encode()),
    ]
    send(bootstrap(pipeline), pipeline.topic, values)
    pipeline.run("consume", "--until-end")
    counted = stats(pipeline)
    assert counted["total"] == 22
    assert sorted(row["count"] for row in counted["fingerprints"]) == [1, 2, 3, 4, 5, 7]
    assert {row["stage"]: row["count"] for row in counted["stages"]} == {
        "decode": 7,
        "transform": 3,
        "index": 12,
    }
    by_count = {row["count"]: row for row in counted["fingerprints"]}
    listed = Counter(row["fingerprint"] for row in letters(pipeline))
    assert listed == {row["fingerprint"]: row["count"] for row in counted["fingerprints"]}

    shown = pipeline.run("dlq", "show", by_count[7]["example"], "--json").stdout
    assert json.loads(shown)["field"] == "model"
    assert json.loads(shown)["field_value"] is None
    with_value = pipeline.run("dlq", "show", by_count[7]["example"], "--json", "--show-content")
    assert json.loads(with_value.stdout)["field_value"].startswith("gpt-")
    alias = json.loads(pipeline.run("dlq", "show", by_count[5]["example"], "--json").stdout)
    assert "user_api_key_alias" in alias["field"]
    truncated = json.loads(pipeline.run("dlq", "show", by_count[1]["example"], "--json").stdout)
    assert truncated["truncated"]["original"] == "read from the source topic"
    assert truncated["truncated"]["original_bytes"] > truncated["truncated"]["bytes"]
    assert truncated["event"]["document"] == f"<{len(too_large)} bytes>"
    exported = pipeline.run("dlq", "export", "--stage", "index", "--show-content").stdout
    assert len(exported.splitlines()) == 12
    first = json.loads(exported.splitlines()[0])
    assert first["event"]["document"]["messages"][0]["role"] == "user"

    httpx.delete(wrong_model).raise_for_status()
    only_letters_of_the_fixed_cause_are_replayed(pipeline, by_count[7]["fingerprint"])
    a_record_that_fails_again_keeps_its_history(pipeline)
    letters_that_are_mended_are_one_document_each(pipeline, by_count[5]["fingerprint"])


def only_letters_of_the_fixed_cause_are_replayed(pipeline: Pipeline, fingerprint: str) -> None:
    refused = pipeline.run("dlq", "replay", "--fingerprint", fingerprint, check=False, input="")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    dry = replay(pipeline, "--dry-run")
    rows = {row["letters"]: row for row in dry["fingerprints"]}
    assert rows[7]["replay"] == 7
    assert [rows[letters]["would_fail"] for letters in (4, 2, 1)] == [4, 2, 1]
    before = pipeline.documents()
    assert len(before) == 30
    assert replay(pipeline, "--fingerprint", fingerprint, "--yes")["indexed"] == 7
    after = pipeline.documents()
    assert len(after) == 37
    assert {name: after[name] for name in before} == before
    recovered = {row["source"]["offset"] for row in letters(pipeline) if row["recovered"]}
    assert len(letters(pipeline, "--fingerprint", fingerprint)) == 7
    assert recovered
    again = replay(pipeline, "--fingerprint", fingerprint, "--yes")
    assert (again["indexed"], again["duplicate"]) == (0, 7)
    assert pipeline.documents() == after
    assert stats(pipeline)["total"] == 22


def a_record_that_fails_again_keeps_its_history(pipeline: Pipeline) -> None:
    """A record that fails again has a letter with its history; three replays, then left alone."""
    first = {row["source"]["offset"]: row for row in letters(pipeline, "--stage", "transform")}
    for number in range(1, 4):
        assert replay(pipeline, "--stage", "transform", "--yes")["dead"] == 3, number
    now = letters(pipeline, "--stage", "transform")
    assert [row["replay_count"] for row in now] == [3] * 3
    for row in now:
        was = first[row["source"]["offset"]]
        assert row["first_failed_at"] == was["first_failed_at"] < row["last_failed_at"]
    assert replay(pipeline, "--stage", "transform", "--yes")["too_many_replays"] == 3
    assert stats(pipeline)["total"] == 22
    assert replay(pipeline, "--stage", "transform", "--yes", "--force", "--limit", "1")["dead"] == 1


def letters_that_are_mended_are_one_document_each(pipeline: Pipeline, fingerprint: str) -> None:
    change = "--coerce", "metadata.user_api_key_alias=object", "--drop", "metadata.nested"
    which = "--fingerprint", fingerprint
    dry = replay(pipeline, *which, *change, "--dry-run")
    assert [row["letters"] for row in dry["mending"]["changes"]] == [5, 5]
    before = pipeline.documents()
    refused = pipeline.run("dlq", "replay", *which, "--set", "@timestamp=1", "--yes", check=False)
    assert (refused.returncode, "never changed" in refused.stderr) == (2, True)
    again = replay(pipeline, *which, "--set", 'metadata.user_api_key_alias="x"', "--yes")
    assert again["dead"] == 5
    row = letters(pipeline, *which)[0]
    assert [entry["field"] for entry in row["mended"]] == ["metadata.user_api_key_alias"]
    assert replay(pipeline, *which, *change, "--yes")["indexed"] == 5
    after = pipeline.documents()
    assert len(after) == len(before) + 5
    mended = after[row["event_id"]]["metadata"]
    assert mended == {"user_api_key_alias": {"value": "x"}}
    assert replay(pipeline, *which, *change, "--yes")["duplicate"] == 5
    assert pipeline.documents() == after


def test_a_replay_that_is_killed_is_run_again_and_ends_the_same(pipeline: Pipeline) -> None:
    wrong, values = conflicting(pipeline, 2, range(1000, 1600), {"model": {"type": "long"}})
    send(bootstrap(pipeline), pipeline.topic, [*values, b"garbage"])
    pipeline.run("consume", "--until-end")
    assert stats(pipeline)["total"] == 601
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = "http://127.0.0.1:1"
    pipeline.environment["LLMLOG_COMMAND_PATIENCE"] = "1 s"
    away = pipeline.run("dlq", "replay", "--yes", check=False)
    assert away.returncode == 4
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = pipeline.elasticsearch
    assert on_topic(pipeline) == 601, "no new letters"

    httpx.delete(wrong).raise_for_status()
    process = pipeline.start("dlq", "replay", "--stage", "index", "--rate", "100", "--yes")
    wait_until(lambda: pipeline.count() >= 50)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    there = pipeline.count()
    assert 50 <= there < 600
    stopped = pipeline.start("dlq", "replay", "--stage", "index", "--rate", "100", "--yes")
    wait_until(lambda: pipeline.count() >= there + 30)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(30 * SLOW) == 1
    assert "run it again" in pipeline.stderr_of(stopped)
    done = replay(pipeline, "--stage", "index", "--yes")
    assert done["indexed"] + done["duplicate"] == 600
    assert pipeline.count() == 600
    assert on_topic(pipeline) == 601
    assert json.loads(pipeline.run("verify", "--json").stdout)["ok"]

    # Back onto the source topic: the workers see duplicates, the index stays the same.
    sent = replay(pipeline, "--stage", "index", "--limit", "20", "--to-topic", "--yes")
    assert sent["sent"] == 20
    assert "duplicate=20" in pipeline.run("consume", "--until-end").stderr
    assert pipeline.count() == 600


def test_letters_of_other_writers_are_listed_and_a_wrong_topic_is_warned_of(
    pipeline: Pipeline,
) -> None:
    dlq = f"{pipeline.topic}.dlq"
    producer = Producer({"bootstrap.servers": bootstrap(pipeline)})
    connect = {
        "topic": b"orders",
        "partition": b"4",
        "offset": b"77",
        "stage": b"TASK_PUT",
        "exception.class.name": b"E",
        "exception.message": b"m",
    }
    strange = [
        [(f"__connect.errors.{name}", value) for name, value in connect.items()],
        [("pipeline.dlq.stage", b"elsewhere"), ("pipeline.dlq.offset", b"\xff")],
        [("pipeline.dlq.truncated.length", b"9"), ("pipeline.dlq.topic", b"nope")],
        [("own", None)],
        None,
    ]
    for headers in strange:
        producer.produce(dlq, encoded(1), headers=headers, partition=0)
    assert producer.flush(30) == 0
    rows = letters(pipeline)
    assert [row["stage"] for row in rows] == [None, None, None, "elsewhere", "TASK_PUT"]
    assert rows[-1]["source"] == {"topic": "orders", "partition": 4, "offset": 77}
    assert stats(pipeline)["total"] == 5
    for row in rows[::2]:
        shown = pipeline.run("dlq", "show", row["coordinates"], "--json").stdout
        assert json.loads(shown)["event"]["model"] == "gpt-1"
    assert "does not look like a dead-letter topic" not in pipeline.run("dlq", "stats").stderr
    done = replay(pipeline, "--yes")
    assert done["indexed"] + done["duplicate"] == 4
    assert done["original_missing"] == 1

    pipeline.environment["LLMLOG_DLQ_TOPIC"] = pipeline.topic
    pipeline.environment["LLMLOG_TOPIC"] = dlq
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in range(3)])
    for command in ("list", "stats", "export"):
        assert "does not look like a dead-letter topic" in pipeline.run("dlq", command).stderr
    refused = pipeline.run("dlq", "replay", "--yes", check=False)
    assert refused.returncode == 2


def test_headers_that_are_not_utf_8_stop_neither_a_worker_nor_a_reader(pipeline: Pipeline) -> None:
    """Not even among many others: after many calls Python specializes the call."""
    dead_letters = f"{pipeline.topic}.dlq"

    def write(number: int) -> None:
        producer = Producer({"bootstrap.servers": bootstrap(pipeline)})
        for n in range(number):
            producer.produce(pipeline.topic, b"no event", b"%d" % n, 0, headers=[("a", b"b")])
        assert producer.flush(30) == 0

    write(20)
    foreign.send(bootstrap(pipeline), pipeline.topic)
    write(20)
    pipeline.run("consume", "--until-end")
    assert stats(pipeline)["total"] == 41
    foreign.send(bootstrap(pipeline), dead_letters)
    assert stats(pipeline)["total"] == len(letters(pipeline)) == 42
    assert replay(pipeline, "--yes", "--to-topic", pipeline.topic)["sent"] == 42


def test_a_request_is_traced_through_every_place(pipeline: Pipeline) -> None:
    def trace(seed: int, *options: str, code: int = 0) -> dict:
        call_id = payload(seed)["litellm_call_id"]
        done = pipeline.run("trace", call_id, "--json", *options, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    send(bootstrap(pipeline), pipeline.topic, [encoded(1), encoded(2, document=b"[1]")])
    waiting = trace(1)
    assert waiting["verdict"].startswith("WAITING")
    assert waiting["records"][0]["coordinates"].startswith(f"{pipeline.topic}/")
    pipeline.run("consume", "--until-end")
    pipeline.refresh()
    indexed = trace(1)
    assert indexed["verdict"] == "INDEXED"
    assert indexed["documents"][0]["document_id"] == waiting["records"][0]["event_id"]
    assert not indexed["scanned"]
    assert trace(1, "--scan")["records"][0]["settled"]
    dead = trace(2)
    assert "document is no JSON object" in dead["verdict"]
    assert dead["dead_letters"][0]["source"] == dead["records"][0]["coordinates"]
    assert trace(3, code=1)["verdict"].startswith("NOT FOUND")
    assert "DEAD" in pipeline.run("trace", payload(2)["litellm_call_id"]).stdout


@pytest.mark.parametrize("command", ["list", "stats", "export", "replay"])
def test_without_a_dead_letter_topic_the_command_names_pipeline_setup(
    bare_pipeline, command
) -> None:
    done = bare_pipeline.run("dlq", command, *(["--yes"] * (command == "replay")), check=False)
    assert done.returncode in (3, 4)
    assert "pipeline setup" in done.stderr
    assert "Traceback" not in done.stderr

"""What an operator asks: status, verify, offsets; and the circuit breaker, on real servers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from support.judge import judge, read_all
from support.payloads import encoded, ndjson, payload, send
from support.pipeline import SLOW, Pipeline, wait_until


def bootstrap(pipeline: Pipeline) -> str:
    return pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]


def judged(pipeline: Pipeline):
    return judge(bootstrap(pipeline), pipeline.elasticsearch, pipeline.topic, pipeline.index)


def status_of(pipeline: Pipeline) -> dict:
    return json.loads(pipeline.run("status", "--json", check=False).stdout)


def offsets_of(pipeline: Pipeline) -> list[dict]:
    shown = pipeline.run("offsets", "show", "--json").stdout
    return [json.loads(line) for line in shown.splitlines()]


def stop(pipeline: Pipeline, process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0, pipeline.stderr_of(process)


def test_verify_finds_what_was_deleted_and_what_was_doubled(pipeline: Pipeline) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(300)]))
    send(bootstrap(pipeline), pipeline.topic, [b"garbage", None])
    pipeline.run("consume", "--until-end")
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    assert proof["ok"]
    assert proof["events"] == 302
    assert proof["documents"] == 300
    assert proof["dead_letters"] == 2
    assert proof["lost"] == proof["doubled"] == proof["accepted_gaps"] == []

    gone, twice = sorted(pipeline.documents())[:2]
    document = pipeline.get(f"/{pipeline.index}/_search", query={"ids": {"values": [twice]}})
    hit = document["hits"]["hits"][0]
    httpx.delete(f"{pipeline.elasticsearch}/{hit['_index']}/_doc/{gone}").raise_for_status()
    other = f"{pipeline.index}-2021.01.01"
    httpx.put(f"{pipeline.elasticsearch}/{other}").raise_for_status()
    httpx.put(
        f"{pipeline.elasticsearch}/{other}/_doc/{twice}?refresh=true", json=hit["_source"]
    ).raise_for_status()

    found = pipeline.run("verify", "--json", check=False)
    assert found.returncode == 7, found.stderr
    proof = json.loads(found.stdout)
    assert not proof["ok"]
    (lost,), (doubled,) = proof["lost"], proof["doubled"]
    assert lost["event_id"] == gone
    assert lost["coordinates"][0].startswith(f"{pipeline.topic}/")
    assert doubled["event_id"] == twice
    assert set(doubled["indices"]) == {hit["_index"], other}
    assert "1 lost, 1 doubled" in found.stderr
    said = pipeline.run("verify", check=False).stdout
    assert gone in said
    assert twice in said


def test_verify_since_leaves_out_what_was_before(pipeline: Pipeline) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(1)]))
    pipeline.run("consume", "--until-end")
    assert json.loads(pipeline.run("verify", "--json", "--since", "1h").stdout)["events"] == 1
    after = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    assert json.loads(pipeline.run("verify", "--json", "--since", after).stdout)["events"] == 0


def test_verify_proves_nothing_for_a_group_that_has_done_nothing(pipeline: Pipeline) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(1)]))
    refused = pipeline.run("verify", check=False)
    assert refused.returncode == 3
    assert "has committed nothing" in refused.stderr


def test_status_tells_what_waits_and_who_works(pipeline: Pipeline) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(50)]))
    before = status_of(pipeline)
    assert before["lag"] == 50
    assert before["members"] == 0
    assert before["verdict"].startswith("STOPPED")
    assert before["behind_ms"] > 0
    process = pipeline.start("consume", "--workers", "2")
    after = wait_until(
        lambda: (
            (s := status_of(pipeline))
            and len({p["worker"] for p in s["partitions"]}) == 2
            and not s["lag"]
            and s
        )
    )
    assert after["ok"]
    assert after["members"] == 2
    assert after["unhealthy"] == []
    assert "CURRENT" in pipeline.run("status").stdout
    stop(pipeline, process)


def test_status_says_what_is_wrong_and_work_goes_on_once_it_is_mended(pipeline: Pipeline) -> None:
    pipeline.open_page()
    process = pipeline.start("consume", "--workers", "1")
    pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(20)]))
    wait_until(lambda: pipeline.count() == 20)
    wait_until(lambda: pipeline.ask_page("/readyz") == (200, "ready\n"))
    (index,) = pipeline.get(f"/{pipeline.index}-*/_settings")
    httpx.post(f"{pipeline.elasticsearch}/{index}/_close").raise_for_status()
    pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(20, 60)]))
    sick = wait_until(lambda: (s := status_of(pipeline)) and s["unhealthy"] and s, 60)
    assert "UNHEALTHY" in sick["verdict"]
    assert "open the index" in sick["unhealthy"][0]
    wait_until(lambda: "open the index" in pipeline.ask_page("/readyz")[1])
    assert pipeline.metrics()["paused_scopes", "index"] == 1
    assert sick["lag"] == 40, "nothing is committed past what is not settled"
    assert pipeline.run("dlq", "list", "--json").stdout == ""
    httpx.post(f"{pipeline.elasticsearch}/{index}/_open").raise_for_status()
    wait_until(lambda: pipeline.count() == 60, 60, "what was held is indexed")
    wait_until(lambda: status_of(pipeline)["unhealthy"] == [], 30)
    wait_until(lambda: pipeline.ask_page("/readyz")[0] == 200)
    stop(pipeline, process)
    judged(pipeline).assert_exact()


def test_one_cause_opens_the_circuit_and_accept_lets_letters_through(
    pipeline: Pipeline,
) -> None:
    values = [f"garbage {number}".encode() for number in range(3000)]
    send(bootstrap(pipeline), pipeline.topic, values, partition=0)
    stopped = pipeline.run("consume", "--until-end", check=False)
    assert stopped.returncode == 6, stopped.stderr
    assert "circuit breaker opened" in stopped.stderr
    letters = pipeline.run("dlq", "list", "--json").stdout.splitlines()
    assert len(letters) < 1000
    fingerprint = json.loads(letters[0])["fingerprint"]
    assert f"--accept {fingerprint}" in stopped.stderr
    assert status_of(pipeline)["lag"] >= 2000
    pipeline.run("consume", "--until-end", "--accept", fingerprint)
    result = judged(pipeline)
    result.assert_exact()
    assert len(result.dead) == 3000


def test_an_open_circuit_closes_once_the_deployment_is_mended(pipeline: Pipeline) -> None:
    """A day's index with a wrong mapping refuses everything; then it is created again."""
    started = payload(1)["startTime"] - 3 * 86_400
    day = time.strftime("%Y.%m.%d", time.gmtime(started))
    url = f"{pipeline.elasticsearch}/{pipeline.index}-{day}"
    mappings = {"_meta": {"llmlog_version": 1}, "dynamic": False,
                "properties": {"model": {"type": "long"}}}  # fmt: skip
    httpx.put(url, json={"mappings": mappings}).raise_for_status()
    pipeline.open_page()
    process = pipeline.start("consume")
    values = [encoded(seed, **_of_day(started, seed)) for seed in range(2500)]
    send(bootstrap(pipeline), pipeline.topic, values)
    wait_until(lambda: "circuit breaker opened" in pipeline.stderr_of(process), 60)
    assert "--accept" in wait_until(lambda: status_of(pipeline)["unhealthy"], 30)[0]
    wait_until(lambda: "--accept" in pipeline.ask_page("/readyz")[1])
    assert pipeline.metrics()["paused_scopes", "circuit"] == 1
    dead = len(pipeline.run("dlq", "list", "--json").stdout.splitlines())
    assert dead < 2500
    httpx.delete(url).raise_for_status()
    httpx.put(url).raise_for_status()  # of a past day: no late event creates it again
    wait_until(lambda: status_of(pipeline)["lag"] == 0, 120, "the breaker has closed")
    stop(pipeline, process)
    result = judged(pipeline)
    result.assert_exact()
    assert len(result.dead) == dead
    assert sum(result.documents.values()) == 2500 - dead


def _of_day(started: float, seed: int) -> dict:
    from llmlog_schemas.convert import to_event

    return to_event(payload(seed, startTime=started + seed / 1000))


def test_what_retention_took_is_accepted_recorded_and_passed_over(pipeline: Pipeline) -> None:
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in range(5)], partition=1)
    pipeline.run("consume", "--until-end")
    for partition, seeds in ((1, range(5, 15)), (0, range(20, 25))):
        values = [encoded(seed) for seed in seeds]
        send(bootstrap(pipeline), pipeline.topic, values, partition=partition)
    admin = AdminClient({"bootstrap.servers": bootstrap(pipeline)})
    admin.delete_records([TopicPartition(pipeline.topic, 1, 12)])[
        TopicPartition(pipeline.topic, 1, 12)
    ].result(30)

    pipeline.open_page()
    process = pipeline.start("consume", "--workers", "1")
    wait_until(lambda: "stands still" in pipeline.stderr_of(process), 60)
    wait_until(lambda: pipeline.count() == 10, 60, "the other partition goes on")
    wait_until(lambda: "partition 1 stands still" in pipeline.ask_page("/readyz")[1])
    assert pipeline.metrics()["paused_scopes", "partition"] == 1
    shown = offsets_of(pipeline)
    assert shown[1]["committed"] == 5
    assert shown[1]["log_start"] == 12
    assert "out of range" in shown[1]["state"]
    assert status_of(pipeline)["verdict"].startswith("STUCK")
    difference = pipeline.run("verify", "--json", check=False)
    assert difference.returncode == 7
    (gap,) = json.loads(difference.stdout)["unaccepted_gaps"]
    assert gap == {"partition": f"{pipeline.topic}/1", "first": 5, "next": 12}
    refused = pipeline.run("offsets", "accept-gap", f"{pipeline.topic}/0", "--yes", check=False)
    assert refused.returncode == 2
    assert "no gap" in refused.stderr
    pipeline.run("offsets", "accept-gap", f"{pipeline.topic}/1", "--yes")
    wait_until(lambda: pipeline.count() == 13, 60, "it goes on behind the gap")
    wait_until(lambda: status_of(pipeline)["ok"], 60)
    stop(pipeline, process)
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    assert proof["ok"]
    assert [(g["partition"], g["first"], g["next"]) for g in proof["accepted_gaps"]] == [
        (f"{pipeline.topic}/1", 5, 12)
    ]
    result = judged(pipeline)
    assert not result.lost
    assert not result.doubled
    assert len(result.foreign) == 5, "documents of records that retention has taken since"


def test_a_letter_that_its_topic_finds_too_large_is_cut_and_says_so(pipeline: Pipeline) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap(pipeline)})
    resource = ConfigResource(ResourceType.TOPIC, f"{pipeline.topic}.dlq")
    entry = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
    resource.add_incremental_config(entry)
    admin.incremental_alter_configs([resource])[resource].result(30)
    producer = Producer({"bootstrap.servers": bootstrap(pipeline), "message.max.bytes": 4_000_000})
    noise = os.urandom(300_000)
    producer.produce(pipeline.topic, noise, key="value", partition=0)
    producer.produce(
        pipeline.topic,
        b"x",
        key=os.urandom(200_000),
        headers={"h": os.urandom(200_000)},
        partition=1,
    )
    assert producer.flush(30) == 0
    pipeline.run("consume", "--until-end", "--timeout", "60")
    judged(pipeline).assert_exact()
    by_partition = {
        m.partition(): m for m in read_all(bootstrap(pipeline), f"{pipeline.topic}.dlq")
    }
    headers = dict(by_partition[0].headers())
    assert headers["pipeline.dlq.truncated.length"] == b"300000"
    assert headers["pipeline.dlq.truncated.sha256"].decode() == hashlib.sha256(noise).hexdigest()
    assert noise.startswith(by_partition[0].value())
    assert len(by_partition[1].key()) == 1024


def test_a_header_that_is_not_utf_8_holds_nobody_up(pipeline: Pipeline) -> None:
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-m", "support.foreign", bootstrap(pipeline), pipeline.topic],
            cwd=Path(__file__).parents[1], check=True,
        )  # fmt: skip
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in range(10)])
    pipeline.run("consume", "--until-end", "--timeout", "60")
    assert pipeline.count() == 10
    assert len(pipeline.run("dlq", "list", "--json").stdout.splitlines()) == 3
    assert json.loads(pipeline.run("verify", "--json").stdout)["ok"]


def test_prometheus_is_told_of_each_cause_of_death(pipeline: Pipeline) -> None:
    pipeline.open_page()
    port = pipeline.environment["LLMLOG_METRICS_PORT"]
    values = [encoded(seed) for seed in range(20)]
    send(bootstrap(pipeline), pipeline.topic, [*values, b"garbage", b"garbage", None])
    consuming = pipeline.start("consume", "--workers", "2")

    def page() -> str:
        return pipeline.ask_page("/metrics")[1]

    ended = 'llmlog_consumer_records_total{outcome="'
    wait_until(lambda: f'{ended}indexed"}} 20.0' in page() and f'{ended}dead"}} 3.0' in page())
    lines = pipeline.run("dlq", "list", "--json").stdout.splitlines()
    letters = Counter(json.loads(line)["fingerprint"] for line in lines)
    assert sorted(letters.values()) == [1, 2]
    told = page()
    for fingerprint, number in letters.items():
        cause = f'{{fingerprint="{fingerprint}",stage="decode"}} {number}.0'
        assert f"llmlog_consumer_dead_letters_total{cause}" in told
        assert f"pipeline dlq list --fingerprint {fingerprint}" in pipeline.stderr_of(consuming)
    assert "llmlog_consumer_workers 2.0" in told
    assert "llmlog_consumer_unhealthy_workers 0.0" in told
    refused = pipeline.run("consume", "--until-end", check=False)
    assert refused.returncode == 2
    assert f"LLMLOG_METRICS_PORT: port {port}: Address already in use" in refused.stderr
    stop(pipeline, consuming)

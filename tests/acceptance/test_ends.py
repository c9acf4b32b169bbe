"""How a record ends when the deployment is wrong: by clock, by age, by the Schema Registry."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from llmlog_schemas.codec import Encoder
from support.fake_registry import HTML, OURS, FakeRegistry
from support.judge import judge
from support.payloads import encoded, event, payload, send
from support.pipeline import SLOW, Pipeline, wait_until

CLOCK = str(Path(__file__).parents[1] / "support" / "clock")
DAY = 86_400


def bootstrap(pipeline: Pipeline) -> str:
    return pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]


def letters(pipeline: Pipeline) -> int:
    return int(json.loads(pipeline.run("dlq", "stats", "--json").stdout)["total"])


def exact(pipeline: Pipeline, events: int, dead: int) -> None:
    """Fail unless every event is one document or one letter, or was a letter and is a document."""
    result = judge(bootstrap(pipeline), pipeline.elasticsearch, pipeline.topic, pipeline.index)
    result.assert_exact()
    assert (len(result.sent), len(result.dead)) == (events, dead)


def set_clock(pipeline: Pipeline, days: float) -> None:
    """Move the clock of the commands that follow."""
    rest = os.environ.get("PYTHONPATH", "")
    pipeline.environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, (CLOCK, rest))),
        "CLOCK_OFFSET": str(days * DAY),
    }


def stop(pipeline: Pipeline, process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0, pipeline.stderr_of(process)


# The clock of the consumer


@pytest.mark.parametrize("days", [-2, 401])
def test_a_wrong_clock_holds_events_again_and_again_until_it_is_right(
    pipeline: Pipeline, days: int
) -> None:
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in range(3000)])
    set_clock(pipeline, days)
    first = pipeline.run("consume", "--until-end", check=False)
    assert first.returncode == 6, first.stderr
    assert f"check the clock of {socket.gethostname()}" in first.stderr
    after_first = letters(pipeline)
    assert after_first < 1000
    for workers in ("1", "2"):
        again = pipeline.run("consume", "--until-end", "--workers", workers, check=False)
        assert again.returncode == 6, again.stderr
    assert letters(pipeline) == after_first, "the open circuit was noted"

    set_clock(pipeline, 0)
    pipeline.run("consume", "--until-end")
    exact(pipeline, 3000, after_first)
    (row,) = json.loads(pipeline.run("dlq", "stats", "--json").stdout)["fingerprints"]
    assert row["stage"] == ("expired" if days > 0 else "transform")
    pipeline.run("dlq", "replay", "--yes")
    assert len(pipeline.documents()) == 3000


def test_a_restored_circuit_takes_in_a_hundred_records_and_goes_on_by_itself(
    pipeline: Pipeline,
) -> None:
    send(bootstrap(pipeline), pipeline.topic, [encoded(seed) for seed in range(1500)])
    set_clock(pipeline, -2)
    pipeline.run("consume", "--until-end", check=False)
    before = letters(pipeline)
    process = pipeline.start("consume")
    wait_until(
        lambda: json.loads(pipeline.run("status", "--json", check=False).stdout)["in_flight"],
        what="the probe is held",
    )
    stop(pipeline, process)
    last = pipeline.stderr_of(process).splitlines()[-1]
    assert "consumed=100 " in last, last
    assert "released=100" in last, last
    assert letters(pipeline) == before
    set_clock(pipeline, 0)
    process = pipeline.start("consume")
    wait_until(lambda: pipeline.count() >= 1500 - before, what="the rest is indexed")
    stop(pipeline, process)
    exact(pipeline, 1500, before)


# The age of events


def test_events_that_are_too_old_are_letters_and_many_of_them_have_to_be_let_through(
    pipeline: Pipeline,
) -> None:
    pipeline.environment["LLMLOG_MAX_EVENT_AGE"] = "3 days"
    old = [
        Encoder().encode(event(seed, event_id=event(seed, **old_id(seed))["event_id"]))
        for seed in range(1200)
    ]
    send(bootstrap(pipeline), pipeline.topic, [*old, encoded(5000)], partition=0)
    held = pipeline.run("consume", "--until-end", check=False)
    assert held.returncode == 6, held.stderr
    assert "check the clock" not in held.stderr, "Kafka has them since a moment"
    (row,) = json.loads(pipeline.run("dlq", "stats", "--json").stdout)["fingerprints"]
    assert (row["stage"], row["count"]) == ("expired", 999)
    pipeline.run("consume", "--until-end", "--accept", row["fingerprint"])
    exact(pipeline, 1201, 1200)
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    assert (proof["dead_letters"], proof["retired"], proof["ok"]) == (1200, 0, True)
    dry_run = pipeline.run("dlq", "replay", "--dry-run", "--json").stdout
    assert json.loads(dry_run)["fingerprints"][0]["expired"] == 1200


def old_id(seed: int) -> dict[str, str]:
    from llmlog_schemas.convert import to_event

    started = time.time() // 3600 * 3600 - 5 * DAY - seed
    return {"event_id": to_event(payload(seed, startTime=started))["event_id"]}


def test_an_age_without_a_unit_is_refused(bare_pipeline: Pipeline) -> None:
    bare_pipeline.environment["LLMLOG_MAX_EVENT_AGE"] = "400"
    refused = bare_pipeline.run("setup", check=False)
    assert refused.returncode == 2
    assert "LLMLOG_MAX_EVENT_AGE" in refused.stderr
    assert "400 days" in refused.stderr


# The Schema Registry


def mixed(number: int, schema_id: int = 7) -> list[bytes]:
    """Return values of which every third has Confluent framing."""
    framed = Encoder(schema_id)
    return [framed.encode(event(n)) if n % 3 == 0 else encoded(n) for n in range(number)]


def test_without_a_registry_events_of_a_schema_id_wait_and_the_others_go_on(
    pipeline: Pipeline,
) -> None:
    send(bootstrap(pipeline), pipeline.topic, mixed(1500), partition=0)
    process = pipeline.start("consume")
    wait_until(lambda: pipeline.count() == 1000, what="the others are indexed")
    said = wait_until(
        lambda: json.loads(pipeline.run("status", "--json", check=False).stdout)["unhealthy"],
        what="status names the schema id",
    )
    assert "schema id 7" in str(said)
    assert "LLMLOG_SCHEMA_REGISTRY_URL" in str(said)
    stop(pipeline, process)
    assert letters(pipeline) == 0
    timed_out = pipeline.run("consume", "--until-end", "--timeout", "4", check=False)
    assert timed_out.returncode == 1, "it does not say that all is well"
    with FakeRegistry(OURS) as registry:
        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = registry.url
        pipeline.run("consume", "--until-end")
        assert registry.asked == {7: 1}
    exact(pipeline, 1500, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        HTML,
        (404, {"error_code": 40403, "message": "Schema not found"}),
        (401, {"error_code": 401, "message": "Unauthorized"}),
        (200, {"schema": '{"type": "record", "name": "Order", "fields": []}'}),
        (200, "<html>log in</html>"),
        (503, "<html>busy</html>"),
    ],
)
def test_a_registry_that_is_wrong_is_asked_once_an_interval_and_work_goes_on_when_it_is_right(
    pipeline: Pipeline, wrong: tuple[int, object]
) -> None:
    send(bootstrap(pipeline), pipeline.topic, mixed(600), partition=1)
    with FakeRegistry(wrong) as registry:
        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = registry.url
        process = pipeline.start("consume")
        wait_until(lambda: pipeline.count() == 400, what="the others are indexed")
        wait_until(lambda: "schema id 7" in pipeline.stderr_of(process), what="it is said")
        said = pipeline.stderr_of(process)
        assert registry.url in said or "of no version that this release knows" in said
        assert registry.asked[7] <= 5, "not once a record"
        registry.default = OURS
        wait_until(lambda: pipeline.count() == 600, what="it goes on by itself")
        stop(pipeline, process)
    exact(pipeline, 600, 0)


def test_an_id_that_a_good_registry_does_not_know_becomes_letters(pipeline: Pipeline) -> None:
    values = [*mixed(300, 1), *mixed(30, 99)]
    send(bootstrap(pipeline), pipeline.topic, values, partition=2)
    with FakeRegistry() as registry:
        registry.answers[1] = OURS
        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = registry.url
        pipeline.run("consume", "--until-end")
    (row,) = json.loads(pipeline.run("dlq", "stats", "--json").stdout)["fingerprints"]
    assert (row["stage"], row["count"]) == ("decode", 10)

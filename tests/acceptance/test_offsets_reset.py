"""`pipeline offsets reset`: a group that is stopped goes on at another place."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import httpx

from support.judge import judge
from support.payloads import encoded, send
from support.pipeline import SLOW, Pipeline, wait_until


def write(pipeline: Pipeline, seeds: range) -> None:
    bootstrap = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    send(bootstrap, pipeline.topic, [encoded(seed) for seed in seeds])


def moves(pipeline: Pipeline, *arguments: str) -> list[dict]:
    done = pipeline.run("offsets", "reset", "--json", "--to", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def offsets(pipeline: Pipeline) -> list[dict]:
    shown = pipeline.run("offsets", "show", "--json").stdout
    return [json.loads(line) for line in shown.splitlines()]


def test_a_group_goes_back_and_reads_again_without_a_second_document(pipeline: Pipeline) -> None:
    write(pipeline, range(40))
    running = pipeline.start("consume")
    wait_until(lambda: pipeline.count() == 40, 60)
    refused = pipeline.run("offsets", "reset", "--to", "earliest", "--yes", check=False)
    assert (refused.returncode, "1 members" in refused.stderr) == (2, True)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60 * SLOW) == 0
    before = offsets(pipeline)

    asked = pipeline.run(
        "offsets", "reset", "--to", "earliest", check=False, stdin=subprocess.DEVNULL
    )
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    unknown = pipeline.run("offsets", "reset", "--to", "yesterdai", "--yes", check=False)
    assert unknown.returncode == 2
    dry = moves(pipeline, "earliest", "--dry-run")
    assert sum(move["read_again"] for move in dry) == 40
    # No record is of that time: its end is the end.
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert [m["to"] for m in moves(pipeline, later, "--yes")] == [o["log_end"] for o in before]
    assert offsets(pipeline) == before

    assert moves(pipeline, "1 hour", "--yes") == dry
    gone, *_ = pipeline.documents()
    index = pipeline.get(f"/{pipeline.index}/_search", query={"ids": {"values": [gone]}})
    where = index["hits"]["hits"][0]["_index"]
    httpx.delete(f"{pipeline.elasticsearch}/{where}/_doc/{gone}").raise_for_status()
    again = pipeline.run("consume", "--until-end").stderr
    assert "indexed=1 duplicate=39" in again
    judge(
        pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
        pipeline.elasticsearch,
        pipeline.topic,
        pipeline.index,
    ).assert_exact()


def test_what_a_reset_skips_is_an_accepted_gap_until_it_is_read_again(pipeline: Pipeline) -> None:
    write(pipeline, range(20))
    pipeline.run("consume", "--until-end")
    write(pipeline, range(100, 130))
    skipped = moves(pipeline, "latest", "--yes")
    assert sum(move["skipped"] for move in skipped) == 30
    pipeline.run("consume", "--until-end")
    assert pipeline.count() == 20
    gaps = {o["partition"]: o["gaps"] for o in offsets(pipeline)}
    for move in skipped:
        found = [(gap["first"], gap["next"]) for gap in gaps[move["partition"]]]
        assert found == ([(move["from"], move["to"])] if move["skipped"] else [])

    moves(pipeline, "earliest", "--yes")
    assert all(not o["gaps"] for o in offsets(pipeline))
    pipeline.run("consume", "--until-end")
    assert pipeline.count() == 50
    assert json.loads(pipeline.run("verify", "--json").stdout)["ok"]

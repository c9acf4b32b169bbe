"""What it costs to look at a million dead letters, and how fast they are put back."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import arena, load
from benchmarks.bench import Bench
from benchmarks.figures import Figures, rounds
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.headers import build_headers
from support.messages import Message

LETTERS = int(os.environ.get("BENCH_LETTERS", "1000000"))
SHORT, LONG = 20_000, 120_000
GROUP = "bench"
"""The consumer group that wrote the letters: the commands read those of their own."""
CAUSES = tuple(
    Cause(
        Stage.INDEX, Ending.PERMANENT, es_status=400, es_type="document_parsing_exception",
        reason=f"[1:27] failed to parse field [{field}] of type [long] in document with id 'x'",
        es_caused_by='illegal_argument_exception: For input string: "soon"',
        index="bench-2026.01.01", document_id="AAAAAAAAAAAAAAAAAAAA", model=model, attempts=1,
    )
    for field in ("end_user", "metadata.team", "metadata.cost", "response.id", "model_id")
    for model in ("gpt-4o", "claude-sonnet-4-5")
)  # fmt: skip


def letters(topic: str, count: int) -> Iterator[tuple[str, bytes, list]]:
    """Yield key, value and headers of each letter, in the order of `load.write`."""
    known = {}
    for number, (key, value) in enumerate(load.values(2000, count)):
        cause, partition = number % len(CAUSES), number % load.PARTITIONS
        if (cause, partition) not in known:
            source = Message(topic, partition, 0)
            known[cause, partition] = dict(build_headers(source, CAUSES[cause], group=GROUP))
        headers = known[cause, partition]
        headers["pipeline.dlq.offset"] = str(number // load.PARTITIONS).encode()
        yield key, value, list(headers.items())


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Create a topic and its dead-letter topic, the latter full."""
    load.create(bootstrap, topic)
    load.write(bootstrap, f"{topic}.dlq", letters(topic, count))


def measure(figures: Figures) -> None:
    """Measure `stats` over all letters, and `replay` beside `consume` of the same records."""
    with tempfile.TemporaryDirectory() as name, arena.kafka(Path(name)) as kafka:
        arena.aside(fill, kafka.bootstrap_servers, "many", LETTERS)
        for count in (SHORT, LONG):
            arena.aside(fill, kafka.bootstrap_servers, f"few-{count}", count)
            arena.aside(load.fill, kafka.bootstrap_servers, f"alive-{count}", 2000, count)
        for _ in rounds():
            figures.add(**_stats(kafka.bootstrap_servers))
        with arena.elasticsearch(Path(name) / "shared") as server:
            print("sharing the cores with Elasticsearch", flush=True)
            bench = Bench(kafka.bootstrap_servers, server.url, real=True)
            bench.consume(f"alive-{LONG}", 1)  # a JVM is slow at first
            for _ in rounds():
                figures.add(dlq_replay_vs_consume=_replay(bench))
        with arena.elasticsearch_apart(Path(name) / "pinned", kafka) as pinned:
            print("Elasticsearch on a core of its own", flush=True)
            bench = Bench(kafka.bootstrap_servers, pinned.url, real=True)
            bench.consume(f"alive-{LONG}", 1)
            for _ in rounds():
                figures.add(dlq_replay_vs_consume_pinned=_replay(bench))


def _stats(bootstrap: str) -> dict[str, float]:
    settings = {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "LLMLOG_TOPIC": "many",
        "LLMLOG_GROUP": GROUP,
    }
    usage = arena.pipeline(settings, "dlq", "stats", "--json")
    assert json.loads(usage.stdout)["total"] == LETTERS
    return {
        "dlq_stats_letters_per_s": LETTERS / usage.cpu_s,
        "dlq_stats_rss_mb": usage.watch.peak_mb,
    }


def _replay(bench: Bench) -> float:
    """Return the throughput of a replay over that of a consumer with the same records."""

    def replay(topic: str) -> arena.Usage:
        settings = bench.ready(topic)
        as_group = {**settings, "LLMLOG_GROUP": GROUP}
        usage = arena.pipeline(as_group, "dlq", "replay", "--yes")
        bench.done(settings)
        return usage

    number = LONG - SHORT
    consuming = [bench.consume(f"alive-{count}", 1) for count in (SHORT, LONG)]
    replaying = [replay(f"few-{count}") for count in (SHORT, LONG)]
    rates, costs = [], []
    for short, long in (consuming, replaying):
        rates.append(number / (long.wall_s - short.wall_s))
        costs.append((long.cpu_s - short.cpu_s) / number * 1e6)
    print(
        f"    documents a second: consumed {rates[0]:,.0f}, replayed {rates[1]:,.0f}; "
        f"µs of CPU for each: {costs[0]:.1f}, {costs[1]:.1f}"
    )
    return rates[1] / rates[0]

"""What a call costs in each kind of use, and how near `pipeline size` comes.

`make bench ONLY=sizing` measures two loads of each kind, and prints the lines through them:
`FIGURES` of `consumer/llmlog_consumer/sizing.py`. Then it measures a third load of each, and prints
it beside what those lines say; `BENCH_KINDS=prompts` takes one kind. Disk and Elasticsearch's CPU
are of real servers, the worker's CPU is against the stub.

Both CPUs are differences between a long run and a short one, so that starts cancel out. A JVM
compiles what it runs for its first minutes, at the cost of as much CPU again: Elasticsearch takes
each kind once before anything is counted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from confluent_kafka import Producer

from benchmarks import arena, load
from benchmarks.bench import Bench
from benchmarks.event_kinds import values
from benchmarks.figures import Figures
from llmlog_common.kafka_clients import producer_config
from llmlog_common.settings import load as load_settings
from llmlog_consumer.sizing import Line
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.kafka import KafkaServer

CALIBRATION = {"prompts": (2_000, 20_000), "sessions": (8_000, 60_000), "agents": (8_000, 60_000)}
"""Bytes of an event, twice for each kind: a line goes through both."""
OTHER = {"prompts": 6_000, "sessions": 25_000, "agents": 20_000}
WARM_UP = {"prompts": 3_000, "sessions": 12_000, "agents": 12_000}
"""Bytes of an event of what is indexed first and not counted."""
INDEXED_BYTES, CONSUMED_BYTES = 60_000_000, 160_000_000
"""Of events that one measurement sends to Elasticsearch, and to the stub."""
SHORT_SHARE = 5
BURST = 50
"""Events that a gateway sends together, to one partition."""
QUANTITIES = ("topic_bytes", "index_bytes", "worker_us", "elasticsearch_us")


@dataclass(frozen=True)
class Seen:
    """Of one call: bytes, and µs of CPU."""

    event_bytes: float
    topic_bytes: float
    index_bytes: float
    worker_us: float
    elasticsearch_us: float


@dataclass(frozen=True)
class Servers:
    """Those that all measurements share."""

    kafka: KafkaServer
    elasticsearch: ElasticsearchServer
    stub: arena.Stub


def fill(bootstrap: str, topic: str, kind: str, size: int, count: int, seed: int) -> None:
    """Make a topic as gateways fill it: one burst to one partition."""
    load.create(bootstrap, topic)
    settings = load_settings(environ={"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": bootstrap})
    producer = Producer(producer_config(settings))
    for number, (key, value) in enumerate(values(kind, size, count, seed)):
        producer.produce(topic, value, key, partition=number // BURST % load.PARTITIONS)
        if number % BURST == BURST - 1:
            producer.flush()
    assert producer.flush(120) == 0


@dataclass(frozen=True)
class Indexed:
    """What a topic took in Elasticsearch: seconds of its CPU, bytes on its disk."""

    cpu_s: float
    disk_bytes: int


def index(servers: Servers, topic: str, count: int) -> Indexed:
    """Consume a topic of this many events into Elasticsearch."""
    url = servers.elasticsearch.url
    bench = Bench(servers.kafka.bootstrap_servers, url, real=True)
    settings = bench.ready(topic)
    search = psutil.Process(servers.elasticsearch.pid)
    before = search.cpu_times()
    arena.pipeline(settings, "consume", "--until-end")
    alias = settings["LLMLOG_INDEX"]
    for action in ("_refresh", "_flush"):
        httpx.post(f"{url}/{alias}-*/{action}", timeout=120)
    after = search.cpu_times()
    stats = httpx.get(f"{url}/{alias}-*/_stats/store,docs", timeout=120).json()
    found = stats["_all"]["primaries"]
    assert found["docs"]["count"] == count, (found, count)
    bench.done(settings)
    return Indexed(
        after.user + after.system - before.user - before.system, found["store"]["size_in_bytes"]
    )


def fill_all(servers: Servers, kind: str, size: int, counts: Mapping[str, int], seed: int) -> None:
    """Make a topic of each count, named after it."""
    for name, count in counts.items():
        topic = f"{name}-{kind}-{size}"
        arena.aside(fill, servers.kafka.bootstrap_servers, topic, kind, size, count, seed)


def warm_up(servers: Servers, kind: str, size: int) -> None:
    """Let Elasticsearch take a kind, uncounted."""
    count = INDEXED_BYTES // size
    fill_all(servers, kind, size, {"first": count}, 9)
    index(servers, f"first-{kind}-{size}", count)


def measure(servers: Servers, folder: Path, kind: str, size: int, seed: int) -> Seen:
    """Measure one load: what it costs beyond that of a short one."""
    indexed, consumed = INDEXED_BYTES // size, CONSUMED_BYTES // size
    few_indexed, few_consumed = indexed // SHORT_SHARE, consumed // SHORT_SHARE
    counts = {"indexed": indexed, "few-indexed": few_indexed,
              "many": consumed, "few": few_consumed}  # fmt: skip
    topics = {name: f"{name}-{kind}-{size}" for name in counts}
    fill_all(servers, kind, size, counts, seed)
    stub = Bench(servers.kafka.bootstrap_servers, servers.stub.url, real=False)
    few, many = (stub.consume(topics[name], 1) for name in ("few", "many"))
    short = index(servers, topics["few-indexed"], few_indexed)
    long = index(servers, topics["indexed"], indexed)
    topic_bytes = sum(
        path.stat().st_size
        for path in (folder / "kafka").rglob("*.log")
        if path.parent.name.rpartition("-")[0] == topics["indexed"]
    )
    lengths = [len(value) for _, value in values(kind, size, min(indexed, 400), seed)]
    return Seen(
        event_bytes=sum(lengths) / len(lengths),
        topic_bytes=topic_bytes / indexed,
        index_bytes=long.disk_bytes / indexed,
        worker_us=(many.cpu_s - few.cpu_s) / (consumed - few_consumed) * 1e6,
        elasticsearch_us=(long.cpu_s - short.cpu_s) / (indexed - few_indexed) * 1e6,
    )


def line_through(one: Seen, two: Seen, quantity: str) -> Line:
    """Return the line through both."""
    rise = getattr(two, quantity) - getattr(one, quantity)
    slope = rise / (two.event_bytes - one.event_bytes)
    fixed = getattr(one, quantity) - slope * one.event_bytes
    return Line(round(fixed, 1), round(slope, 6), round(one.event_bytes))


def report(servers: Servers, folder: Path, kinds: Collection[str]) -> None:
    """Measure and print all of it."""
    for kind in kinds:
        warm_up(servers, kind, WARM_UP[kind])
    lines: dict[str, dict[str, Line]] = {}
    for kind in kinds:
        sizes = CALIBRATION[kind]
        seen = [measure(servers, folder, kind, size, seed) for seed, size in enumerate(sizes)]
        lines[kind] = {name: line_through(seen[0], seen[1], name) for name in QUANTITIES}
        print(kind, *seen, sep="\n    ", flush=True)
        for name, line in lines[kind].items():
            print(f"        {name}={line},", flush=True)
    for kind in kinds:
        seen_one = measure(servers, folder, kind, OTHER[kind], 77)
        print(f"{kind}, {seen_one.event_bytes:,.0f} bytes", flush=True)
        for name in QUANTITIES:
            told, found = lines[kind][name].at(seen_one.event_bytes), getattr(seen_one, name)
            error = told / found - 1
            print(f"    {name:17} {told:9,.1f} predicted, {found:9,.1f} measured: {error:+.0%}",
                  flush=True)  # fmt: skip


def measure_all(figures: Figures) -> None:
    """Run the servers, and measure; it prints, and has no goals."""
    del figures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            arena.kafka(folder) as kafka,
            arena.elasticsearch(folder / "es") as elasticsearch,
            arena.stub() as stub,
        ):
            kinds = os.environ.get("BENCH_KINDS", ",".join(CALIBRATION)).split(",")
            report(Servers(kafka, elasticsearch, stub), folder, kinds)

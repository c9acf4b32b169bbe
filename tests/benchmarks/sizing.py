"""What a call costs in each kind of use, and how near `pipeline size` comes.

`make bench ONLY=sizing` measures two loads of each kind, and prints the lines through them:
`FIGURES` of `consumer/llmlog_consumer/sizing.py`. Then it measures a third load of each, and prints
it beside what those lines say. Disk and Elasticsearch's CPU are of real servers, the worker's CPU
is against the stub.
"""

from __future__ import annotations

import tempfile
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
INDEXED_BYTES, CONSUMED_BYTES = 20_000_000, 160_000_000
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


def measure(servers: Servers, folder: Path, kind: str, size: int, seed: int) -> Seen:
    """Measure one load: what it costs beyond that of a short one."""
    bootstrap, url = servers.kafka.bootstrap_servers, servers.elasticsearch.url
    indexed, consumed = INDEXED_BYTES // size, CONSUMED_BYTES // size
    counts = {"indexed": indexed, "few": consumed // SHORT_SHARE, "many": consumed}
    topics = {name: f"{name}-{kind}-{size}" for name in counts}
    for name, count in counts.items():
        arena.aside(fill, bootstrap, topics[name], kind, size, count, seed)
    stub = Bench(bootstrap, servers.stub.url, real=False)
    few, many = (stub.consume(topics[name], 1) for name in ("few", "many"))
    real = Bench(bootstrap, url, real=True)
    settings = real.ready(topics["indexed"])
    search = psutil.Process(servers.elasticsearch.pid)
    before = search.cpu_times()
    arena.pipeline(settings, "consume", "--until-end")
    alias = settings["LLMLOG_INDEX"]
    for action in ("_refresh", "_flush"):
        httpx.post(f"{url}/{alias}-*/{action}", timeout=120)
    after = search.cpu_times()
    stats = httpx.get(f"{url}/{alias}-*/_stats/store,docs", timeout=120).json()
    found = stats["_all"]["primaries"]
    assert found["docs"]["count"] == indexed, (found, indexed)
    real.done(settings)
    topic_bytes = sum(
        path.stat().st_size
        for path in folder.rglob("*.log")
        if path.parent.name.rpartition("-")[0] == topics["indexed"]
    )
    lengths = [len(value) for _, value in values(kind, size, min(indexed, 400), seed)]
    cpu = after.user + after.system - before.user - before.system
    return Seen(
        event_bytes=sum(lengths) / len(lengths),
        topic_bytes=topic_bytes / indexed,
        index_bytes=found["store"]["size_in_bytes"] / indexed,
        worker_us=(many.cpu_s - few.cpu_s) / (consumed - consumed // SHORT_SHARE) * 1e6,
        elasticsearch_us=cpu / indexed * 1e6,
    )


def line_through(one: Seen, two: Seen, quantity: str) -> Line:
    """Return the line through both."""
    rise = getattr(two, quantity) - getattr(one, quantity)
    slope = rise / (two.event_bytes - one.event_bytes)
    fixed = getattr(one, quantity) - slope * one.event_bytes
    return Line(round(fixed, 1), round(slope, 6), round(one.event_bytes))


def report(servers: Servers, folder: Path) -> None:
    """Measure and print all of it."""
    # What comes first pays for the start of both servers, and is not counted.
    measure(servers, folder, "prompts", 3_000, 9)
    lines: dict[str, dict[str, Line]] = {}
    for kind, sizes in CALIBRATION.items():
        seen = [measure(servers, folder, kind, size, seed) for seed, size in enumerate(sizes)]
        lines[kind] = {name: line_through(seen[0], seen[1], name) for name in QUANTITIES}
        print(kind, *seen, sep="\n    ", flush=True)
        for name, line in lines[kind].items():
            print(f"        {name}={line},", flush=True)
    for kind, size in OTHER.items():
        seen_one = measure(servers, folder, kind, size, 77)
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
            report(Servers(kafka, elasticsearch, stub), folder)

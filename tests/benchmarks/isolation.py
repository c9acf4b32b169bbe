"""What one bad part costs the others: 1% of events for indices that take none.

One topic, one Elasticsearch. In turn the indices of four earlier days take their events, or one is
blocked, one closed, one deleted, and one cannot be created because the cluster has no more shards.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from benchmarks import arena, load, sizes
from benchmarks.bench import LONG, Bench
from benchmarks.figures import Figures, rounds
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index

_DAYS_AGO = (2, 3, 4, 5)
_PAIRS = 2
_BEGIN, _END = 0.1, 0.98
"""Shares of today's documents between which time is taken: a start costs the same either way."""


def measure(figures: Figures) -> None:
    """Measure the throughput of today's events beside late ones, and what the command costs."""
    print("1% of events for indices that take none", flush=True)
    _measure_late(figures)
    print("the whole command", flush=True)
    sizes.measure(figures)


def _measure_late(figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with arena.kafka(folder) as kafka, arena.elasticsearch(folder / "es") as server:
            arena.aside(load.fill_late, kafka.bootstrap_servers, "late", 2000, LONG, _DAYS_AGO)
            bench = Bench(kafka.bootstrap_servers, server.url, real=True)
            for number in rounds():
                for pair in range(_PAIRS):
                    both = [True, False] if (number + pair) % 2 else [False, True]
                    rates = {broken: _run(bench, broken=broken) for broken in both}
                    (broken, rss_mb), (whole, _) = rates[True], rates[False]
                    print(
                        f"    documents a second: {broken:,.0f}, {whole:,.0f} without", flush=True
                    )
                    figures.add(
                        late_events_throughput=broken / whole,
                        docs_per_s_late_events=broken,
                        worker_rss_mb_late_events=rss_mb,
                    )


def _run(bench: Bench, *, broken: bool) -> tuple[float, float]:
    """Return today's documents a second, and the most megabytes of the worker."""
    settings = bench.ready("late")
    now_ms = int(time.time() * 1000)
    today, *late = (
        daily_index(settings["LLMLOG_INDEX"], now_ms - d * DAY_MS) for d in (0, *_DAYS_AGO)
    )
    for index in late[:-1] if broken else late:
        httpx.put(f"{bench.url}/{index}", timeout=60).raise_for_status()
    if broken:
        _break(bench.url, *late)
    try:
        return _time(bench, settings, today)
    finally:
        _set_max_shards(bench.url, None)
        bench.done(settings)


def _break(url: str, blocked: str, closed: str, deleted: str, _full: str) -> None:
    block = {"index.blocks.write": True}
    httpx.put(f"{url}/{blocked}/_settings", json=block, timeout=60).raise_for_status()
    httpx.post(f"{url}/{closed}/_close", timeout=60).raise_for_status()
    httpx.delete(f"{url}/{deleted}", timeout=60).raise_for_status()
    # It does not exist yet, and is not created.
    _set_max_shards(url, 1)


def _set_max_shards(url: str, number: int | None) -> None:
    body = {"persistent": {"cluster.max_shards_per_node": number}}
    httpx.put(f"{url}/_cluster/settings", json=body, timeout=60).raise_for_status()


def _time(bench: Bench, settings: Mapping[str, str], today: str) -> tuple[float, float]:
    expected = LONG - LONG // 100
    with arena.consuming(settings) as watch:
        began = _wait(bench.url, today, int(expected * _BEGIN))
        ended = _wait(bench.url, today, int(expected * _END))
    number = ended[1] - began[1]
    return number / (ended[0] - began[0]), watch.peak_mb


def _wait(url: str, index: str, number: int) -> tuple[float, int]:
    """Return when an index has so many documents, and how many it has then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        stats = httpx.get(f"{url}/{index}/_stats/indexing", timeout=60).json()
        created = stats["_all"]["primaries"]["indexing"]["index_total"]
        if created >= number:
            return time.monotonic(), created
        time.sleep(0.02)
    raise SystemExit(f"{index} does not get {number} documents")

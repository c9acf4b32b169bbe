"""What each choice of the index costs: direct `_bulk` of the same documents into each variant."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks import arena, ceiling, load
from benchmarks.bench import Bench
from benchmarks.figures import Figures, rounds

DOCUMENTS = 80_000
FORM = ceiling.Form(1, 2)
INSTALLED = "as installed"
VARIANTS: dict[str, dict[str, Any]] = {
    INSTALLED: {},
    "refresh_interval 1s": {"refresh_interval": "1s"},
    "refresh_interval 2500ms": {"refresh_interval": "2500ms"},
    "refresh_interval 5s": {"refresh_interval": "5s"},
    "refresh_interval 60s": {"refresh_interval": "60s"},
    # `best_compression` itself wants a native library, which an Elasticsearch of jars has not.
    "codec legacy_best_compression": {"codec": "legacy_best_compression"},
    "translog async": {"translog": {"durability": "async"}},
    "random ids": {},
    "no text fields": {},
}


def measure(figures: Figures, *, alone: bool = False) -> None:
    """Print documents a second and bytes a document, as a ratio to what `setup` installs.

    Args:
        figures: not used: these are ratios without goals, printed alone.
        alone: nothing else is measured in this run; otherwise one round has to do.
    """
    del figures
    speed: dict[str, list[float]] = defaultdict(list)
    size: dict[str, float] = {}
    topic = f"2kb-{DOCUMENTS}"
    with tempfile.TemporaryDirectory() as name, arena.kafka(Path(name)) as kafka:
        arena.aside(load.fill, kafka.bootstrap_servers, topic, 2000, DOCUMENTS)
        with arena.elasticsearch(Path(name) / "elasticsearch") as server:
            bench = Bench(kafka.bootstrap_servers, server.url, real=True)
            ceiling.post(bench, topic, FORM)  # a JVM is slow at first
            for _ in rounds() if alone else (1,):
                # There and back: what gets faster or slower meanwhile does so for all of them.
                for variant in (*VARIANTS, *reversed(VARIANTS)):
                    rate, size[variant] = _run(bench, topic, variant)
                    speed[variant].append(rate)
                    print(f"    {variant:32}{rate:10,.0f} documents a second", flush=True)
    medians = {variant: statistics.median(seen) for variant, seen in speed.items()}
    print(f"\n{'index':32}{'documents/s':>14}{'ratio':>8}{'bytes each':>12}")
    for variant, rate in medians.items():
        ratio = rate / medians[INSTALLED]
        print(f"{variant:32}{rate:14.0f}{ratio:8.2f}{size[variant]:12.0f}")


def _run(bench: Bench, topic: str, variant: str) -> tuple[float, float]:
    settings = dict(bench.ready(topic))
    index = settings["LLMLOG_INDEX"]
    url = f"{bench.url}/_index_template/{index}"
    template = httpx.get(url).json()["index_templates"][0]["index_template"]
    settings_of_template = template["template"].setdefault("settings", {})
    settings_of_template.setdefault("index", {}).update(VARIANTS[variant])
    if variant == "no text fields":
        for field in template["template"]["mappings"]["properties"].values():
            if field["type"] == "text":
                field["index"] = False
    httpx.put(url, json=template).raise_for_status()
    for made in httpx.get(f"{bench.url}/{index}-*/_settings").json():  # of today, by `setup`
        httpx.delete(f"{bench.url}/{made}", timeout=60).raise_for_status()
        httpx.put(f"{bench.url}/{made}", timeout=60).raise_for_status()
        health = f"{bench.url}/_cluster/health/{made}?wait_for_status=green&timeout=60s"
        httpx.get(health, timeout=90).raise_for_status()
    if variant == "random ids":
        settings["BENCH_IDS"] = "random"
    command = [sys.executable, str(arena.SCRIPTS / "direct.py"), *FORM.arguments]
    usage = arena.run(command, settings)
    httpx.post(f"{bench.url}/{index}-*/_flush", timeout=60).raise_for_status()
    stored = httpx.get(f"{bench.url}/{index}-*/_stats/store").json()
    bench.done(settings)
    said = json.loads(usage.stdout)
    in_bytes = stored["_all"]["primaries"]["store"]["size_in_bytes"]
    return said["documents"] / said["seconds"], in_bytes / said["documents"]

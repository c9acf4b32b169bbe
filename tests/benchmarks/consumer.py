"""What a worker costs and how fast it is: against a stub, and against a real Elasticsearch.

Against the stub, which answers at once, only the worker counts. Against Elasticsearch the ceiling
is direct `_bulk`: the same documents, ready-made, over four connections, without Kafka.
Start-up cancels out: a figure is the difference between a long topic and a short one.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks import arena, load
from benchmarks.figures import Figures, rounds

SHORT, LONG, LONGEST = 40_000, 240_000, 1_000_000
"""Records of a topic. The longest is for two workers: they join one after the other, and only
what comes after that is compared."""
_names = itertools.count()


class Bench:
    """Consumes topics of two lengths into some sink.

    Args:
        bootstrap: of the broker.
        url: of the sink.
        real: the sink is an Elasticsearch: indices are made and deleted.
    """

    def __init__(self, bootstrap: str, url: str, *, real: bool) -> None:
        self.bootstrap = bootstrap
        self.url = url
        self.real = real

    def settings(self, topic: str) -> Mapping[str, str]:
        """Return the settings of a run with index and group of its own."""
        name = f"bench-{next(_names)}-run"  # an alias: only a day ends in a digit
        return {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "LLMLOG_ELASTICSEARCH_URL": self.url,
            "LLMLOG_TOPIC": topic,
            "LLMLOG_INDEX": name,
            "LLMLOG_GROUP": name,
        }

    def ready(self, topic: str) -> Mapping[str, str]:
        """Return such settings, the index set up."""
        settings = self.settings(topic)
        if self.real:
            arena.pipeline(settings, "setup")
        return settings

    def done(self, settings: Mapping[str, str]) -> None:
        """Forget what was indexed."""
        if self.real:
            names = httpx.get(f"{self.url}/{settings['LLMLOG_INDEX']}-*/_settings").json()
            for name in names:
                httpx.delete(f"{self.url}/{name}", timeout=60).raise_for_status()

    def consume(self, topic: str, workers: int) -> arena.Usage:
        """Consume a whole topic."""
        settings = self.ready(topic)
        usage = arena.pipeline(settings, "consume", "--until-end", "--workers", str(workers))
        self.done(settings)
        return usage

    def difference(
        self, prefix: str, workers: int = 1, lengths: tuple[int, int] = (SHORT, LONG)
    ) -> tuple[float, float, float]:
        """Return µs of CPU a document, documents a second, and megabytes."""
        short, long = (self.consume(f"{prefix}-{length}", workers) for length in lengths)
        number = lengths[1] - lengths[0]
        rate = number / (long.wall_s - short.wall_s)
        return (long.cpu_s - short.cpu_s) / number * 1e6, rate, long.rss_mb

    def script(self, name: str, topic: str) -> float:
        """Run one of the scripts beside this file over a topic; return documents a second."""
        settings = self.ready(topic)
        usage = arena.run([sys.executable, str(arena.HERE / name)], settings)
        self.done(settings)
        said = json.loads(usage.stdout)
        return float(said["documents"] / said["seconds"])


def measure(figures: Figures) -> None:
    """Measure everything about the consumer."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        kafka = stack.enter_context(arena.kafka(folder))
        for prefix, size, bad in (("2kb", 2000, 0.0), ("500b", 500, 0.0), ("dead", 2000, 0.01)):
            for count in (SHORT, LONG):
                topic = f"{prefix}-{count}"
                arena.aside(load.fill, kafka.bootstrap_servers, topic, size, count, bad)
        arena.aside(load.fill, kafka.bootstrap_servers, f"2kb-{LONGEST}", 2000, LONGEST)
        with arena.stub() as url:
            print("against the stub", flush=True)
            _stub(Bench(kafka.bootstrap_servers, url, real=False), figures)
            _profile(kafka.bootstrap_servers, url)
        with arena.elasticsearch(folder / "shared") as server:
            print("sharing the cores with Elasticsearch", flush=True)
            _shared(Bench(kafka.bootstrap_servers, server.url, real=True), figures)
        with arena.on_core(0):
            pinned = stack.enter_context(arena.elasticsearch(folder / "pinned"))
        with arena.moved(kafka.pid, 1), arena.on_core(1):
            print("Elasticsearch on a core of its own", flush=True)
            _pinned(Bench(kafka.bootstrap_servers, pinned.url, real=True), figures)


def _stub(bench: Bench, figures: Figures) -> None:
    for _ in rounds():
        large, _, rss_mb = bench.difference("2kb")
        small, _, _ = bench.difference("500b")
        dead, _, _ = bench.difference("dead")
        _, one_worker, _ = bench.difference("2kb", 1, (LONG, LONGEST))
        _, two_workers, _ = bench.difference("2kb", 2, (LONG, LONGEST))
        figures.add(
            cpu_us_per_doc_2kb=large,
            cpu_us_per_doc_500b=small,
            worker_rss_mb=rss_mb,
            dead_letter_cost=dead / large - 1,
            docs_per_s_stub_1_worker=one_worker,
            docs_per_s_stub_2_workers=two_workers,
            workers_1_to_2=two_workers / one_worker,
        )


def _profile(bootstrap: str, url: str) -> None:
    for prefix in ("2kb", "500b"):
        bench = Bench(bootstrap, url, real=False)
        settings = bench.settings(f"{prefix}-{LONG}")
        print(arena.run([sys.executable, str(arena.HERE / "stages.py")], settings).stdout)


def _shared(bench: Bench, figures: Figures) -> None:
    bench.script("direct.py", f"2kb-{SHORT}")  # a JVM is slow at first
    for _ in rounds():
        direct = bench.script("direct.py", f"2kb-{LONG}")
        _, ours, _ = bench.difference("2kb")
        forty = bench.script("forty_lines.py", f"2kb-{LONG}")
        figures.add(
            direct_bulk_docs_per_s=direct,
            share_of_direct_bulk=ours / direct,
            times_forty_lines=ours / forty,
        )


def _pinned(bench: Bench, figures: Figures) -> None:
    bench.script("direct.py", f"2kb-{SHORT}")
    for _ in rounds():
        direct = bench.script("direct.py", f"2kb-{LONG}")
        _, ours, _ = bench.difference("2kb")
        figures.add(share_of_direct_bulk_pinned=ours / direct)

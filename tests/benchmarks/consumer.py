"""What a worker costs and how fast it is: against a stub, and against a real Elasticsearch.

Against the stub, which answers at once, only the worker counts. Against Elasticsearch the ceiling
is direct `_bulk`: the same documents, ready-made, without Kafka.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import arena, ceiling, load, scaling
from benchmarks.bench import LONG, SHORT, Bench
from benchmarks.figures import Figures, rounds

_PAIRS = 3
"""Times a round, against the stub: a run takes a second or two, and what is looked for is small."""


def measure(figures: Figures) -> None:
    """Measure everything about the consumer."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        kafka = stack.enter_context(arena.kafka(folder))
        for prefix, size, bad in (("2kb", 2000, 0.0), ("500b", 500, 0.0), ("dead", 2000, 0.01)):
            for count in (SHORT, LONG):
                topic = f"{prefix}-{count}"
                arena.aside(load.fill, kafka.bootstrap_servers, topic, size, count, bad)
        with arena.stub() as sink:
            others = {"broker": kafka.pid, "stub": sink.pid}
            bench = Bench(kafka.bootstrap_servers, sink.url, real=False, others=others)
            print("against the stub: what a document costs", flush=True)
            _cost(bench, figures)
            _profile(bench, figures)
            print("against the stub: one worker and two", flush=True)
            scaling.measure(figures, bench, sink)
        with arena.elasticsearch(folder / "shared") as server:
            print("sharing the cores with Elasticsearch", flush=True)
            _shared(Bench(kafka.bootstrap_servers, server.url, real=True), figures)
        with arena.elasticsearch_apart(folder / "pinned", kafka) as pinned:
            print("Elasticsearch on a core of its own", flush=True)
            _pinned(Bench(kafka.bootstrap_servers, pinned.url, real=True), figures)


def _cost(bench: Bench, figures: Figures) -> None:
    for _ in rounds():
        for _ in range(_PAIRS):
            large, _, rss_mb = bench.difference("2kb")
            small, _, _ = bench.difference("500b")
            dead, _, _ = bench.difference("dead")
            figures.add(
                cpu_us_per_doc_2kb=large,
                cpu_us_per_doc_500b=small,
                worker_rss_mb=rss_mb,
                dead_letter_cost=dead / large - 1,
            )


def _profile(bench: Bench, figures: Figures) -> None:
    for prefix in ("2kb", "500b"):
        settings = bench.settings(f"{prefix}-{LONG}")
        profile = arena.run([sys.executable, str(arena.SCRIPTS / "stages.py")], settings).stdout
        print(profile, flush=True)
        figures.explain(f"cpu_us_per_doc_{prefix}", profile)


def _shared(bench: Bench, figures: Figures) -> None:
    forms = ceiling.candidates(bench)
    for _ in rounds():
        direct, form = ceiling.ceiling(bench, forms)
        _, ours, _ = bench.difference("2kb")
        forty = bench.script("forty_lines.py", f"2kb-{LONG}")
        print(
            f"    documents a second: direct _bulk {direct:,.0f} ({form}), "
            f"`pipeline consume --workers 1 --until-end` {ours:,.0f} ({ours / direct:.2f} of it), "
            f"forty lines of Python {forty:,.0f}: {ours / forty:.2f} times as fast"
        )
        figures.add(
            direct_bulk_docs_per_s=direct,
            share_of_direct_bulk=ours / direct,
            times_forty_lines=ours / forty,
        )


def _pinned(bench: Bench, figures: Figures) -> None:
    forms = ceiling.candidates(bench)
    for _ in rounds():
        direct, form = ceiling.ceiling(bench, forms)
        _, ours, _ = bench.difference("2kb")
        print(f"    documents a second: direct _bulk {direct:,.0f} ({form}), ours {ours:,.0f}")
        figures.add(
            direct_bulk_docs_per_s_pinned=direct,
            share_of_direct_bulk_pinned=ours / direct,
        )

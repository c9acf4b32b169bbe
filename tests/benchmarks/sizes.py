"""What `pipeline consume` costs as a whole: its start, its memory in each state, a rebalance.

All against the stub, which can refuse documents as Elasticsearch does; a second worker is compared
against a real Elasticsearch, beside which it has to share two cores.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks import arena, load
from benchmarks.bench import Bench
from benchmarks.figures import Figures, rounds

_RECORDS = 200_000
_PAUSED_SECONDS = 12.0
"""Time in a paused state: the queues are full long before."""
_MEMBER_SECONDS = 8.0
"""Time for which a second member is there."""
_SIZES = {"2kb": (2_000, 150_000), "1500kb": (1_500_000, 250), "8mb": (8_000_000, 100)}
"""Bytes of a record, and records: at least 300 MB of each."""
_BLOCK = "index [i] blocked by: [FORBIDDEN/8/index write (api)];"
_STATES: dict[str, tuple[int, str, str] | None] = {
    "away": None,
    "pushed back": (429, "es_rejected_execution_exception", "rejected execution"),
    "index blocked": (403, "cluster_block_exception", _BLOCK),
    "circuit open": (400, "document_parsing_exception", "failed to parse field [model]"),
}
"""Status, type and reason with which every document is refused; None where no server is there."""


def measure(figures: Figures) -> None:
    """Measure all of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with arena.kafka(folder) as kafka:
            servers = kafka.bootstrap_servers
            arena.aside(load.fill, servers, "whole", 2000, _RECORDS)
            with arena.stub() as sink:
                bench = Bench(servers, sink.url, real=False)
                for _ in rounds():
                    _whole(bench, sink, figures)
                for size, (length, count) in _SIZES.items():
                    arena.aside(load.fill, servers, f"paused-{size}", length, count)
                    _paused(bench, sink, figures, size)
                _rebalance(bench, sink, figures)
            with arena.elasticsearch(folder / "es") as server:
                real = Bench(servers, server.url, real=True)
                for _ in rounds():
                    one, two = (real.consume("whole", workers).wall_s for workers in (1, 2))
                    print(f"    {_RECORDS:,} documents: {one:.1f} s, with 2 workers {two:.1f} s")
                    figures.add(workers_1_to_2_beside_elasticsearch=one / two)


def _whole(bench: Bench, sink: arena.Stub, figures: Figures) -> None:
    sink.kill()
    sink.start()
    one = bench.consume("whole", 1)
    first = min(at for _, at, _ in sink.bulks()) - one.began
    two = bench.consume("whole", 2)
    print(
        f"    first document after {first:.2f} s; {one.cpu_s / _RECORDS * 1e6:.1f} µs a document; "
        f"{one.watch.total_mb:.0f} MB in all, with 2 workers {two.watch.total_mb:.0f} MB",
        flush=True,
    )
    figures.add(
        start_to_first_document_s=first,
        whole_mb=one.watch.total_mb,
        further_worker_mb=two.watch.total_mb - one.watch.total_mb,
        whole_cpu_us_per_doc=one.cpu_s / _RECORDS * 1e6,
    )


def _paused(bench: Bench, sink: arena.Stub, figures: Figures, size: str) -> None:
    peaks = {}
    for state, refusal in _STATES.items():
        sink.kill()
        sink.start()
        settings = bench.settings(f"paused-{size}")
        if refusal is not None:
            sink.refuse(1, *refusal)
        with arena.consuming(settings) as watch:
            if refusal is None:
                time.sleep(2.0)  # else it would wait for its first answer and consume nothing
                sink.kill()
            time.sleep(_PAUSED_SECONDS)
        peaks[state] = watch.peak_mb
    print(f"    {size}: " + ", ".join(f"{s} {mb:.0f} MB" for s, mb in peaks.items()), flush=True)
    figures.add(**{f"worker_rss_mb_paused_{size}": max(peaks.values())})
    sink.kill()
    sink.start()


def _rebalance(bench: Bench, sink: arena.Stub, figures: Figures) -> None:
    """A member comes and goes while every fifth document is pushed back."""
    arena.aside(load.fill, bench.bootstrap, "long", 2000, 8 * _RECORDS)
    settings = bench.settings("long")
    sink.refuse(5, 429, "es_rejected_execution_exception", "rejected execution")
    with arena.consuming(settings) as watch:
        time.sleep(4.0)
        came = time.monotonic()
        with arena.consuming(settings):
            time.sleep(_MEMBER_SECONDS)
        time.sleep(4.0)
        over = time.monotonic()
    times = [at for port, at, _ in sink.bulks() if port in watch.ports and came <= at <= over]
    gap = max(after - before for before, after in pairwise([came, *times, over]))
    print(f"    a member comes and goes: the other sends nothing for {gap:.2f} s at most")
    figures.add(rebalance_longest_gap_s=gap)

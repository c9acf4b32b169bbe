"""What a worker holds in memory over many records, and through an outage of Elasticsearch.

    BENCH_MEMORY_RECORDS=10000000 BENCH_OUTAGE_SECONDS=60 make bench ONLY=memory

One worker consumes the topic into the stub; half-way the stub goes away for a minute. Within a
whole `make bench` it is a million, and 20 seconds.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import arena, load
from benchmarks.bench import Bench
from benchmarks.figures import Figures

PARTS = 10


def measure(figures: Figures, *, alone: bool = False) -> None:
    """Print memory over time; once, whatever the number of rounds.

    Args:
        figures: where they go.
        alone: nothing else is measured in this run: there is time for ten million records.
    """
    count = int(os.environ.get("BENCH_MEMORY_RECORDS", "10000000" if alone else "1000000"))
    seconds = float(os.environ.get("BENCH_OUTAGE_SECONDS", "60" if alone else "20"))
    topic = f"memory-{count}"
    with tempfile.TemporaryDirectory() as name, arena.kafka(Path(name)) as kafka:
        began = time.monotonic()
        arena.aside(load.fill, kafka.bootstrap_servers, topic, 2000, count)
        print(f"{count:,} records of 2 KB, written in {time.monotonic() - began:.0f} s", flush=True)
        with arena.stub() as sink:
            outage = _Outage(sink, count // 2, seconds)
            outage.start()
            bench = Bench(kafka.bootstrap_servers, sink.url, real=False)
            usage = bench.consume(topic, 1)
            outage.join()
    _tell(usage, outage, figures)


def _tell(usage: arena.Usage, outage: _Outage, figures: Figures) -> None:
    samples = [sample for sample in usage.watch.samples if sample.rss_mb]
    bounds = [len(samples) * part // PARTS for part in range(PARTS + 1)]
    tenths = [[s.rss_mb for s in samples[a:b]] for a, b in itertools.pairwise(bounds)]
    away = [s.rss_mb for s in samples if outage.began <= s.at <= outage.ended]
    rows = {f"tenth {number} of the time": part for number, part in enumerate(tenths, 1)}
    rows["while the sink was away"] = away
    seconds = outage.ended - outage.began
    print(f"consumed in {usage.wall_s:.0f} s, the sink away for {seconds:.0f} s of them")
    for label, part in rows.items():
        print(f"  {label:26} median {statistics.median(part):6.1f} MB, most {max(part):6.1f} MB")
    print(f"  {'the most ever (VmHWM)':26} {usage.watch.peak_mb:13.1f} MB", flush=True)
    before = [s.rss_mb for s in samples if s.at < outage.began]
    steady = statistics.median(before[len(before) // 2 :])  # the first half has the start in it
    growth = statistics.median(tenths[-1]) / steady
    figures.add(worker_rss_mb_outage=usage.watch.peak_mb, worker_rss_growth=growth)


class _Outage(threading.Thread):
    """Kills the stub once it has had so many documents, and starts it again later.

    Args:
        sink: the stub.
        after: documents.
        seconds: for which it is away.

    Attributes:
        began: monotonic seconds.
        ended: likewise.
    """

    def __init__(self, sink: arena.Stub, after: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._sink = sink
        self._after = after
        self._seconds = seconds
        self.began = self.ended = 0.0

    def run(self) -> None:
        """Wait, kill, wait, start."""
        while sum(documents for _, _, documents in self._sink.bulks()) < self._after:
            time.sleep(1.0)
        self._sink.kill()
        self.began = time.monotonic()
        time.sleep(self._seconds)
        self._sink.start()
        self.ended = time.monotonic()

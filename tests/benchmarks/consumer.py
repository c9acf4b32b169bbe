"""What a worker costs: CPU for each document and memory, against a sink that answers at once.

    make bench

An answer costs nothing there, so that only the worker counts. Start-up cancels out: each figure
is the difference between a long topic and a short one.
Writes `bench.json`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import load
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports

SHORT, LONG = 40_000, 200_000
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
GOALS = {
    "cpu_us_per_doc_2kb": "at most 16",
    "cpu_us_per_doc_500b": "at most 10",
    "worker_rss_mb": "under 200",
    "dead_letter_cost": "at most 0.10",
}


@dataclass
class Cost:
    """Of a worker: microseconds of CPU for each document, megabytes of memory."""

    cpu_us: float
    rss_mb: float


def consume(kafka: KafkaServer, url: str, topic: str) -> tuple[float, float]:
    """Consume a whole topic with one worker; return seconds of CPU, and megabytes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMLOG_")} | {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "LLMLOG_ELASTICSEARCH_URL": url,
        "LLMLOG_TOPIC": topic,
        "LLMLOG_INDEX": "stub",
        "LLMLOG_GROUP": f"bench-{time.monotonic_ns()}",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pipeline")), "consume", "--until-end"],
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, after.ru_maxrss / 1000


def difference(kafka: KafkaServer, url: str, prefix: str) -> Cost:
    """Return what each document costs beyond start-up."""
    short, _ = consume(kafka, url, f"{prefix}-{SHORT}")
    long, rss_mb = consume(kafka, url, f"{prefix}-{LONG}")
    return Cost((long - short) / (LONG - SHORT) * 1e6, rss_mb)


@contextmanager
def stub() -> Iterator[str]:
    """Run the stub sink."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("stub.py"), str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Measure everything, print the table, write `bench.json`."""
    seen: dict[str, list[float]] = {name: [] for name in GOALS}
    with tempfile.TemporaryDirectory() as folder, stub() as url:
        (port,) = free_ports(1)
        kafka = KafkaServer(Path(folder), port)
        kafka.start()
        try:
            for name, size, bad in (("2kb", 2000, 0.0), ("500b", 500, 0.0), ("dead", 2000, 0.01)):
                for count in (SHORT, LONG):
                    load.fill(kafka.bootstrap_servers, f"{name}-{count}", size, count, bad)
            for number in range(ROUNDS):
                large, small, dead = (
                    difference(kafka, url, prefix) for prefix in ("2kb", "500b", "dead")
                )
                seen["cpu_us_per_doc_2kb"].append(large.cpu_us)
                seen["cpu_us_per_doc_500b"].append(small.cpu_us)
                seen["worker_rss_mb"].append(large.rss_mb)
                seen["dead_letter_cost"].append(dead.cpu_us / large.cpu_us - 1)
                print(f"round {number + 1} of {ROUNDS}", flush=True)
        finally:
            kafka.stop()
    print(f"\n{'figure':24}{'median':>10}{'least':>10}{'most':>10}   goal")
    for name, figures in seen.items():
        median = statistics.median(figures)
        print(f"{name:24}{median:10.2f}{min(figures):10.2f}{max(figures):10.2f}   {GOALS[name]}")
    medians = {name: round(statistics.median(figures), 3) for name, figures in seen.items()}
    Path("bench.json").write_text(json.dumps(medians, indent=2) + "\n")


if __name__ == "__main__":
    main()

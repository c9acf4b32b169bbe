"""Two million events, and something breaks all the time: `make soak`."""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from support.fault_run import SEED, UNAUTHORIZED, Arena, Load, Run, count, frozen, settle, stop
from support.pipeline import Pipeline

pytestmark = pytest.mark.soak

RECORDS = int(os.environ.get("SOAK_RECORDS") or 2_000_000)
MINUTES = float(os.environ.get("SOAK_MINUTES") or 32)
SAMPLE = 5.0
"""Seconds between looks at the memory of the workers."""
WORKERS = 2


class Soak:
    """Breaks one thing after the other, at random, and mends it.

    Args:
        run: under load.
        pick: seeded.
    """

    def __init__(self, run: Run, pick: random.Random) -> None:
        self.run = run
        self.pick = pick
        self.arena = run.arena
        self.faults: tuple[Callable[[], None], ...] = (
            self.worker_killed,
            self.supervisor_killed,
            self.broker_killed,
            self.elasticsearch_killed,
            self.worker_frozen,
            self.broker_frozen,
            self.elasticsearch_frozen,
            self.kafka_cut,
            self.elasticsearch_cut,
            self.elasticsearch_hangs,
            self.credentials_refused,
            self.index_closed,
            self.member_joins_and_leaves,
            self.member_joins_and_dies,
        )

    def next(self) -> str:
        """Break something and mend it; return its name."""
        fault = self.pick.choice(self.faults)
        fault()
        before = self.run.pipeline.count()
        self.run.wait(lambda: self.run.load.all_sent or self.run.pipeline.count() > before)
        return fault.__name__

    def a_while(self) -> None:
        """Let it last."""
        self.run.outlast(self.pick.uniform(2, 15))

    def worker_killed(self) -> None:
        self.run.kill(self.run.worker())

    def supervisor_killed(self) -> None:
        family = self.run.family()
        self.run.kill(self.run.consuming)
        self.run.consuming.wait(10)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, "no orphan is left"
        self.run.consuming = self.run.consume()

    def broker_killed(self) -> None:
        self.arena.servers.kafka.kill()
        self.a_while()
        self.arena.servers.kafka.start()

    def elasticsearch_killed(self) -> None:
        self.arena.servers.elasticsearch.kill()
        self.a_while()
        self.arena.servers.elasticsearch.start()

    def worker_frozen(self) -> None:
        with frozen(self.run.worker().pid):
            self.a_while()

    def broker_frozen(self) -> None:
        with frozen(self.arena.servers.kafka.pid):
            self.a_while()

    def elasticsearch_frozen(self) -> None:
        with frozen(self.arena.servers.elasticsearch.pid):
            self.a_while()

    def kafka_cut(self) -> None:
        for _ in range(3):
            self.arena.kafka_proxy.reset()
            self.run.outlast(1)

    def elasticsearch_cut(self) -> None:
        self.arena.elastic_proxy.cut_after(1500)
        self.a_while()
        self.arena.elastic_proxy.mend()

    def elasticsearch_hangs(self) -> None:
        self.arena.elastic_proxy.hang()
        self.a_while()
        self.arena.elastic_proxy.reset()
        self.arena.elastic_proxy.mend()

    def credentials_refused(self) -> None:
        self.arena.elastic_proxy.answer(*UNAUTHORIZED)
        self.a_while()
        self.arena.elastic_proxy.mend()

    def index_closed(self) -> None:
        indices = list(self.run.pipeline.get(f"/{self.run.pipeline.index}-*/_settings"))
        for index in indices:
            self.run.elastic("POST", f"/{index}/_close")
        self.a_while()
        for index in indices:
            self.run.elastic("POST", f"/{index}/_open")

    def member_joins_and_leaves(self) -> None:
        other = self.run.consume(workers=1)
        self.run.wait(lambda: "assigned" in self.run.pipeline.stderr_of(other))
        self.a_while()
        other.send_signal(signal.SIGTERM)
        assert other.wait(60) == 0, self.run.pipeline.stderr_of(other)[-4000:]

    def member_joins_and_dies(self) -> None:
        other = self.run.consume(workers=1)
        self.run.wait(lambda: "assigned" in self.run.pipeline.stderr_of(other))
        self.a_while()
        self.run.kill(other)
        other.wait(10)


@contextmanager
def watched(run: Run) -> Iterator[list[float]]:
    """Sample the memory of the largest worker, in MB."""
    sizes: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE):
            try:
                now = [process.memory_info().rss / 1e6 for process in run.worker_processes()]
            except psutil.Error:
                continue
            sizes.extend([max(now)] if now else [])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(MINUTES * 60 * 3 + 1800)
def test_soak(arena: Arena, pipeline: Pipeline) -> None:
    began = time.monotonic()
    print(f"\nsoak: FAULT_SEED={SEED} SOAK_RECORDS={RECORDS} SOAK_MINUTES={MINUTES:g}")
    load = Load(arena.bootstrap, pipeline.topic, RECORDS, 0.01, rate=RECORDS / MINUTES / 60)
    run = Run(arena, pipeline, load, arena.through_proxies(), WORKERS)
    run.consuming = run.consume()
    load.start()
    pick = random.Random(SEED)
    soak = Soak(run, pick)
    faults = 0
    with watched(run) as sizes:
        while not load.all_sent:
            run.outlast(pick.uniform(2, 15))
            at = time.monotonic() - began
            name = soak.next()
            faults += 1
            took = time.monotonic() - began - at
            print(f"{at:7.1f} s  {name:26} {took:5.1f} s  sent {load.sent:9,}", flush=True)
        load.finish()
        settle(run)
    stop(run)
    third = len(sizes) // 3
    thirds = sizes[:third], sizes[third:-third], sizes[-third:]
    first, second, last = (statistics.median(one) for one in thirds)
    print(
        f"{faults} faults; memory of the larger worker, median of each third: {first:.0f}, "
        f"{second:.0f}, {last:.0f} MB; most {max(sizes):.0f} MB"
    )
    count(run, f"soak, {faults} random faults", began)
    assert last < 1.25 * second, "memory is flat once it is warm"

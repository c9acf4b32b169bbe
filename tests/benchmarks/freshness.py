"""How old a call is when a search finds it: the whole way, from the callback's queue on.

Events are offered to a `Publisher` at a steady rate, each as its call ends. `pipeline consume`
indexes them. A search counts documents meanwhile: when it sees n of them, the n calls that ended
first are taken as found. `indexed_at` tells how old they were when they were sent to Elasticsearch.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import orjson

from benchmarks import arena
from benchmarks.bench import Bench
from benchmarks.figures import Figures
from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.sending.publisher import Publisher
from support.payloads import payload

RUNS = (
    # Events a second, seconds, refresh interval; None for the default profile's.
    (100, 15, "1s"),
    (100, 15, "2s"),
    (100, 15, "2500ms"),
    (1, 30, None),
    (100, 15, None),
    (1000, 15, None),
)
_LOOK_SECONDS = 0.05


def measure(figures: Figures) -> None:
    """Print p50 and p99 of both ages."""
    del figures
    print(f"{'events/s':>10}{'refresh':>10}{'sent p50':>10}{'p99':>7}{'found p50':>11}{'p99':>7}")
    with (
        tempfile.TemporaryDirectory() as name,
        arena.kafka(Path(name)) as kafka,
        arena.elasticsearch(Path(name) / "elasticsearch") as server,
    ):
        bench = Bench(kafka.bootstrap_servers, server.url, real=True)
        for rate, seconds, refresh in RUNS:
            settings = bench.ready(f"fresh-{rate}-{refresh}")
            if refresh:
                path = f"{server.url}/{settings['LLMLOG_INDEX']}-2*/_settings"
                httpx.put(path, json={"index.refresh_interval": refresh}).raise_for_status()
            with arena.consuming(settings):
                sent, found = _run(settings, server.url, rate, seconds)
            print(
                f"{rate:10}{refresh or 'default':>10}{_at(sent, 50):10.2f}{_at(sent, 99):7.2f}"
                f"{_at(found, 50):11.2f}{_at(found, 99):7.2f}",
                flush=True,
            )
            bench.done(settings)


def _at(ages: list[float], percent: int) -> float:
    return statistics.quantiles(ages, n=100, method="inclusive")[percent - 1]


def _run(
    settings: Mapping[str, str], url: str, rate: int, seconds: int
) -> tuple[list[float], list[float]]:
    """Return seconds from the end of each call until it was sent, and until it was found."""
    environ = {**settings, "LLMLOG_JOURNAL": "off"}
    publisher = Publisher(load(environ=environ), Stats())
    search = f"{url}/{settings['LLMLOG_INDEX']}"
    seen: list[tuple[float, int]] = []
    is_over = threading.Event()

    def look() -> None:
        with httpx.Client(timeout=30) as http:
            while not is_over.wait(_LOOK_SECONDS):
                number = int(http.get(f"{search}/_count").json().get("count", 0))
                seen.append((time.time(), number))

    _send(publisher, rate, 3 * rate)  # the first events find processes that still start
    looker = threading.Thread(target=look)
    looker.start()
    _wait_for(seen, 3 * rate)
    ended = _send(publisher, rate, seconds * rate)
    _wait_for(seen, 3 * rate + len(ended))
    is_over.set()
    looker.join()
    publisher.close(10)
    found, at = [], iter(seen)
    moment, number = next(at)
    for rank, end in enumerate(ended, start=3 * rate + 1):
        while number < rank:
            moment, number = next(at)
        found.append(moment - end)
    body = {
        "size": 10_000,
        "_source": False,
        "docvalue_fields": ["endTime", "indexed_at"],
        "query": {"range": {"endTime": {"gte": int(ended[0] * 1000)}}},
    }
    hits = httpx.post(f"{search}/_search", json=body, timeout=60).json()["hits"]["hits"]
    fields = [{name: int(values[0]) for name, values in hit["fields"].items()} for hit in hits]
    return [(one["indexed_at"] - one["endTime"]) / 1000 for one in fields], found


def _send(publisher: Publisher, rate: int, number: int) -> list[float]:
    """Offer events at a steady rate; return when their calls ended, in epoch seconds."""
    began, ended = time.monotonic(), []
    for seed in range(number):
        if (ahead := began + seed / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        now = time.time()
        made = payload(seed, startTime=now - 0.5, endTime=now)
        made["litellm_call_id"] = f"{seed}-{now}"
        publisher.offer(CapturedPayload(orjson.dumps(made), "", now))
        ended.append(now)
    return ended


def _wait_for(seen: list[tuple[float, int]], number: int) -> None:
    deadline = time.monotonic() + 60
    while not seen or seen[-1][1] < number:
        if time.monotonic() > deadline:
            raise SystemExit(f"{seen[-1:]}: not {number} documents after a minute")
        time.sleep(_LOOK_SECONDS)

"""Measures the console: how fast pages are with many documents, and what ten people cost.

`make bench ONLY=console`; CONSOLE_RECORDS=1000000 is the number of documents at the end,
CONSOLE_SLICES=3 (or 0) how often the pipeline runs alone and beside ten people.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks import load
from benchmarks.arena import PIPELINE, elasticsearch, kafka, pipeline
from benchmarks.clicks import Person
from benchmarks.figures import Figures
from llmlog_local.ports import free_ports

RECORDS = int(os.environ.get("CONSOLE_RECORDS", "1000000"))
SLICES = int(os.environ.get("CONSOLE_SLICES", "3"))
SLICE_RECORDS = int(os.environ.get("CONSOLE_SLICE_RECORDS", "100000"))
PEOPLE = 10
REAL_BROWSERS = 2
BROWSE_SECONDS = float(os.environ.get("CONSOLE_BROWSE_SECONDS", "20"))
SIZE = 1000
TOKEN = "a-token-of-thirty-two-characters-"
CLICKS = Path(__file__).with_name("clicks.py")
TIMES = dict[str, list[float]]


def measure(figures: Figures) -> None:
    """Measure all of it."""
    folder = Path(tempfile.mkdtemp(prefix="console-"))
    with kafka(folder) as broker, elasticsearch(folder / "es") as server:
        settings = {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "LLMLOG_ELASTICSEARCH_URL": server.url,
        }
        load.create(broker.bootstrap_servers, "litellm-logs")
        pipeline(settings, "setup")
        made = load.values(SIZE, RECORDS + 2 * SLICES * SLICE_RECORDS)

        def index(count: int) -> float:
            """Return the documents a second."""
            records = ((*next(made), None) for _ in range(count))
            load.write(broker.bootstrap_servers, "litellm-logs", records)
            return count / pipeline(settings, "consume", "--workers", "1", "--until-end").wall_s

        with console(settings, folder) as base:
            there = 0
            for wanted in (RECORDS // 10, RECORDS):
                index(wanted - there)
                there = wanted
                seen = browse(base, BROWSE_SECONDS)
                for name, times in seen.items():
                    if name.endswith("first paint"):
                        say(f"{there:,} documents", name, times)
                    else:
                        say(f"{there:,} documents", f"{name}, all of it", times)
            if SLICES:
                measure_people(figures, base, index)


def measure_people(figures: Figures, base: str, index: Callable[[int], float]) -> None:
    """Measure the pipeline alone and beside ten people, by turns."""
    alone, beside = [], []
    whole: TIMES = defaultdict(list)
    for _ in range(SLICES):
        alone.append(index(SLICE_RECORDS))
        with clicking(base) as times:
            beside.append(index(SLICE_RECORDS))
        for name, seconds in times.items():
            whole[name] += seconds
    ratios = [b / a for a, b in zip(alone, beside, strict=True)]
    print(f"documents a second: alone {alone}, beside ten people {beside}", flush=True)
    for name, seconds in sorted(whole.items()):
        say("beside the pipeline", name, seconds)
    pages = [s for name, seconds in whole.items() if "paint" not in name for s in seconds]
    figures.add(
        console_throughput_ratio=statistics.median(ratios), console_slowest_page_s=max(pages)
    )


def say(when: str, name: str, times: list[float]) -> None:
    """Print the spread of some times."""
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(
        f"{when}: {name}: p50 {statistics.median(ordered):.3f} s, p95 {p95:.3f} s, "
        f"slowest {ordered[-1]:.3f} s, {len(ordered)} times",
        flush=True,
    )


@contextmanager
def console(settings: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run a console; yield its address."""
    file = folder / "tokens"
    file.write_text(f"ada numbers,contents,replay {TOKEN}\n")
    (port,) = free_ports(1)
    command = [PIPELINE, "console", "--port", str(port), "--token-file", str(file)]
    base = f"http://127.0.0.1:{port}"
    # Into a file: a pipe that is not read would stop the console once it is full.
    with (folder / "console.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
    try:
        wait_until_answers(f"{base}/login", process)
        yield base
    finally:
        process.terminate()
        process.wait(60)


def wait_until_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a page is there; fail where the process has ended or takes a minute."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the console does not answer")


def browse(base: str, seconds: float) -> TIMES:
    """Click in a real Chromium, in a process of its own."""
    browser = _start_browser(base)
    _wait_for_login(browser)
    try:
        browser.wait(seconds)
    except subprocess.TimeoutExpired:
        return _end_browser(browser)
    raise SystemExit("the browser has ended by itself")


def _start_browser(base: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CLICKS), base, TOKEN]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for_login(browser: subprocess.Popen[str]) -> None:
    """Wait until it says that it is logged in: from then on it clicks."""
    assert browser.stdout is not None
    if not browser.stdout.readline():
        raise SystemExit("a browser has ended before it was logged in")


def _end_browser(browser: subprocess.Popen[str]) -> TIMES:
    """Close its standard input, which ends it; return its times."""
    return json.loads(browser.communicate(timeout=120)[0])


@contextmanager
def clicking(base: str) -> Iterator[TIMES]:
    """Let ten people click for the length of the block; then the times are there."""
    ended = threading.Event()
    people = [Person(base, TOKEN, seed) for seed in range(PEOPLE - REAL_BROWSERS)]
    threads = [threading.Thread(target=one.click_until, args=(ended,)) for one in people]
    browsers = [_start_browser(base) for _ in range(REAL_BROWSERS)]
    for browser in browsers:
        _wait_for_login(browser)
    for thread in threads:
        thread.start()
    began = time.monotonic()
    times: TIMES = defaultdict(list)
    try:
        yield times
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        print(f"ten people clicked for {time.monotonic() - began:.0f} s", flush=True)
        for one in people:
            for name, seconds in one.times.items():
                times[name] += seconds
            if one.problems:
                print(f"problems: {one.problems[:5]}", flush=True)
        for browser in browsers:
            for name, seconds in _end_browser(browser).items():
                times[name] += seconds

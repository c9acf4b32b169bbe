"""What the callback costs a proxy, as its clients see it: several of them under load at once.

At their limit all of them share one core, and whatever else runs has the other: so a machine that
is slower now than a minute ago is so for all of them, and the difference between the two that have
no callback says how fine the measure is. At half of its limit a proxy has a core of its own, and
one without a callback has the other; they swap them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from acceptance.gateway.proxy import OURS, VERSIONS, Proxy
from benchmarks.arena import moved, on_core
from benchmarks.figures import Figures, rounds
from benchmarks.watch import cpu_of
from support.pipeline import base_environment

WARM_UP_S = 10.0
CLIENTS_TOGETHER, TOGETHER_S = 3, 120.0
CLIENTS_APART, APART_S = 8, 15.0
LOADS = 4
"""Of each pair in a round: a proxy is on either core as often as on the other."""
LEAD_S = 2.5
"""For longer than an event waits before it is journaled: what is timed is a steady state."""
PACE = 0.5
"""Of what a proxy is capable of: a gateway that people run has some room left."""
_PROMPT = "Summarise this. " * 240
"""About 4 KB."""


def measure(
    figures: Figures, folder: Path, kafka: int, settings: dict[str, str], away: dict[str, str]
) -> None:
    """Measure proxies without a callback, with one that does nothing, and with ours.

    Args:
        figures: added to.
        folder: of theirs.
        kafka: the broker's process.
        settings: of the callback.
        away: the same, of one whose Kafka is away.
    """
    with ExitStack() as stack:

        def started(name: str, callbacks: str, settings: dict[str, str] = settings) -> Proxy:
            return stack.enter_context(_proxy(folder / name, settings, callbacks))

        plain, other = started("plain", "[]"), started("other", "[]")
        ours, down = started("ours", OURS), started("down", OURS, away)
        with_callback = {"_idle": started("idle", '["idle.idle"]'), "": ours, "_kafka_down": down}
        everyone = [plain, other, *with_callback.values()]
        for proxy in everyone:  # what is compiled at first use, or started, and on no core yet
            _load(proxy, CLIENTS_TOGETHER, WARM_UP_S)
        assert all(map(_beside, (ours, down))), "no process converts"
        pace = _apart(plain, other)[0].per_s * PACE
        for _ in rounds():
            without, control, *others = _together(everyone, kafka)
            figures.add(proxy_throughput_ratio_none=control.per_s / without.per_s)
            for name in ("", "_kafka_down"):
                if not _beside(with_callback[name]):
                    print(f"    with{name}: no process converts: the machine is too busy for it")
            for name, load in zip(with_callback, others, strict=True):
                figures.add(**_compared(name, load, (without, control)))
            for name, one in (("", ours), ("_kafka_down", down)):
                # Each beside one that has answered as many requests: more make it slower.
                without, load = _apart(other if name else plain, one, pace)
                print(
                    f"    {pace:.0f} requests a second, ms at the median and at p99: "
                    f"without {without.at}, with{name} {load.at}"
                )
                figures.add(
                    **{
                        f"proxy_p50_ratio_paced{name}": load.p50_s / without.p50_s,
                        f"proxy_p99_ratio_paced{name}": load.p99_s / without.p99_s,
                    }
                )


def _compared(name: str, load: Load, without: tuple[Load, Load]) -> dict[str, float]:
    """Return the figures of a load beside the mean of those without a callback."""
    per_s, p99_s, cpu_us = (
        statistics.mean(getattr(one, what) for one in without)
        for what in ("per_s", "p99_s", "cpu_us")
    )
    return {
        f"proxy_throughput_ratio{name}": load.per_s / per_s,
        f"proxy_p99_ratio{name}": load.p99_s / p99_s,
        f"proxy_requests_per_cpu_ratio{name}": cpu_us / load.cpu_us,
        f"proxy_cpu_us{name}": load.cpu_us - cpu_us,
    }


def _together(proxies: list[Proxy], kafka: int) -> list[Load]:
    """Put proxies under load at the same time and on the same core, each at its limit."""
    with ExitStack() as stack, ThreadPoolExecutor(len(proxies)) as pool:
        for proxy in proxies:
            stack.enter_context(moved(proxy.process.pid, 0))
            for process in _beside(proxy):
                stack.enter_context(moved(process.pid, 1))
        stack.enter_context(moved(kafka, 1))
        stack.enter_context(on_core(1))
        loads = [pool.submit(_load, proxy, CLIENTS_TOGETHER, TOGETHER_S) for proxy in proxies]
        return [load.result() for load in loads]


def _apart(one: Proxy, other: Proxy, pace: float = 0.0) -> tuple[Load, Load]:
    """Put two proxies under load at the same time, each on a core of its own; swap the cores."""
    loads: tuple[list[Load], list[Load]] = ([], [])
    for turn in range(LOADS):
        with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
            for proxy, core in ((one, turn % 2), (other, 1 - turn % 2)):
                stack.enter_context(moved(proxy.process.pid, core))
                for process in _beside(proxy):
                    stack.enter_context(moved(process.pid, 0, 1))
            found = [
                pool.submit(_load, proxy, CLIENTS_APART, APART_S, pace) for proxy in (one, other)
            ]
            for seen, load in zip(loads, found, strict=True):
                seen.append(load.result())
    return Load.of(loads[0]), Load.of(loads[1])


@contextmanager
def _proxy(folder: Path, settings: dict[str, str], callbacks: str) -> Iterator[Proxy]:
    folder.mkdir()
    proxy = Proxy(VERSIONS[-1], folder, base_environment(settings), callbacks=callbacks)
    try:
        proxy.wait_ready()
        yield proxy
        proxy.stop()
    finally:
        proxy.clean_up()


def _beside(proxy: Proxy) -> list[psutil.Process]:
    """Return the process beside a proxy, where there is one."""
    return psutil.Process(proxy.process.pid).children()


@dataclass
class Load:
    """What a proxy did under load.

    Attributes:
        taken: seconds of each request, from the fastest to the slowest.
        seconds: how long that took.
        cpu_s: seconds of CPU of the proxy's process and of the one beside it.
    """

    taken: list[float]
    seconds: float
    cpu_s: float

    @classmethod
    def of(cls, loads: list[Load]) -> Load:
        """Return several as one."""
        return cls(
            sorted(itertools.chain.from_iterable(load.taken for load in loads)),
            sum(load.seconds for load in loads),
            sum(load.cpu_s for load in loads),
        )

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return len(self.taken) / self.seconds

    @property
    def p50_s(self) -> float:
        """Seconds that half of them took at most."""
        return self.taken[len(self.taken) // 2]

    @property
    def p99_s(self) -> float:
        """Seconds that the slowest of a hundred took."""
        return self.taken[len(self.taken) * 99 // 100]

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU for a request."""
        return self.cpu_s / len(self.taken) * 1e6

    @property
    def at(self) -> str:
        """Say how long requests took."""
        return f"{self.p50_s * 1e3:.1f} and {self.p99_s * 1e3:.1f}"


def _load(proxy: Proxy, clients: int, seconds: float, pace: float = 0.0) -> Load:
    """Put a proxy under load from several clients; then leave it what it has put off.

    Args:
        proxy: which one.
        clients: each waits for an answer before it asks again.
        seconds: that are timed.
        pace: requests a second, each timed from when it was due; 0 for as many as it can take.
    """
    url, headers = proxy.client.base_url, dict(proxy.client.headers)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": _PROMPT}]})
    headers["content-type"] = "application/json"
    begin = time.perf_counter()
    start = begin + LEAD_S
    over = start + seconds

    def times(number: int) -> Iterator[float]:
        """Yield when a client's requests begin, at that time."""
        while True:
            due = begin + number / pace if pace else time.perf_counter()
            if due >= over:
                return
            _until(due)
            yield due
            number += clients

    def client(number: int) -> list[tuple[float, float]]:
        requests = []
        connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
        for began in times(number):
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            requests.append((began, time.perf_counter()))
        return requests

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(client, number) for number in range(clients)]
        _until(start)
        start, before = time.perf_counter(), _cpu_of(proxy)
        _until(over)
        end, after = time.perf_counter(), _cpu_of(proxy)
        requests = [request for one in asking for request in one.result()]
    timed = ((began if pace else done, done - began) for began, done in requests)
    taken = sorted(seconds for at, seconds in timed if start <= at < end)
    _until(time.perf_counter() + LEAD_S)
    return Load(taken, end - start, after - before)


def _cpu_of(proxy: Proxy) -> float:
    """Return seconds of CPU of a proxy and of the process beside it."""
    return cpu_of(proxy.process.pid) + sum(cpu_of(process.pid) for process in _beside(proxy))


def _until(then: float) -> None:
    time.sleep(max(0.0, then - time.perf_counter()))

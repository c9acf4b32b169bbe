"""What the callback costs a gateway: in its hook, in CPU, and as seen by the proxy's clients."""

from __future__ import annotations

import http.client
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import OURS, VERSIONS, Proxy, offline, python_of
from benchmarks import arena
from benchmarks.arena import moved
from benchmarks.figures import Figures, rounds
from benchmarks.watch import cpu_of
from llmlog_local.ports import free_ports
from support.pipeline import base_environment

NEWEST = VERSIONS[-1]
CLIENTS = 8
LOADS = 4
"""Of each pair of proxies in a round: each is on either core as often as on the other."""
LEAD_S = 2.5
"""For longer than an event waits before it is journaled: what is timed is a steady state."""
TIMED_S = 6.0
PACE = 0.5
"""Of what a proxy is capable of: a gateway that people run has some room left."""
_PROMPT = "Summarise this. " * 240
"""About 4 KB."""


Pair = tuple[Proxy, Proxy]


def measure(figures: Figures) -> None:
    """Measure everything about the producer."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        kafka = stack.enter_context(arena.kafka(folder))
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        config = {"max.message.bytes": "8388608"}
        admin.create_topics([NewTopic("gateway", 8, config=config)])["gateway"].result(30)
        settings = {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LLMLOG_TOPIC": "gateway",
            "LLMLOG_JOURNAL_DIR": str(folder / "spool"),
        }
        url = stack.enter_context(arena.stub()).url
        print("in the gateway's process", flush=True)
        _stages(settings)
        for _ in rounds():
            _inside(figures, settings, url)
        (closed,) = free_ports(1)
        away = settings | {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}",
            "LLMLOG_JOURNAL_DIR": str(folder / "away"),
        }
        print("through a proxy", flush=True)
        _proxies(figures, folder, settings, away)


def _stages(settings: dict[str, str]) -> None:
    command = [str(python_of(NEWEST)), str(arena.HERE / "gateway_stages.py")]
    print(arena.run(command, offline(settings)).stdout, flush=True)


def _inside(figures: Figures, settings: dict[str, str], url: str) -> None:
    def side(*what: str, **more: str) -> dict[str, float]:
        command = [str(python_of(NEWEST)), str(arena.HERE / "gateway_side.py"), *what]
        usage = arena.run(command, offline(settings | more))
        return dict(json.loads(usage.stdout.splitlines()[-1]))

    spill, always = side("hook"), side("hook", LLMLOG_JOURNAL="always")
    ours = side("cpu")
    single = side("generic", "single", GENERIC_LOGGER_ENDPOINT=url)
    array = side("generic", "json_array", GENERIC_LOGGER_ENDPOINT=url)
    figures.add(
        hook_us_p50=spill["p50"],
        hook_us_p99=spill["p99"],
        hook_always_us_p50=always["p50"],
        hook_always_us_p99=always["p99"],
        producer_cpu_us=ours["us"],
        producer_cpu_vs_generic_api=ours["us"] / single["us"],
        producer_cpu_vs_generic_api_array=ours["us"] / array["us"],
    )


def _proxies(
    figures: Figures, folder: Path, settings: dict[str, str], away: dict[str, str]
) -> None:
    with ExitStack() as stack:

        def beside_another(name: str, settings: dict[str, str], callbacks: str) -> Pair:
            plain = stack.enter_context(_proxy(folder / f"beside-{name}", settings, "[]"))
            return plain, stack.enter_context(_proxy(folder / name, settings, callbacks))

        # Each has one beside it that has answered as many requests: more have made it slower.
        idle = beside_another("idle", settings, '["idle.idle"]')
        ours = beside_another("ours", settings, OURS)
        down = beside_another("down", away, OURS)
        for pair in (idle, ours, down):
            _beside(*pair)  # what is compiled at first use, or started
        pace = _beside(*idle)[0].per_s * PACE
        for _ in rounds():
            for name, pair in (("_idle", idle), ("", ours), ("_kafka_down", down)):
                without, with_it = _beside(*pair)
                figures.add(
                    **{
                        f"proxy_throughput_ratio{name}": with_it.per_s / without.per_s,
                        f"proxy_p99_ratio{name}": with_it.p99_s / without.p99_s,
                        f"proxy_cpu_us{name}": with_it.cpu_us - without.cpu_us,
                    }
                )
            for name, pair in (("", ours), ("_kafka_down", down)):
                without, with_it = _beside(*pair, pace=pace)
                print(
                    f"    {pace:.0f} requests a second, ms at the median and at p99: "
                    f"without {without.at}, with{name} {with_it.at}"
                )
                figures.add(
                    **{
                        f"proxy_p50_ratio_paced{name}": with_it.p50_s / without.p50_s,
                        f"proxy_p99_ratio_paced{name}": with_it.p99_s / without.p99_s,
                    }
                )


def _beside(one: Proxy, other: Proxy, pace: float = 0.0) -> tuple[Load, Load]:
    """Put two proxies under load at the same time, each on a core of its own; swap the cores."""
    loads: tuple[list[Load], list[Load]] = ([], [])
    with ThreadPoolExecutor(2) as pool:
        for turn in range(LOADS):
            core = turn % 2
            with moved(one.process.pid, core), moved(other.process.pid, 1 - core):
                found = [pool.submit(_load, proxy, pace) for proxy in (one, other)]
                for seen, load in zip(loads, found, strict=True):
                    seen.append(load.result())
    return Load.of(loads[0]), Load.of(loads[1])


@contextmanager
def _proxy(folder: Path, settings: dict[str, str], callbacks: str) -> Iterator[Proxy]:
    folder.mkdir()
    proxy = Proxy(NEWEST, folder, base_environment(settings), callbacks=callbacks)
    try:
        proxy.wait_ready()
        yield proxy
        proxy.stop()
    finally:
        proxy.clean_up()


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


def _load(proxy: Proxy, pace: float = 0.0) -> Load:
    """Put a proxy under load from several clients; then leave it what it has put off.

    Args:
        proxy: which one.
        pace: requests a second, each timed from when it was due; 0 for as many as it can take.
    """
    url, headers = proxy.client.base_url, dict(proxy.client.headers)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": _PROMPT}]})
    headers["content-type"] = "application/json"
    begin = time.perf_counter()
    start = begin + LEAD_S
    over = start + TIMED_S

    def times(number: int) -> Iterator[float]:
        """Yield when a client's requests begin, at that time."""
        while True:
            due = begin + number / pace if pace else time.perf_counter()
            if due >= over:
                return
            _until(due)
            yield due
            number += CLIENTS

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

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        _until(start)
        start, before = time.perf_counter(), _cpu_of(proxy)
        _until(over)
        end, after = time.perf_counter(), _cpu_of(proxy)
        requests = [request for one in clients for request in one.result()]
    timed = ((began if pace else done, done - began) for began, done in requests)
    taken = sorted(seconds for at, seconds in timed if start <= at < end)
    time.sleep(LEAD_S)
    return Load(taken, end - start, after - before)


def _cpu_of(proxy: Proxy) -> float:
    """Return seconds of CPU of a proxy and of the process beside it."""
    beside = psutil.Process(proxy.process.pid).children()
    return cpu_of(proxy.process.pid) + sum(cpu_of(process.pid) for process in beside)


def _until(then: float) -> None:
    time.sleep(max(0.0, then - time.perf_counter()))

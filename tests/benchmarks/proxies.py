"""What the callback costs a proxy, as its clients see it: proxies at once, with and without it.

Of two proxies of a kind one may be slower by some percent for as long as it runs, by where its
memory lies, and a machine is not as fast now as it was a minute ago. So of each pair one calls our
handler while the other does not, at the same time, and then the other way round: what is left is
the handler.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from acceptance.gateway.proxy import VERSIONS, Proxy
from benchmarks.arena import moved, on_core
from benchmarks.figures import Figures, rounds
from benchmarks.watch import cpu_of
from support.pipeline import base_environment, wait_until

SECONDS = float(os.environ.get("BENCH_SECONDS") or 0)
"""Of each load, for a shorter run; 0: as below."""
WARM_UP_S = SECONDS or 15.0
TURNS = 6
"""Of each measurement in a round: each of a pair has the callback as often as the other."""
STUDENT_T = 2.571
"""Of five degrees of freedom, two-sided 95%: half the width of a mean's interval of six turns."""
CLIENTS_TOGETHER, TOGETHER_S = 4, SECONDS or 45.0
CLIENTS_APART, APART_S = 8, SECONDS or 15.0
LEAD_S = 2.5
"""For longer than an event waits before it is journaled: what is timed is a steady state."""
PACE = 0.5
"""Of what a proxy is capable of: a gateway that people run has some room left."""
_SWITCHED = "switched.json"
_PROMPT = "Summarise this. " * 240
"""About 4 KB."""


def measure(
    figures: Figures, folder: Path, kafka: int, settings: dict[str, str], away: dict[str, str]
) -> None:
    """Measure two pairs of proxies: one whose Kafka is there, one whose Kafka is away.

    Args:
        figures: added to.
        folder: of theirs.
        kafka: the broker's process.
        settings: of the callback.
        away: the same, of one whose Kafka is away.
    """
    with ExitStack() as stack:
        pairs = {
            name: [stack.enter_context(_proxy(folder / f"proxy{name}_{n}", of)) for n in range(2)]
            for name, of in (("", settings), ("_kafka_down", away))
        }
        everyone = [proxy for pair in pairs.values() for proxy in pair]
        for proxy in everyone:  # what is compiled at first use, or started, and on no core yet
            capable = _load(proxy, CLIENTS_APART, WARM_UP_S).per_s
        for _ in rounds():
            for name, pair in pairs.items():
                compared = _together(pair, kafka)
                print(f"    at the limit, with{name}: {compared}", flush=True)
                figures.add(
                    **{
                        f"proxy_throughput_ratio{name}": compared.ratio("per_s"),
                        f"proxy_p99_ratio{name}": compared.pooled_ratio("p99_s"),
                        f"proxy_requests_per_cpu_ratio{name}": 1 / compared.ratio("cpu_us"),
                        f"proxy_cpu_us{name}": compared.difference("cpu_us"),
                    }
                )
                compared = _apart(pair, capable * PACE)
                print(f"    {capable * PACE:.0f} requests a second, with{name}: {compared}")
                figures.add(
                    **{
                        f"proxy_p50_ratio_paced{name}": compared.pooled_ratio("p50_s"),
                        f"proxy_p99_ratio_paced{name}": compared.pooled_ratio("p99_s"),
                    }
                )


def _together(pair: list[Proxy], kafka: int) -> Compared:
    """Put a pair under load at the same time and on the same core, each at its limit.

    Two of them and no more: the fewer requests a proxy has, the more the handler costs each.
    """
    with ExitStack() as stack:
        for proxy in pair:
            stack.enter_context(moved(proxy.process.pid, 0))
        stack.enter_context(moved(kafka, 1))
        stack.enter_context(on_core(1))
        return Compared([_turn(pair, n, CLIENTS_TOGETHER, TOGETHER_S) for n in range(TURNS)])


def _apart(pair: list[Proxy], pace: float) -> Compared:
    """Put a pair under load at the same time, each on a core of its own; swap roles, then cores."""
    turns = []
    for n in range(TURNS):
        with ExitStack() as stack:
            for proxy, core in zip(pair, (n // 2 % 2, 1 - n // 2 % 2), strict=True):
                stack.enter_context(moved(proxy.process.pid, core))
            turns.append(_turn(pair, n, CLIENTS_APART, APART_S, pace))
    return Compared(turns)


def _turn(
    pair: list[Proxy], n: int, clients: int, seconds: float, pace: float = 0.0
) -> tuple[Load, Load]:
    """Put a pair under load; return that of the one that calls the handler, then the other's."""
    with ThreadPoolExecutor(2) as pool:
        called = pool.submit(_load, pair[n % 2], clients, seconds, pace)
        without = pool.submit(_load, pair[1 - n % 2], clients, seconds, pace, called=False)
        return called.result(), without.result()


@contextmanager
def _proxy(folder: Path, settings: dict[str, str]) -> Iterator[Proxy]:
    folder.mkdir()
    environment = base_environment(settings | {"SWITCH_FILE": str(folder / _SWITCHED)})
    proxy = Proxy(VERSIONS[-1], folder, environment, callbacks='["switch.handler"]')
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
        cpu_s: seconds of CPU of the proxy's process.
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


class Compared:
    """Loads with the callback, and those without it that were there at the same time."""

    def __init__(self, turns: list[tuple[Load, Load]]) -> None:
        self._with, self._without = map(list, zip(*turns, strict=True))

    def ratio(self, what: str) -> float:
        """Return with over without: of the turns, in which they change places, the mean."""
        return statistics.geometric_mean(self._ratios(what))

    def interval(self, what: str) -> str:
        """Return that mean with its 95% interval."""
        logs = [math.log(ratio) for ratio in self._ratios(what)]
        mean, half = statistics.mean(logs), STUDENT_T * statistics.stdev(logs) / TURNS**0.5
        least, most = math.exp(mean - half), math.exp(mean + half)
        return f"{math.exp(mean):.3f} ({least:.3f} to {most:.3f})"

    def pooled_ratio(self, what: str) -> float:
        """Return with over without: of all the requests, for what few requests say nothing of."""
        return self._pooled(self._with, what) / self._pooled(self._without, what)

    def difference(self, what: str) -> float:
        """Return by how much with is more than without."""
        return self._pooled(self._with, what) - self._pooled(self._without, what)

    def __str__(self) -> str:
        took = [
            f"{self._pooled(loads, 'p50_s') * 1e3:.1f} and {self._pooled(loads, 'p99_s') * 1e3:.1f}"
            for loads in (self._with, self._without)
        ]
        return (
            f"throughput {self.interval('per_s')}, p99 {self.interval('p99_s')}, "
            f"CPU {self.interval('cpu_us')}; ms at the median and at p99 {' over '.join(took)}"
        )

    def _ratios(self, what: str) -> list[float]:
        both = zip(self._with, self._without, strict=True)
        return [getattr(one, what) / getattr(other, what) for one, other in both]

    @staticmethod
    def _pooled(loads: list[Load], what: str) -> float:
        return float(getattr(Load.of(loads), what))


def _load(
    proxy: Proxy, clients: int, seconds: float, pace: float = 0.0, *, called: bool = True
) -> Load:
    """Put a proxy under load from several clients; then leave it what it has put off.

    Args:
        proxy: which one.
        clients: each waits for an answer before it asks again.
        seconds: that are timed.
        pace: requests a second, each timed from when it was due; 0 for as many as it can take.
        called: whether it calls our handler.
    """
    events = _switched(proxy, called=called)
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
        start, before = time.perf_counter(), cpu_of(proxy.process.pid)
        _until(over)
        end, after = time.perf_counter(), cpu_of(proxy.process.pid)
        requests = [request for one in asking for request in one.result()]
    timed = ((began if pace else done, done - began) for began, done in requests)
    taken = sorted(seconds for at, seconds in timed if start <= at < end)
    _until(time.perf_counter() + LEAD_S)
    events = _switched(proxy, called=called) - events
    assert events == (len(requests) if called else 0), f"{events} events, {len(requests)} requests"
    return Load(taken, end - start, after - before)


def _switched(proxy: Proxy, *, called: bool) -> int:
    """Have a proxy call our handler, or not; return how many events that has taken so far."""
    answer = proxy.log_file.parent / _SWITCHED
    answer.unlink(missing_ok=True)
    proxy.process.send_signal(signal.SIGUSR1 if called else signal.SIGUSR2)
    wait_until(answer.exists, 30, "the proxy is told whether it calls the handler")
    return int(json.loads(answer.read_text()))


def _until(then: float) -> None:
    time.sleep(max(0.0, then - time.perf_counter()))

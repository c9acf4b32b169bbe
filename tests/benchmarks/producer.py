"""What the callback costs a gateway: in its hook, in CPU, and as seen by the proxy's clients."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import OURS, VERSIONS, Proxy, offline, python_of
from benchmarks import arena
from benchmarks.figures import Figures, rounds
from llmlog_local.ports import free_ports
from support.pipeline import base_environment

NEWEST = VERSIONS[-1]
CLIENTS = 8
REQUESTS = 1600
_PROMPT = "Summarise this. " * 240
"""About 4 KB."""


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
        plain = stack.enter_context(_proxy(folder / "plain", settings, callbacks="[]"))
        ours = stack.enter_context(_proxy(folder / "ours", settings))
        down = stack.enter_context(_proxy(folder / "down", away))
        for proxy in (plain, ours, down):
            _load(proxy)  # what is compiled at first use
        for number in rounds():
            order = [plain, ours, down][:: 1 if number % 2 else -1]
            found = {proxy: _load(proxy) for proxy in order}
            rate, p99 = found[plain]
            figures.add(
                proxy_throughput_ratio=found[ours][0] / rate,
                proxy_p99_ratio=found[ours][1] / p99,
                proxy_throughput_ratio_kafka_down=found[down][0] / rate,
                proxy_p99_ratio_kafka_down=found[down][1] / p99,
            )


@contextmanager
def _proxy(folder: Path, settings: dict[str, str], callbacks: str = OURS) -> Iterator[Proxy]:
    folder.mkdir()
    proxy = Proxy(NEWEST, folder, base_environment(settings), callbacks=callbacks)
    try:
        proxy.wait_ready()
        yield proxy
        proxy.stop()
    finally:
        proxy.clean_up()


def _load(proxy: Proxy) -> tuple[float, float]:
    """Put requests to a proxy from several clients; return requests a second, and p99 in s."""
    url, headers = proxy.client.base_url, dict(proxy.client.headers)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": _PROMPT}]})
    headers["content-type"] = "application/json"

    def client() -> list[float]:
        taken = []
        connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
        for _ in range(REQUESTS // CLIENTS):
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            taken.append(time.perf_counter() - began)
        return taken

    with ThreadPoolExecutor(CLIENTS) as pool:
        began = time.perf_counter()
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        taken = [seconds for one in clients for seconds in one.result()]
        seconds = time.perf_counter() - began
    assert len(taken) == REQUESTS, "a request failed"
    return REQUESTS / seconds, sorted(taken)[REQUESTS * 99 // 100]

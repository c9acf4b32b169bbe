"""What the callback costs a gateway: in its hook, in CPU, and in a real proxy."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import VERSIONS, offline, python_of
from benchmarks import arena, proxies
from benchmarks.figures import Figures, rounds
from llmlog_local.ports import free_ports

NEWEST = VERSIONS[-1]


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
        _attacks(figures, settings)
        (closed,) = free_ports(1)
        away = settings | {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}",
            "LLMLOG_JOURNAL_DIR": str(folder / "away"),
        }
        print("through a proxy", flush=True)
        proxies.measure(figures, folder, kafka.pid, settings, away)


def _stages(settings: dict[str, str]) -> None:
    command = [str(python_of(NEWEST)), str(arena.SCRIPTS / "gateway_stages.py")]
    print(arena.run(command, offline(settings)).stdout, flush=True)


def _attacks(figures: Figures, settings: dict[str, str]) -> None:
    command = [str(python_of(NEWEST)), str(arena.SCRIPTS / "attacks.py")]
    worst = json.loads(arena.run(command, offline(settings)).stdout.splitlines()[-1])
    for what, (value, name) in worst.items():
        print(f"  worst {what} of all attacks: {value} ({name})", flush=True)
    figures.add(**{f"attack_{what}": value for what, (value, _) in worst.items()})


def _inside(figures: Figures, settings: dict[str, str], url: str) -> None:
    def side(*what: str, **more: str) -> dict[str, float]:
        command = [str(python_of(NEWEST)), str(arena.SCRIPTS / "gateway_side.py"), *what]
        usage = arena.run(command, offline(settings | more))
        return dict(json.loads(usage.stdout.splitlines()[-1]))

    spill, always = side("hook"), side("hook", LLMLOG_JOURNAL="always")
    memory = side("memory")
    ours = side("cpu")
    single = side("generic", "single", GENERIC_LOGGER_ENDPOINT=url)
    array = side("generic", "json_array", GENERIC_LOGGER_ENDPOINT=url)
    figures.add(
        hook_us_p50=spill["p50"],
        hook_us_p99=spill["p99"],
        hook_vs_dict_copy=spill["copies"],
        hook_always_us_p50=always["p50"],
        hook_always_us_p99=always["p99"],
        producer_rss_mb=memory["end"],
        producer_rss_mb_most=memory["most"],
        producer_cpu_us=ours["us"],
        producer_cpu_vs_generic_api=ours["us"] / single["us"],
        producer_cpu_vs_generic_api_array=ours["us"] / array["us"],
    )

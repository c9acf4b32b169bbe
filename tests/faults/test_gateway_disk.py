"""A gateway whose disk hangs, is full or has no locks, or whose clock is set: no hook waits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import VERSIONS, offline, python_of
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_schemas.codec import Decoder
from support.judge import read_all
from support.pipeline import base_environment

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("FAULT_SECONDS") or 20)
MAX_HOOK_SECONDS = 0.05

GATEWAY = """
import asyncio, gc, json, os, sys, time
import litellm

fault, seconds, size = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
path = os.path.join(os.environ["FAULTS"], fault)
taken, number = [], 0


async def call(seconds):
    global number
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number += 1
        payload = {"litellm_call_id": f"call {number}", "startTime": time.time(),
                   "status": "success", "messages": "y" * size}
        kwargs = {"standard_logging_object": payload}
        cpu, began = time.thread_time(), time.perf_counter()
        await handler.async_log_success_event(kwargs, None, None, None)
        taken.append((time.perf_counter() - began, time.thread_time() - cpu))
        await asyncio.sleep(0.005)


async def main():
    global handler
    from llmlog_producer.callback import handler  # in the event loop, as a proxy does: it connects

    await call(2)
    open(path, "w").close()
    await call(seconds)
    during = handler.stats()
    os.unlink(path)
    await call(2)
    return during

# The interpreter's collector stops a thread for longer than anything that is timed here.
gc.freeze()
during = asyncio.run(main())
left = handler.close(30)
taken.sort()
print(json.dumps({
    "left": left, "calls": number, "during": during, "after": handler.stats(),
    "worst": taken[-1][0], "worst_cpu": max(cpu for _, cpu in taken),
    "p99": taken[len(taken) * 99 // 100][0],
}))
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes the faults."""
    library = tmp_path_factory.mktemp("preload") / "faulty_disk.so"
    source = Path(__file__).parent / "preload/faulty_disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker."""
    (port,) = free_ports(1)
    with KafkaServer(tmp_path_factory.mktemp("kafka"), port) as server:
        yield server


@pytest.fixture
def environment(kafka: KafkaServer, preload: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of a gateway with a topic of its own, on a machine that may have faults."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(tmp_path.name, 3, 1)])[tmp_path.name].result(30)
    (tmp_path / "faults").mkdir()
    return base_environment(
        {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LLMLOG_TOPIC": tmp_path.name,
            "LLMLOG_JOURNAL_DIR": str(tmp_path / "spool"),
            "LD_PRELOAD": str(preload),
            "FAULTS": str(tmp_path / "faults"),
        }
    )


def run(environment: dict[str, str], fault: str, *, size: int = 4000) -> dict[str, Any]:
    """Have a gateway report calls before, while and after there is a fault; return its numbers."""
    done = subprocess.run(
        [python_of(VERSIONS[-1]), "-c", GATEWAY, fault, str(SECONDS), str(size)],
        env=offline(environment), text=True, capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    numbers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    during, after = numbers["during"], numbers["after"]
    print(
        f"\n{fault}: {numbers['calls']} calls; hook p99 {1e3 * numbers['p99']:.2f} ms, worst "
        f"{1e3 * numbers['worst']:.1f} ms (of CPU {1e3 * numbers['worst_cpu']:.1f} ms); during "
        f"the fault {during['pending']} pending, {during['in_journal']} in the journal; dropped "
        f"{after['dropped_queue_full']}, not journaled {after['not_journaled']}; "
        f"left {numbers['left']}"
    )
    numbers["log"] = done.stderr
    return numbers


def call_ids(environment: dict[str, str]) -> list[str]:
    """Return the call id of each record on the topic."""
    records = read_all(environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"], environment["LLMLOG_TOPIC"])
    return [Decoder().decode(record.value())["litellm_call_id"] or "" for record in records]


def send_journal(environment: dict[str, str]) -> None:
    """Send what a gateway has left."""
    done = subprocess.run(
        [python_of(VERSIONS[-1]), "-m", "llmlog_producer", "journal", "send"],
        env=offline(environment), text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("journal", ["spill", "always"])
@pytest.mark.parametrize("fault", ["hang", "full", "clock"])
def test_with_kafka_a_fault_of_the_disk_or_the_clock_costs_nothing(
    environment: dict[str, str], fault: str, journal: str
) -> None:
    numbers = run(environment | {"LLMLOG_JOURNAL": journal}, fault)
    assert numbers["worst"] < MAX_HOOK_SECONDS
    assert numbers["left"] == 0
    assert numbers["after"]["delivered"] == numbers["calls"]
    assert len(call_ids(environment)) == numbers["calls"]


@pytest.mark.parametrize("fault", ["hang", "full", "clock"])
def test_without_kafka_no_hook_waits_and_what_was_accepted_is_kept(
    environment: dict[str, str], fault: str
) -> None:
    (closed,) = free_ports(1)
    away = environment | {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}"}
    # Memory is full after 640 of the larger ones.
    numbers = run(away, fault, size=4000 if fault == "clock" else 200_000)
    after = numbers["after"]
    assert numbers["worst"] < MAX_HOOK_SECONDS
    assert after["accepted"] + after["dropped_queue_full"] == numbers["calls"]
    assert after["pending"] == after["accepted"] == after["in_journal"], "the disk is well again"
    assert (after["dropped_queue_full"] > 0) == (fault != "clock")
    assert ("EVENTS ARE LOST" in numbers["log"]) == (fault != "clock")
    send_journal(environment)
    assert len(set(call_ids(environment))) == after["accepted"]


@pytest.mark.parametrize("is_away", [False, True])
def test_without_locks_there_is_one_line_and_memory_alone(
    environment: dict[str, str], tmp_path: Path, *, is_away: bool
) -> None:
    (tmp_path / "faults/no_locks").touch()
    (closed,) = free_ports(1)
    away = {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}"} if is_away else {}
    numbers = run(environment | away, "no_locks", size=200_000 if is_away else 4000)
    assert numbers["worst"] < MAX_HOOK_SECONDS
    assert numbers["log"].count("no journal, events are kept in memory alone") == 1
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    if not is_away:
        assert numbers["after"]["delivered"] == numbers["calls"]

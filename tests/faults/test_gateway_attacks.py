"""A gateway under load whose clients send what keeps a gateway busy: no other request is late."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import ROOT, VERSIONS, offline, python_of
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_schemas.codec import Decoder
from support.judge import read_all
from support.pipeline import base_environment

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(900)]

SIZES = os.environ.get("FAULT_SIZES") or "1000,100000,1000000,8000000"
MAX_LATE_SECONDS = 0.05

GATEWAY = """
import asyncio, gc, json, sys, time
import litellm

sys.path.append(sys.argv[1])
from support.attacks import attacks

sizes = tuple(map(int, sys.argv[2].split(",")))
SMALL = {"status": "success", "messages": "word " * 800}
late = []


async def requests(handler):
    # One after the other, each due at a time: what makes it late is ours, or the machine's.
    while True:
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - due)


async def load(handler):
    number = 0
    while True:
        number += 1
        payload = SMALL | {"litellm_call_id": f"call {number}", "startTime": time.time()}
        await report(handler, payload)
        await asyncio.sleep(0.01)


async def report(handler, payload):
    kwargs = {"standard_logging_object": payload}
    await handler.async_log_success_event(kwargs, None, None, None)


async def attack(handler, payload):
    gc.collect()
    gc.freeze()  # a collection of what only this test holds stops every thread
    await asyncio.sleep(0.02)  # a request that the making of the payload has made late
    late.clear()
    await report(handler, payload)
    del payload
    accepted = handler.stats()["accepted"]
    while handler.stats()["delivered"] < accepted:  # others are reported meanwhile
        await asyncio.to_thread(handler.flush, 0.05)
    await asyncio.sleep(0.02)
    return max(late)


async def main():
    from llmlog_producer.callback import handler

    tasks = [asyncio.create_task(one(handler)) for one in (requests, load)]
    await asyncio.sleep(2)
    quiet, found, number = max(late), {}, 0
    for name, make in attacks(sizes):
        seconds = 1.0
        for _ in range(3):  # the machine may have stopped us: three times it does not
            number += 1
            payload = make() | {"litellm_call_id": f"attack {number}"}
            seconds = min(seconds, await attack(handler, payload))
            del payload
            if seconds < float(sys.argv[3]):
                break
        found[name] = seconds
    for task in tasks:
        task.cancel()
    left = await asyncio.to_thread(handler.flush, 60)
    print(json.dumps({"quiet": quiet, "late": found, "left": left, "stats": handler.stats()}))

asyncio.run(main())
"""


def test_no_hostile_payload_makes_another_request_late_and_each_is_an_event(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    with KafkaServer(tmp_path / "kafka", port) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        admin.create_topics([NewTopic("gateway", 3, 1)])["gateway"].result(30)
        settings = {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LLMLOG_TOPIC": "gateway",
            "LLMLOG_JOURNAL_DIR": str(tmp_path / "spool"),
        }
        arguments = [str(ROOT / "tests"), SIZES, str(MAX_LATE_SECONDS)]
        done = subprocess.run(
            [python_of(VERSIONS[-1]), "-c", GATEWAY, *arguments],
            env=offline(base_environment(settings)), text=True, capture_output=True, timeout=800,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        numbers = json.loads(done.stdout.splitlines()[-1])
        late, stats = numbers["late"], numbers["stats"]
        worst = max(late, key=late.get)
        print(
            f"\n{len(late)} attacks, {stats['accepted']} events: latest request "
            f"{1e3 * late[worst]:.1f} ms ({worst}); without any {1e3 * numbers['quiet']:.1f} ms"
        )
        assert late[worst] < MAX_LATE_SECONDS
        assert (numbers["left"], stats["delivered"]) == (0, stats["accepted"])
        assert stats["dropped_queue_full"] == stats["dropped_unreadable"] == 0
        records = read_all(kafka.bootstrap_servers, "gateway")
        ids = [Decoder().decode(record.value())["litellm_call_id"] for record in records]
        assert len(set(ids)) == len(ids) == stats["accepted"]

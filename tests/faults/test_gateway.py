"""Real proxies under load whose Kafka or whose process goes away; and secrets, planted anywhere."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from acceptance.gateway.proxy import ROOT, VERSIONS, Proxy, offline, python_of
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_schemas.codec import Decoder
from support.judge import read_all
from support.pipeline import base_environment, wait_until

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(900)]

NEWEST = VERSIONS[-1]
CLIENTS = 4
PAUSE_SECONDS = 0.03
"""Between two requests of a client."""
AWAY_SECONDS = float(os.environ.get("FAULT_SECONDS") or 120)
MAX_REQUEST_SECONDS = 2.0
"""A hundred times what a request takes."""
TURNS = 2
"""Restarts of all proxies."""
EVENTS = int(os.environ.get("FAULT_EVENTS") or 1_000_000)


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker that the test may stop."""
    (port,) = free_ports(1)
    with KafkaServer(tmp_path / "kafka", port) as server:
        yield server


@pytest.fixture
def environment(kafka: KafkaServer, tmp_path: Path) -> dict[str, str]:
    """Settings of a gateway with a topic and a journal folder of its own."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic("gateway", 3, 1)])["gateway"].result(30)
    return base_environment(
        {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LLMLOG_TOPIC": "gateway",
            "LLMLOG_JOURNAL_DIR": str(tmp_path / "spool"),
        }
    )


def started(folder: Path, environment: dict[str, str]) -> Proxy:
    """Start a proxy and wait until it answers."""
    return all_started([folder], environment)[0]


def all_started(folders: list[Path], environment: dict[str, str]) -> list[Proxy]:
    """Start proxies at one moment and wait until all answer."""
    proxies = []
    try:
        for folder in folders:
            folder.mkdir()
            proxies.append(Proxy(NEWEST, folder, environment))
        for proxy in proxies:
            proxy.wait_ready()
    except BaseException:
        for proxy in proxies:
            proxy.clean_up()
        raise
    return proxies


class Traffic:
    """Requests from several clients, one after the other, until `stop`.

    Attributes:
        taken: seconds of each request that was answered.
        failed: what was answered else.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.taken: list[float] = []
        self.failed: list[str] = []
        self._url = proxy.client.base_url
        self._headers = {**proxy.client.headers, "content-type": "application/json"}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client end its request."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]})
        connection = http.client.HTTPConnection(self._url.host, self._url.port, timeout=60)
        with closing(connection):
            while not self._over.wait(PAUSE_SECONDS):
                began = time.perf_counter()
                try:
                    connection.request("POST", "/v1/chat/completions", body, self._headers)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(repr(error))
                    return
                if answer.status == http.HTTPStatus.OK:
                    self.taken.append(time.perf_counter() - began)
                else:
                    self.failed.append(str(answer.status))


def on_topic(environment: dict[str, str]) -> set[str]:
    """Return the call ids of the events on the topic."""
    records = read_all(environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"], environment["LLMLOG_TOPIC"])
    return {Decoder().decode(record.value())["litellm_call_id"] for record in records}


def recorded(proxy: Proxy) -> set[str]:
    """Return the call ids of a callback behind ours, without an unfinished last line."""
    lines = proxy.recorded_file.read_text().splitlines(keepends=True)
    return {json.loads(line)["litellm_call_id"] for line in lines if line.endswith("\n")}


@pytest.mark.parametrize("journal", ["spill", "always"])
def test_kafka_is_away_for_two_minutes_under_load(
    kafka: KafkaServer, environment: dict[str, str], tmp_path: Path, journal: str
) -> None:
    proxy = started(tmp_path / "proxy", environment | {"LLMLOG_JOURNAL": journal})
    try:
        traffic = Traffic(proxy)
        wait_until(lambda: len(traffic.taken) > 200, 60, "requests are answered")
        before = len(traffic.taken)  # the first of them wait for what is loaded at first use
        kafka.stop()
        until = time.monotonic() + AWAY_SECONDS
        wait_until(lambda: time.monotonic() > until, AWAY_SECONDS + 10)
        kafka.start()
        after = len(traffic.taken) + 200
        wait_until(lambda: len(traffic.taken) > after, 60, "requests are answered")
        traffic.stop()
        assert not traffic.failed
        longest = max(traffic.taken[before:])
        assert longest < MAX_REQUEST_SECONDS
        made = len(traffic.taken)
        wait_until(lambda: len(recorded(proxy)) == made, 30, "every call is reported")
        wait_until(lambda: recorded(proxy) <= on_topic(environment), 120, "all are on the topic")
        assert on_topic(environment) == recorded(proxy)
        print(f"\n{journal}: {made} requests, longest {longest:.3f} s, none lost")
        proxy.stop()
    finally:
        proxy.clean_up()


@pytest.mark.parametrize("workers", [1, 4])
def test_a_rolling_restart_under_load_leaves_nothing_on_the_disk(
    environment: dict[str, str], tmp_path: Path, workers: int
) -> None:
    """Kafka is up: a pod's disk may go with it."""
    made: set[str] = set()
    for turn in range(TURNS):
        proxies = all_started([tmp_path / f"{turn}-{n}" for n in range(workers)], environment)
        traffics = [Traffic(proxy) for proxy in proxies]
        try:
            wait_until(lambda t=traffics: all(len(one.taken) > 100 for one in t), 120, "load")
            for proxy in proxies:
                proxy.process.send_signal(signal.SIGTERM)
            for proxy in proxies:
                proxy.process.wait(60)
        finally:
            for traffic in traffics:
                traffic.stop()
            for proxy in proxies:
                proxy.clean_up()
        made |= {call_id for proxy in proxies for call_id in recorded(proxy)}
        left = [file for file in (tmp_path / "spool").rglob("*.journal") if file.stat().st_size]
        assert not left
        assert made <= on_topic(environment)
    print(f"\n{workers} workers, two restarts: {len(made)} events, none on the disk alone")


def test_a_proxy_killed_in_mid_load_has_lost_nothing_that_its_hook_accepted(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment |= {"LLMLOG_JOURNAL": "always"}
    killed = started(tmp_path / "killed", environment)
    traffic = Traffic(killed)
    try:
        wait_until(lambda: len(traffic.taken) > 500, 60, "requests are answered")
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait(10)
    finally:
        traffic.stop()
        killed.clean_up()
    accepted = recorded(killed)
    assert len(accepted) > 400
    following = started(tmp_path / "following", environment)
    try:
        wait_until(lambda: accepted <= on_topic(environment), 60, "all that was accepted is there")
        following.stop()
    finally:
        following.clean_up()


_FEED = """
import asyncio, json, os, sys
sys.path.insert(0, sys.argv[1])
from gateway_side import payload
from llmlog_producer.callback import handler

async def main(events):
    given = [payload(number, 4000) for number in range(500)]
    sizes = []
    for number in range(events):
        kwargs = {"standard_logging_object": given[number % 500]}
        await handler.async_log_success_event(kwargs, None, None, None)
        if number % 50 == 49:
            await asyncio.sleep(0.005)
        if number % (events // 100) == 0:
            pages = int(open("/proc/self/statm").read().split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    print(json.dumps({"sizes": sizes, **handler.stats()}), flush=True)
    os._exit(0)

asyncio.run(main(int(sys.argv[2])))
"""


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_million_events_without_kafka_take_no_more_memory_than_is_set(
    tmp_path: Path, journal: str
) -> None:
    bound = 200_000_000
    (closed,) = free_ports(1)
    environment = base_environment(
        {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}",
            "LLMLOG_JOURNAL": journal,
            "LLMLOG_JOURNAL_DIR": str(tmp_path / "spool"),
            "LLMLOG_JOURNAL_MAX_BYTES": str(bound),
        }
    )
    done = subprocess.run(
        [python_of(NEWEST), "-c", _FEED, ROOT / "tests/benchmarks/scripts", str(EVENTS)],
        env=offline(environment), text=True, capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    output = json.loads(done.stdout.splitlines()[-1])
    sizes, spool = output["sizes"], tmp_path / "spool"
    on_disk = sum(file.stat().st_size for file in spool.rglob("*") if file.is_file())
    print(
        f"\n{journal}: {EVENTS} events; {output['accepted']} kept, {output['dropped_queue_full']} "
        f"dropped; memory {sizes[10]:.0f} MB after a tenth, {max(sizes):.0f} at most; "
        f"{on_disk / 1e6:.0f} MB on disk"
    )
    assert output["accepted"] + output["dropped_queue_full"] == EVENTS
    assert output["dropped_queue_full"] > 0, "the bound was reached"
    assert on_disk <= bound
    assert max(sizes) < 600
    assert max(sizes[50:]) < 1.1 * max(sizes[:50]), "flat once the bound is reached"
    assert "EVENTS ARE LOST" in done.stderr


def secret(number: int) -> str:
    """Return something that looks like a key and tells where it was planted."""
    return f"sk-PLANTED{number:02d}x8Kq2Wn5Rt7Yp3Zm"


def requests() -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield bodies and headers of requests; each number is planted in one place."""
    s = secret

    def chat(messages: Any, **more: Any) -> dict[str, Any]:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return {"model": "chat", "messages": messages, **more}

    parameters = {"type": "object", "properties": {"q": {"default": s(8)}}}
    function = {"name": "look", "description": f"with {s(7)}", "parameters": parameters}
    arguments = json.dumps({"key": s(5), "n": [s(28)]})
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    for body in (
        chat(f"my key is {s(1)}, keep it"),
        chat([{"role": "system", "content": f"use {s(2)}"}, {"role": "user", "content": "hi"}]),
        chat([{"role": "user", "content": [{"type": "text", "text": f"a {s(3)} b"}]}]),
        chat([{"role": "user", "content": "hi", "name": s(4)}]),
        chat([{"role": "user", "content": "hi"},
              {"role": "assistant", "content": None, "tool_calls": [call]},
              {"role": "tool", "tool_call_id": "c1", "content": f"found {s(6)}"}]),
        chat("hi", tools=[{"type": "function", "function": function}]),
        chat("hi", user=s(9)),
        chat("hi", metadata={"note": f"x={s(10)}", "deep": {"list": [1, {"k": s(11)}]}}),
        chat("hi", metadata={s(12): "as a key", "authorization": f"Bearer {s(13)}"}),
        chat("hi", metadata={"tags": [s(14)], "password": f"pw-{s(15)}"}),
        chat("hi", stop=[s(16)]),
        chat("hi", response_format={"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "object", "description": s(17)}}}),
        chat("hi", extra_body={"token": s(18)}),
        chat("hi", mock_response=f"the answer is {s(19)}"),
        chat(f"fails with {s(20)}") | {"model": "server-error"},
        chat(f"too long {s(21)}") | {"model": "context-too-long"},
        chat(f"filtered {s(22)}") | {"model": "filtered"},
        chat(f"no answer {s(23)}") | {"model": "unreachable"},
        chat(f"falls back {s(24)}") | {"model": "chat-with-fallback"},
        chat(f"streams {s(25)}", stream=True),
        {"model": "embeddings", "input": [f"embed {s(26)}", s(27)]},
        chat("hi", prediction={"type": "content", "content": s(29)}),
        chat("hi", litellm_session_id=s(30)),
        chat("hi", litellm_metadata={"spend_logs_metadata": {"job": s(31)}}),
        chat([{"role": "user", "content": [{"type": "image_url", "image_url": {
            "url": f"https://me:{s(32)}@127.0.0.1/x.png"}}]}]),
        chat(f'config: {{"api_key": "{s(33)}", "n": 1}}'),
        chat(f"curl -H 'Authorization: Bearer {s(34)}' x"),
    ):  # fmt: skip
        yield body, {}
    for number, name in enumerate(
        ("x-api-key", "x-custom-token", "cookie", "user-agent", "x-litellm-tags",
         "x-litellm-spend-logs-metadata", "x-forwarded-auth"), 40,
    ):  # fmt: skip
        value = json.dumps({"k": s(number)}) if "spend" in name else s(number)
        yield chat(f"with {name}"), {name: value}


@pytest.mark.parametrize("away", [False, True])
def test_no_planted_secret_is_found_anywhere(
    environment: dict[str, str], tmp_path: Path, *, away: bool
) -> None:
    """On the topic and in the log; with Kafka away, in the journal and in the log."""
    environment |= {"LLMLOG_JOURNAL": "always"}
    spool = tmp_path / "spool"
    if away:
        (closed,) = free_ports(1)
        environment |= {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}"}

    def written() -> bytes:
        if away:
            return b"".join(file.read_bytes() for file in spool.rglob("*") if file.is_file())
        servers = environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
        return b"".join(r.value() for r in read_all(servers, environment["LLMLOG_TOPIC"]))

    def complete() -> bool:
        """Tell whether everything that the recorder was given stands there too."""
        found = written()
        return all(call_id.encode() in found for call_id in recorded(proxy))

    proxy = started(tmp_path / "proxy", environment)
    try:
        for body, headers in requests():
            path = "/v1/embeddings" if "input" in body else "/v1/chat/completions"
            proxy.client.post(path, json=body, headers=headers).read()
        wait_until(lambda: len(recorded(proxy)) >= 30, 60, "calls are reported")
        wait_until(complete, 60, "all are there")
        proxy.stop()
    finally:
        proxy.clean_up()
    planted = re.compile(rb"PLANTED(\d\d)")
    given = {int(number) for number in planted.findall(proxy.recorded_file.read_bytes())}
    print(f"\nplanted in {len(given)} places of payloads: {sorted(given)}")
    assert len(given) >= 30, sorted(given)
    assert complete()
    ours = "\n".join(line for line in proxy.log().splitlines() if "llmlog" in line)
    assert ours or not away, "it says that it waits"
    for where, raw in (("written", written()), ("log", ours.encode())):
        assert sorted(set(planted.findall(raw))) == [], where

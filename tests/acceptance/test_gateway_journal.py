"""What a gateway leaves behind when it or Kafka dies, and how the next process sends it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from acceptance.gateway.proxy import CONFIG, VERSIONS, Proxy, offline, python_of
from llmlog_common.settings import load
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.timing import TIMING
from llmlog_schemas.codec import Decoder
from support.judge import read_all
from support.payloads import payload
from support.pipeline import SLOW, base_environment, wait_until

NEWEST = VERSIONS[-1]

# Calls until it is killed; says after each call how many events hook and journal have taken.
CALLS = """
import logging
import os
import signal
import time

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
logging.getLogger("llmlog_producer").setLevel(logging.INFO)
import litellm
from llmlog_producer.callback import handler

litellm.callbacks = [handler]
print("ready", flush=True)
number = 0
while True:
    number += 1
    litellm.completion(
        model="openai/gpt-4o-mini", mock_response="hi",
        messages=[{"role": "user", "content": f"call {number}"}],
    )
    # LiteLLM reports calls in threads of its own, which a tight loop would starve.
    while handler.stats()["accepted"] < number:
        time.sleep(0.001)
    # What the journal was late with, it may not have.
    print(handler.stats()["accepted"] - handler.stats()["not_journaled"], flush=True)
    if number == int(os.environ.get("STOP_AFTER", "0")):
        break
"""

ENDS = """
import atexit
import os
import signal
import sys


def call():
    handler.log_success_event({"standard_logging_object": {"id": "late"}}, None, None, None)


def end_soon():
    def end(*_):
        print("asked to end", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def late():
    end_soon()
    call()


# What is registered first runs last.
if sys.argv[1] == "in a late hook":
    atexit.register(late)
from llmlog_producer.callback import handler

if sys.argv[1] == "in our exit handler":
    call()
    atexit.register(end_soon)
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker that these tests may stop."""
    (port,) = free_ports(1)
    with KafkaServer(tmp_path_factory.mktemp("kafka"), port) as server:
        yield server


@pytest.fixture(autouse=True)
def _broker_runs(kafka: KafkaServer) -> Iterator[None]:
    """A test that fails while it has stopped the broker fails alone."""
    yield
    if not kafka.running:
        kafka.start()


@pytest.fixture
def environment(kafka: KafkaServer, tmp_path: Path) -> dict[str, str]:
    """Settings of a gateway with a topic and a journal folder of its own."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(tmp_path.name, 3, 1)])[tmp_path.name].result(30)
    return offline(
        base_environment(
            {
                "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "LLMLOG_TOPIC": tmp_path.name,
                "LLMLOG_JOURNAL_DIR": str(tmp_path / "spool"),
            }
        )
    )


@pytest.fixture
def no_kafka(environment: dict[str, str]) -> dict[str, str]:
    """The same with a port on which no server listens."""
    (closed,) = free_ports(1)
    return environment | {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed}"}


def start_publisher(
    environment: dict[str, str], stats: Stats | None = None, **options: Any
) -> Publisher:
    """Start a publisher in this very process."""
    ours = {name: value for name, value in environment.items() if name.startswith("LLMLOG_")}
    return Publisher(load(environ=ours), stats or Stats(), **options)


class Clients(list[KafkaProducer]):
    """The Kafka clients that publishers have made; `new` is passed to them as `new_client`."""

    def new(self, *arguments: Any) -> KafkaProducer:
        self.append(KafkaProducer(*arguments))
        return self[-1]


def records(environment: dict[str, str]) -> list[Any]:
    """Return all that is on the topic."""
    servers, name = environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"], environment["LLMLOG_TOPIC"]
    return list(read_all(servers, name))


def contents(environment: dict[str, str]) -> list[str]:
    """Return what was asked in each record on the topic, without doubles."""
    events = {record.key(): Decoder().decode(record.value()) for record in records(environment)}
    documents = [json.loads(event["document"]) for event in events.values()]
    return [document["messages"][0]["content"] for document in documents]


def journal(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m llmlog_producer journal`."""
    return subprocess.run(
        [python_of(NEWEST), "-m", "llmlog_producer", "journal", *arguments],
        env=environment, text=True, capture_output=True, timeout=60 * SLOW, check=False,
    )  # fmt: skip


def calls(environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """Start a script that makes calls."""
    with (folder / "stderr").open("w") as log:
        return subprocess.Popen(
            [python_of(NEWEST), "-c", CALLS], env=environment, cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip


def end_after(process: subprocess.Popen[str], number: int, end: signal.Signals) -> int:
    """Let it take so many events, end it by a signal, return how many it had taken at least."""
    assert process.stdout
    accepted = 0
    for line in process.stdout:
        accepted = 0 if line == "ready\n" else int(line)
        if accepted >= number:
            break
    process.send_signal(end)
    lines = process.communicate(timeout=30 * SLOW)[0].splitlines()
    assert process.returncode == -end
    return max([accepted, *(int(line) for line in lines)])


def test_kill_9_loses_nothing_that_the_hook_accepted(
    environment: dict[str, str], tmp_path: Path
) -> None:
    process = calls(environment | {"LLMLOG_JOURNAL": "always"}, tmp_path)
    accepted = end_after(process, 50, signal.SIGKILL)
    assert accepted >= 50
    sent = journal(environment, "send")
    assert sent.returncode == 0, sent.stderr
    found = contents(environment)
    # LiteLLM's threads report calls in any order.
    assert len(found) == len(set(found)) >= accepted
    assert json.loads(journal(environment, "show", "--json").stdout)["owners"] == []


def test_a_sigterm_while_kafka_is_away_loses_nothing(
    environment: dict[str, str], no_kafka: dict[str, str], tmp_path: Path
) -> None:
    accepted = end_after(calls(no_kafka, tmp_path), 20, signal.SIGTERM)
    sent = journal(environment, "send")
    assert sent.returncode == 0, sent.stderr
    assert len(set(contents(environment))) >= accepted


@pytest.mark.parametrize("when", ["in our exit handler", "in a late hook"])
def test_a_sigterm_while_an_exit_handler_waits_for_kafka_loses_nothing(
    environment: dict[str, str], no_kafka: dict[str, str], tmp_path: Path, when: str
) -> None:
    ended = subprocess.run(
        [python_of(NEWEST), "-c", ENDS, when], env=no_kafka, cwd=tmp_path, text=True,
        capture_output=True, timeout=60 * SLOW, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGTERM, ended.stderr
    assert ended.stdout == "asked to end\n"
    sent = journal(environment, "send")
    assert sent.stderr.endswith(f"1 events sent to {tmp_path.name}\n")


def test_what_a_script_could_not_send_the_next_one_sends(
    environment: dict[str, str], no_kafka: dict[str, str], tmp_path: Path
) -> None:
    first = calls(no_kafka | {"STOP_AFTER": "3"}, tmp_path)
    first.communicate(timeout=60 * SLOW)
    assert first.returncode == 0
    output = (tmp_path / "stderr").read_text()
    assert "3 events are not sent yet: they are kept in" in output
    assert "Traceback" not in output

    refused = journal(no_kafka, "send", "--timeout", "1")
    assert refused.returncode == 3
    assert "3 events are still in the journal" in refused.stderr
    shown = journal(no_kafka, "show")
    assert shown.returncode == 0, shown.stderr
    assert ": 3 events\n" in shown.stdout
    assert " ended " in shown.stdout

    sent = journal(environment, "send")
    assert sent.stderr.endswith(f"3 events sent to {tmp_path.name}\n")
    assert sorted(contents(environment)) == ["call 1", "call 2", "call 3"]
    assert json.loads(journal(environment, "show", "--json").stdout)["owners"] == []


def test_a_proxy_that_uvicorn_ends_leaves_everything_in_the_journal(
    environment: dict[str, str], no_kafka: dict[str, str], tmp_path: Path
) -> None:
    proxy = Proxy(NEWEST, tmp_path, no_kafka)
    try:
        proxy.wait_ready()
        for number in range(10):
            body = {"model": "chat", "messages": [{"role": "user", "content": f"call {number}"}]}
            proxy.client.post("/v1/chat/completions", json=body).raise_for_status()
        wait_until(lambda: len(proxy.recorded()) == 10, 30, "all calls are reported")
        began = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began < 10
    finally:
        proxy.clean_up()
    assert proxy.process.returncode in {0, -signal.SIGTERM}, "uvicorn's own end"
    sent = journal(environment, "send")
    assert sent.returncode == 0, sent.stderr + proxy.log()
    assert sorted(contents(environment)) == [f"call {number}" for number in range(10)]


def test_check_finds_everything_in_order(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [python_of(NEWEST), "-m", "llmlog_producer", "check", "--litellm-config", CONFIG],
        env=environment, text=True, capture_output=True, timeout=60 * SLOW, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    topic = environment["LLMLOG_TOPIC"]
    for expected in (f"may write to {topic}", f"{topic}: 3 partitions, max.message.bytes 1048588",
                 "names the handler", f"LiteLLM {NEWEST}"):  # fmt: skip
        assert expected in done.stdout


def test_a_broker_that_is_stopped_and_started_gets_everything(
    kafka: KafkaServer, environment: dict[str, str]
) -> None:
    stats = Stats()
    publisher = start_publisher(environment, stats)

    def offer(*numbers: int) -> None:
        for number in numbers:
            messages = [{"content": f"call {number}"}]
            given = payload(1, messages=messages, litellm_call_id=f"id {number}")
            assert publisher.offer(CapturedPayload(given, "", time.time()))

    offer(*range(100))
    assert publisher.flush(30) == 0
    kafka.stop()
    offer(*range(100, 200))
    wait_until(lambda: publisher.unsafe == 0, 30, "what Kafka cannot take is in the journal")
    assert stats.snapshot()["pending"] == 100
    kafka.start()
    offer(*range(200, 300))
    assert publisher.flush(60) == 0
    kafka.stop()
    offer(*range(300, 400))
    publisher.flush(0.01)  # wakes the thread: it hands them to the Kafka client
    assert publisher.close(30) == 100
    kafka.start()
    publisher = start_publisher(environment)
    assert publisher.flush(60, adopted=True) == 0
    assert publisher.close(5) == 0
    assert sorted(contents(environment)) == sorted(f"call {number}" for number in range(400))
    assert len(records(environment)) == 400, "the closed publisher has sent none of them too"


def test_a_topic_that_takes_no_large_batches_gets_small_ones(
    kafka: KafkaServer, environment: dict[str, str]
) -> None:
    bound = {"max.message.bytes": "20000"}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic("small", 1, config=bound)])["small"].result(30)
    environment |= {"LLMLOG_TOPIC": "small"}
    stats = Stats()
    clients = Clients()
    publisher = start_publisher(environment, stats, new_client=clients.new)
    for number in range(300):
        words = random.Random(number).randbytes(3000).hex()  # which cannot be packed
        given = payload(1, messages=[{"content": words}], litellm_call_id=f"id {number}")
        assert publisher.offer(CapturedPayload(given, "", time.time()))
    assert publisher.flush(60) == 0
    assert 0 < (clients[0].batch_bytes or 0) < 20_000
    assert publisher.close(5) == 0
    counted = stats.snapshot()
    assert (counted["delivered"], counted["truncated"], counted["failed"]) == (300, 0, 0)
    assert len(records(environment)) == 300


def test_a_burst_goes_to_one_partition_and_a_change_of_their_number_is_noticed(
    kafka: KafkaServer, environment: dict[str, str]
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic("grows", 2)])["grows"].result(30)
    environment |= {"LLMLOG_TOPIC": "grows"}
    clients = Clients()

    def start(topic_refresh_seconds: float) -> Publisher:
        timing = replace(TIMING, topic_refresh_seconds=topic_refresh_seconds)
        return start_publisher(environment, timing=timing, new_client=clients.new)

    publisher = start(0.2)
    sent: list[str] = []

    def send_burst() -> set[int]:
        """Send 20 events; return the partitions that have events since the topic was created."""
        for _ in range(20):
            sent.append(f"id {len(sent)}")
            given = payload(1, litellm_call_id=sent[-1])
            assert publisher.offer(CapturedPayload(given, "", time.time()))
        assert publisher.flush(60) == 0
        return {record.partition() for record in records(environment)}

    wait_until(lambda: clients[0].partitions.partition_count == 2, 30, "it is found")
    assert len(send_burst()) == 1
    admin.create_partitions([NewPartitions("grows", 6)])["grows"].result(30)
    wait_until(lambda: clients[0].partitions.partition_count == 6, 30, "more are seen")
    wait_until(lambda: len(send_burst()) == 6, 60, "each has its turn")
    assert len(records(environment)) == len(sent)

    # One that does not look the topic up again learns of fewer partitions by a refusal.
    publisher.close(5)
    publisher = start(1000.0)
    wait_until(lambda: clients[1].partitions.partition_count == 6, 30, "it is found")
    send_burst()
    sent.clear()
    admin.delete_topics(["grows"])["grows"].result(30)
    wait_until(lambda: "grows" not in admin.list_topics(timeout=10).topics, 30, "it is gone")
    admin.create_topics([NewTopic("grows", 1)])["grows"].result(30)
    for _ in range(6):
        send_burst()
    assert clients[1].partitions.partition_count < 2, "the former number is not used any more"
    publisher.close(5)
    assert len(records(environment)) == len(sent)


def test_a_partitioner_of_the_users_own_decides_by_the_key(environment: dict[str, str]) -> None:
    environment |= {"LLMLOG_KAFKA_PRODUCER_PARTITIONER": "murmur2_random"}
    publisher = start_publisher(environment)
    for number in range(60):
        given = payload(1, litellm_call_id=f"id {number}")
        assert publisher.offer(CapturedPayload(given, "", time.time()))
    assert publisher.flush(60) == 0
    assert publisher.close(5) == 0
    assert {record.partition() for record in records(environment)} == {0, 1, 2}

"""What a rebalance of a large group costs, and a member that does nothing.

`make bench ONLY=members`: 200 partitions and 100 members, in few processes, with the clients'
properties of a worker and without anything behind them; with each of Kafka's two group protocols.
A member joins, leaves, and is killed. What is measured are seconds from the change until nothing
moves any more, partitions that moved, and the longest time that one of them had no owner.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import arena
from benchmarks.figures import Figures

PARTITIONS, PROCESSES, MEMBERS_EACH = 200, 4, 25
PROTOCOLS = ("classic", "consumer")
QUIET_SECONDS, LONGEST_SECONDS, IDLE_SECONDS = 7.0, 90.0, 10.0
"""Quiet is longer than a heartbeat: with the newer protocol a partition moves by two of them."""


@dataclass
class Group:
    """What its members have said so far.

    Attributes:
        events: seconds of the monotonic clock, partition, and whether it was given or taken.
    """

    settings: Mapping[str, str]
    events: list[tuple[float, int, bool]] = field(default_factory=list)

    def start(self, count: int) -> subprocess.Popen[str]:
        """Start a process with this many members."""
        process = subprocess.Popen(
            [sys.executable, str(arena.SCRIPTS / "members.py"), str(count)],
            env=arena.environment(self.settings), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            said = json.loads(line)
            for what in ("given", "taken"):
                self.events += [
                    (said["at"], number, what == "given") for number in said.get(what, ())
                ]

    def wait_quiet(self, began: float) -> None:
        """Wait until nothing has moved for a while, and what was taken has been given again."""
        while time.monotonic() < began + LONGEST_SECONDS:
            time.sleep(0.1)
            last = {number: given for at, number, given in sorted(self.events) if at >= began}
            moved = [at for at, *_ in self.events if at >= began]
            if moved and all(last.values()) and time.monotonic() - max(moved) > QUIET_SECONDS:
                return
        raise SystemExit(f"not quiet after {LONGEST_SECONDS} s")

    def report(self, what: str, began: float) -> None:
        """Print what has happened since then."""
        since = sorted(event for event in self.events if event[0] >= began)
        taken = {number: at for at, number, given in since if not given}
        gaps = [at - taken.get(number, began) for at, number, given in since if given]
        moved = len({number for _, number, given in since if given})
        print(
            f"    {what:22} {since[-1][0] - began:6.1f} s, {moved:4} partitions given, "
            f"the longest without an owner {max(gaps, default=0):5.1f} s",
            flush=True,
        )


def measure_protocol(bootstrap: str, broker: psutil.Process, protocol: str) -> None:
    """Measure one of the two."""
    topic = f"members-{protocol}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS)]).values():
        future.result(60)
    group = Group(
        {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "LLMLOG_ELASTICSEARCH_URL": "http://127.0.0.1:9",
            "LLMLOG_TOPIC": topic,
            "LLMLOG_GROUP": topic,
            "LLMLOG_KAFKA_CONSUMER_GROUP_PROTOCOL": protocol,
        }
    )
    print(protocol, flush=True)
    processes: list[subprocess.Popen[str]] = []

    def change(what: str, act: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        group.wait_quiet(began)
        group.report(what, began)

    def start(count: int) -> None:
        processes.append(group.start(count))

    def end(how: signal.Signals) -> None:
        processes.pop().send_signal(how)

    try:
        change(f"{PROCESSES * MEMBERS_EACH} members begin",
               lambda: [start(MEMBERS_EACH) for _ in range(PROCESSES)])  # fmt: skip
        watched = [broker, *(psutil.Process(one.pid) for one in processes)]
        before = [sum(one.cpu_times()[:2]) for one in watched]
        time.sleep(IDLE_SECONDS)
        spent = [sum(one.cpu_times()[:2]) - was for one, was in zip(watched, before, strict=True)]
        members = PROCESSES * MEMBERS_EACH
        memory = sum(one.memory_info().rss for one in watched[1:]) / members
        print(
            f"    idle, for each member: {sum(spent[1:]) / members / IDLE_SECONDS:.2%} of a core, "
            f"{spent[0] / members / IDLE_SECONDS:.2%} of the broker's, {memory / 1e6:.1f} MB",
            flush=True,
        )
        change("one more joins", lambda: start(1))
        change("it leaves", lambda: end(signal.SIGTERM))
        change("one more joins again", lambda: start(1))
        change("it is killed", lambda: end(signal.SIGKILL))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(figures: Figures) -> None:
    """Measure both protocols; it prints, and has no goals."""
    del figures
    with tempfile.TemporaryDirectory() as name, arena.kafka(Path(name)) as kafka:
        for protocol in PROTOCOLS:
            measure_protocol(kafka.bootstrap_servers, psutil.Process(kafka.pid), protocol)

"""Runs the consumer under load, breaks something in mid-run, mends it, and counts everything.

Every run ends the same way: everything is committed, SIGTERM ends the process with code 0, and
the judge and `pipeline verify` find the same: nothing lost, nothing doubled.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.jars import ELASTICSEARCH_VERSIONS
from llmlog_local.ports import free_ports
from llmlog_local.testing import RunningServers
from support.fault_proxy import FaultProxy
from support.judge import Judgement, judge
from support.payloads import encoded
from support.pipeline import SLOW, Pipeline, wait_until, workers_of

SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
_RECORDS = os.environ.get("FAULT_RECORDS")
SHORT = int(_RECORDS or 3_000)
LONG = int(_RECORDS or 20_000)
PATIENCE = 180.0


@dataclass
class Row:
    """One line of the table at the end."""

    fault: str
    sent: int
    documents: int
    dead: int
    recovered: int
    lost: int
    doubled: int
    seconds: float
    seed: int
    others: float | None = None
    """Rate of what the fault does not touch: during the fault, divided by that before it."""
    said: float | None = None
    """Seconds until `pipeline status`, or a letter, named the cause."""


HEADINGS = {"others": "others kept flowing at", "said": "said within"}

ROWS: list[Row] = []

UNAUTHORIZED = (
    "401 Unauthorized",
    b'{"error":{"type":"security_exception","reason":"unable to authenticate user"},"status":401}',
)
"""For `FaultProxy.answer`: what Elasticsearch says to credentials that it does not know."""


def patience(records: int) -> float:
    """Return seconds in which so many records are done with, whatever machine this is."""
    return max(PATIENCE, records / 250)


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    names = list(Row.__dataclass_fields__)
    if not any(row.said for row in ROWS):
        names = [name for name in names if name not in HEADINGS]
    headings = [HEADINGS.get(name, name) for name in names]
    width = max(len(row.fault) for row in ROWS)
    widths = [max(9, len(heading)) for heading in headings[1:]]
    cells = zip(headings[1:], widths, strict=True)
    yield f"{headings[0]:<{width}} " + " ".join(f"{name:>{w}}" for name, w in cells)
    for row in ROWS:
        texts = [_cell(name, getattr(row, name)) for name in names[1:]]
        cells = zip(texts, widths, strict=True)
        yield f"{row.fault:<{width}} " + " ".join(f"{text:>{w}}" for text, w in cells)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    digits = 2 if name == "others" else 1
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def bad_value(seed: int) -> bytes | None:
    """Return a record that no document can be made of; the seed picks which kind."""
    kinds: list[Callable[[], bytes | None]] = [
        f"garbage {seed}".encode,
        lambda: None,
        lambda: b"",
        lambda: encoded(seed)[:40],
        lambda: encoded(seed, event_id=f"short {seed}"),
        lambda: encoded(seed, document=b"[1]"),
        lambda: encoded(seed, document=b'{"messages":{"broken": }'),
        lambda: encoded(seed, document=b'{"a":1}\n{"delete":{"_index":"x","_id":"y"}}\n'),
        lambda: encoded(seed, document=b'{"cache_hit":"perhaps"}'),
        lambda: encoded(seed, document=b'{"metadata":{"a":1},"metadata":{"a":{"b":1}}}'),
    ]
    return kinds[seed // 7 % len(kinds)]()


@dataclass
class Load:
    """Sends records in the background: half at once, some during the fault, the rest after it.

    Or evenly, at a rate.

    Args:
        bootstrap: where to send, never through a proxy.
        topic: the source topic.
        records: how many.
        bad_share: of them that are bad.
        good_until: records before which none is bad.
        options: librdkafka properties.
        rate: records a second; 0: as above.
        partitions: that get records, in turn; none: as the keys say.
    """

    bootstrap: str
    topic: str
    records: int
    bad_share: float = 0.0
    good_until: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.0
    partitions: tuple[int, ...] = ()
    sent: int = 0
    bad: int = 0
    delivered: int = 0
    extra: int = 0
    """Records that a fault sent beside the load."""

    def __post_init__(self) -> None:
        self._pick = random.Random(SEED)
        self._base = self._pick.randrange(1_000_000_000)
        self._failures: list[Any] = []
        self._mended = threading.Event()
        self._pace = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "acks": "all",
             "enable.idempotence": True, "message.timeout.ms": 0, "log_level": 0}
            | self.options
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Send the rest; wait until everything is on the topic."""
        self._mended.set()
        self._thread.join(patience(self.records))
        assert not self._thread.is_alive(), f"only {self.delivered} of {self.records} were taken"
        assert not self._failures, self._failures[0]
        assert self.delivered == self.records

    def value(self, number: int) -> bytes | None:
        """Return the record of this number."""
        seed = self._base + number
        if number >= self.good_until and self._pick.random() < self.bad_share:
            self.bad += 1
            return bad_value(seed)
        return encoded(seed)

    @property
    def all_sent(self) -> bool:
        """Whether a load with a rate has come to its end."""
        return self.sent >= self.records or bool(self._failures)

    def _run(self) -> None:
        try:
            began = time.monotonic()
            while self.rate and self.sent < self.records:
                due = int((time.monotonic() - began) * self.rate)
                self._send(min(due, self.records) - self.sent)
                self._pace.wait(0.02)
            self._send(self.records // 2 - self.sent)
            while self.sent < self.records * 4 // 5 and not self._mended.is_set():
                self._send(max(1, self.records // 200))
                self._pace.wait(0.1)
            while self.sent < self.records * 19 // 20 and not self._mended.is_set():
                self._send(1)  # a fault that lasts still meets records
                self._pace.wait(0.2)
            self._mended.wait(patience(self.records) * 2)
            self._send(self.records - self.sent)
            while self._producer.flush(1):
                pass
        except Exception as error:  # noqa: BLE001 - told by `finish`
            self._failures.append(error)

    def _send(self, number: int) -> None:
        for _ in range(number):
            value = self.value(self.sent)
            turns = self.partitions or (-1,)
            partition = turns[self.sent % len(turns)]
            while True:
                try:
                    self._producer.produce(
                        self.topic, value, key=f"k{self.sent}", partition=partition,
                        on_delivery=self._reported,
                    )  # fmt: skip
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.sent += 1
        self._producer.poll(0)

    def _reported(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failures.append(error)
        else:
            self.delivered += 1


@dataclass
class Arena:
    """A pair of servers that faults may kill, each also behind a proxy."""

    servers: RunningServers
    kafka_proxy: FaultProxy
    elastic_proxy: FaultProxy

    @property
    def bootstrap(self) -> str:
        """The broker itself."""
        return self.servers.kafka.bootstrap_servers

    def through_proxies(self) -> dict[str, str]:
        """Return the settings that lead through both proxies."""
        return {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka_proxy.port}",
            "LLMLOG_ELASTICSEARCH_URL": f"http://127.0.0.1:{self.elastic_proxy.port}",
        }


@dataclass
class Run:
    """One run of one fault.

    Attributes:
        arena: the servers.
        pipeline: the command, with names of its own; its environment leads to no proxy.
        load: what is sent.
        consuming: the supervisor of `pipeline consume`.
        settings: of that command alone.
    """

    arena: Arena
    pipeline: Pipeline
    load: Load
    settings: dict[str, str]
    workers: int
    consuming: subprocess.Popen[str] = field(init=False)
    undisturbed: bool = True

    def consume(self, *arguments: str, workers: int | None = None) -> subprocess.Popen[str]:
        """Start a `pipeline consume`."""
        plain = self.pipeline.environment
        self.pipeline.environment = plain | self.settings
        try:
            count = str(workers or self.workers)
            return self.pipeline.start("consume", "--workers", count, *arguments)
        finally:
            self.pipeline.environment = plain

    def worker(self) -> psutil.Process:
        """Return one worker process."""
        return wait_until(lambda: self.worker_processes()[:1], what="a worker runs")[0]

    def worker_processes(self) -> list[psutil.Process]:
        """Return the workers that run now."""
        return workers_of(self.consuming)

    def family(self) -> list[psutil.Process]:
        """Return every process that the supervisor has started and that runs."""
        return psutil.Process(self.consuming.pid).children(recursive=True)

    def wait_for_documents(self, number: int) -> None:
        """Wait until so many are indexed."""
        self.wait(lambda: self.pipeline.count() >= number, what=f"{number} documents")

    def wait_for_progress(self) -> None:
        """Wait until more is indexed than is now."""
        self.wait_for_documents(self.pipeline.count() + 1)

    def wait_for_line(self, words: str, timeout: float = PATIENCE) -> None:
        """Wait until the consumer has said this."""
        self.wait(lambda: words in self.said(), timeout, what=f"the line {words!r}")

    def wait(
        self, condition: Callable[[], object], timeout: float = PATIENCE, what: str = ""
    ) -> None:
        """Wait for a condition; show what the consumer said where it does not come."""
        try:
            wait_until(condition, timeout / SLOW, what)  # long enough for any machine
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.said()[-6000:]}") from None

    def outlast(self, seconds: float) -> None:
        """Let a fault last longer than some limit; the supervisor has to live through it."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > until or self.consuming.poll() is not None)
        assert self.consuming.poll() is None, self.said()[-4000:]

    def said(self) -> str:
        """Return what the consumer has written to stderr."""
        return self.pipeline.stderr_of(self.consuming)

    def unsettled(self) -> int:
        """Return how many offsets the group has not committed."""
        consumer = Consumer(
            {"bootstrap.servers": self.arena.bootstrap, "group.id": self.pipeline.group,
             "log_level": 0}
        )  # fmt: skip
        try:
            numbers = consumer.list_topics(self.pipeline.topic, 10).topics[self.pipeline.topic]
            names = [TopicPartition(self.pipeline.topic, p) for p in numbers.partitions]
            left = 0
            for place in consumer.committed(names, 10):
                _, end = consumer.get_watermark_offsets(place, 10)
                left += end - max(place.offset, 0)
        except KafkaException:
            return -1
        else:
            return left
        finally:
            consumer.close()

    def ends(self) -> dict[int, int]:
        """Return the next offset of each partition of the source topic."""
        consumer = Consumer({"bootstrap.servers": self.arena.bootstrap, "group.id": "ends"})
        topic = self.pipeline.topic
        numbers = consumer.list_topics(topic, 10).topics[topic].partitions
        marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 10) for p in numbers}
        consumer.close()
        return {p: end for p, (_, end) in marks.items()}

    def row(self, name: str, verdict: Judgement, began: float) -> Row:
        """Add a line to the table."""
        row = Row(
            name, len(verdict.sent), len(verdict.documents), len(verdict.dead),
            len(verdict.recovered), len(verdict.lost), len(verdict.doubled),
            time.monotonic() - began, SEED,
        )  # fmt: skip
        ROWS.append(row)
        return row

    def status(self) -> dict[str, Any]:
        """Return what `pipeline status` says."""
        return dict(json.loads(self.pipeline.run("status", "--json", check=False).stdout))

    def admin(self) -> AdminClient:
        """Return an admin client of the broker."""
        return AdminClient({"bootstrap.servers": self.arena.bootstrap})

    def elastic(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask Elasticsearch something that has to work."""
        url = f"{self.pipeline.elasticsearch}{path}"
        return httpx.request(method, url, timeout=60, **options).raise_for_status()

    def kill(self, process: subprocess.Popen[str] | psutil.Process) -> None:
        """Kill -9; what was counted in that process is gone."""
        self.undisturbed = False
        process.send_signal(signal.SIGKILL)


Fault = Callable[[Run], None]
"""Breaks something once documents come in, and mends it before it returns."""


def run_under_load(
    name: str,
    fault: Fault,
    arena: Arena,
    pipeline: Pipeline,
    *,
    records: int = SHORT,
    workers: int = 2,
    bad_share: float = 0.0,
    good_until: int = 0,
    settings: dict[str, str] | None = None,
    exact: bool = True,
    producer: dict[str, Any] | None = None,
) -> Run:
    """Run a fault to its full count.

    Args:
        name: for the table.
        fault: what goes wrong.
        arena: the servers.
        pipeline: set up.
        records: how many are sent.
        workers: of the consumer.
        bad_share: of records that are bad.
        good_until: records before which none is bad.
        settings: of the consumer alone, such as the way through the proxies.
        exact: whether documents must be the good ones and letters the bad ones, one for one.
        producer: librdkafka properties of what sends.
    """
    began = time.monotonic()
    print(f"\n{name}: FAULT_SEED={SEED} FAULT_RECORDS={records}")
    load = Load(arena.bootstrap, pipeline.topic, records, bad_share, good_until, producer or {})
    run = Run(arena, pipeline, load, settings or {}, workers)
    run.consuming = run.consume()
    load.start()
    run.wait_for_documents(records // 10)
    fault(run)
    load.finish()
    settle(run)
    stop(run)
    count(run, name, began, exact=exact)
    return run


def settle(run: Run) -> None:
    """Wait until everything on the topic is committed."""
    within = patience(run.load.records)
    run.wait(lambda: run.unsettled() == 0, within, what="everything is committed")
    assert run.status()["lag"] == 0


def stop(run: Run) -> None:
    """End the consumer as an operator does; nothing of it may stay behind."""
    family = run.family()
    run.consuming.send_signal(signal.SIGTERM)
    try:
        code = run.consuming.wait(60 * SLOW)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"SIGTERM does not end it; it said:\n{run.said()[-6000:]}") from None
    assert code == 0, run.said()[-6000:]
    _, alive = psutil.wait_procs(family, timeout=10 * SLOW)
    assert not alive, f"left behind: {alive}"
    if run.undisturbed:
        assert "worker died" not in run.said(), run.said()[-6000:]
        numbers = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", _last_line(run.said()))}
        ends = ("indexed", "duplicate", "dead", "dropped", "released")
        assert numbers["consumed"] == sum(numbers[end] for end in ends), numbers


def count(run: Run, name: str, began: float, *, exact: bool = True) -> None:
    """Have both counters count; they must agree, and find nothing wrong."""
    pipeline, load = run.pipeline, run.load
    verdict = judge(run.arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    documents = len(verdict.documents.keys() & verdict.sent)
    row = run.row(name, verdict, began)
    verdict.assert_exact()
    proof = json.loads(pipeline.run("verify", "--json", timeout=patience(row.sent)).stdout)
    found = {key: proof[key] for key in ("events", "documents", "recovered", "lost_count",
                                         "doubled_count", "retired", "ok")}  # fmt: skip
    assert found == {
        "events": row.sent, "documents": documents, "recovered": row.recovered, "lost_count": 0,
        "doubled_count": 0, "retired": 0, "ok": True,
    }  # fmt: skip
    assert proof["dead_letters"] == row.dead - row.recovered
    if exact:
        sent = load.records + load.extra
        assert row.sent == sent
        assert (documents, row.dead, row.recovered) == (sent - load.bad, load.bad, 0)


@contextmanager
def another_elasticsearch(
    folder: Path, version: str = ELASTICSEARCH_VERSIONS[0], **settings: str
) -> Iterator[ElasticsearchServer]:
    """Run an Elasticsearch with settings of its own."""
    (port,) = free_ports(1)
    named = {name.replace("__", "."): value for name, value in settings.items()}
    with ElasticsearchServer(folder / "es", port, version=version, settings=named) as server:
        yield server


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """SIGSTOP a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _last_line(said: str) -> str:
    return next(line for line in reversed(said.splitlines()) if "event=ended" in line)

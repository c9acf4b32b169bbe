"""Owns what benchmarks run against and with: servers, the stub sink, commands and their usage."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.watch import Watch, watching
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
PIPELINE = str(Path(sys.executable).with_name("pipeline"))


@dataclass
class Usage:
    """What a command took.

    Attributes:
        cpu_s: seconds of CPU, with its children.
        wall_s: seconds of the clock.
        began: monotonic seconds at its start.
        watch: of its processes.
        stdout: what it printed.
    """

    cpu_s: float
    wall_s: float
    began: float
    watch: Watch
    stdout: str


def aside(work: Callable[..., None], *arguments: Any) -> None:
    """Do something large in a process of its own, so that this one stays small."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")


def run(
    command: list[str], settings: Mapping[str, str], others: Mapping[str, int] | None = None
) -> Usage:
    """Run a command to its end.

    Args:
        command: program and arguments.
        settings: of ours; the caller's own are left out.
        others: ids of further processes to watch, by name.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment(settings), stdout=out, stderr=err, cwd=HERE.parents[1]
        )
        with _adopting_orphans(), watching(process.pid, others or {}) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            cpu_s = usage.ru_utime + usage.ru_stime + sum(map(_cpu_of_orphan, watch.family))
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command}: {process.returncode}\n{err.read().decode()[-3000:]}")
        return Usage(cpu_s, wall, began, watch, out.read().decode())


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Be the parent of what outlives its own: workers are children of a template that does."""
    prctl, subreaper = ctypes.CDLL(None).prctl, 36
    prctl(subreaper, 1)
    try:
        yield
    finally:
        prctl(subreaper, 0)


def _cpu_of_orphan(pid: int) -> float:
    """Wait for a process that we have adopted; return its CPU in seconds, with its children's."""
    try:
        _, _, usage = os.wait4(pid, 0)
    except ChildProcessError:  # its parent has waited for it
        return 0.0
    return usage.ru_utime + usage.ru_stime


def pipeline(
    settings: Mapping[str, str], *arguments: str, others: Mapping[str, int] | None = None
) -> Usage:
    """Run the command `pipeline`."""
    return run([PIPELINE, *arguments], settings, others)


@contextmanager
def consuming(settings: Mapping[str, str]) -> Iterator[Watch]:
    """Run `pipeline consume` for the length of the block; yield what is seen of it."""
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen([PIPELINE, "consume"], env=environment(settings), stderr=err)
        try:
            with watching(process.pid, {}) as watch:
                yield watch
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: the caller's own settings are left out."""
    return {k: v for k, v in os.environ.items() if not k.startswith("LLMLOG_")} | dict(settings)


@contextmanager
def kafka(folder: Path) -> Iterator[KafkaServer]:
    """Run a broker."""
    (port,) = free_ports(1)
    with KafkaServer(folder / "kafka", port) as server:
        yield server


@contextmanager
def elasticsearch(folder: Path) -> Iterator[ElasticsearchServer]:
    """Run an Elasticsearch with a heap that benchmarks do not fill."""
    (port,) = free_ports(1)
    with ElasticsearchServer(folder, port, heap="2g") as server:
        yield server


@contextmanager
def elasticsearch_apart(folder: Path, kafka: KafkaServer) -> Iterator[ElasticsearchServer]:
    """Run an Elasticsearch on a core of its own; the broker and whatever is run have the other."""
    with ExitStack() as stack:
        with on_core(0):
            server = stack.enter_context(elasticsearch(folder))
        stack.enter_context(moved(kafka.pid, 1))
        stack.enter_context(on_core(1))
        yield server


class Stub:
    """The stub sink, which may go and come back on the same port."""

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start; what came before is forgotten."""
        self._process = subprocess.Popen([sys.executable, SCRIPTS / "stub.py", str(self._port)])
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, "the stub does not come up"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def refuse(self, every: int, status: int, kind: str, reason: str) -> None:
        """Refuse one of so many documents from now on, as an item of a bulk's answer."""
        error = {"status": status, "error": {"type": kind, "reason": reason}}
        httpx.post(f"{self.url}/_refuse", json={"every": every, "item": error}).raise_for_status()

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).is_success
        except httpx.TransportError:
            return False

    def bulks(self) -> list[tuple[int, float, int]]:
        """Return of each bulk the sender's port, when it came, and its number of documents."""
        return [tuple(bulk) for bulk in httpx.get(f"{self.url}/_bulks", timeout=30).json()]


@contextmanager
def stub() -> Iterator[Stub]:
    """Run the stub sink."""
    sink = Stub()
    try:
        sink.start()
        yield sink
    finally:
        sink.kill()


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Keep what is started in this block on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def moved(pid: int, *cores: int) -> Iterator[None]:
    """Keep a running process on one core, or on some, for the length of the block."""
    before = os.sched_getaffinity(pid)
    _move(pid, set(cores))
    try:
        yield
    finally:
        _move(pid, before)


def _move(pid: int, cores: set[int]) -> None:
    with suppress(FileNotFoundError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)

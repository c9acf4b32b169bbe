"""Watches the processes of a command while it runs: CPU, memory, and who talks to the stub.

Read from `/proc` four times a second. Memory is asked of each process itself (`VmHWM`): what
`wait4` says of a child counts the peak that its parent had before the `exec`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

EVERY = 0.25
_KIB = 1024
_TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """One look.

    Attributes:
        at: monotonic seconds.
        cpu_s: seconds of CPU so far, by name: `workers` together, each of the others, and the whole
            `machine`.
        rss_mb: of the largest worker now.
    """

    at: float
    cpu_s: Mapping[str, float]
    rss_mb: float


class Watch:
    """What was seen of a command.

    Args:
        pid: of the command.
        others: further processes whose CPU counts, by name.

    Attributes:
        samples: in order.
        peak_mb: the most that any worker has had at once, or the command where it has no workers.
        total_mb: the most that the command and all below it have had together; what they share
            counts once.
        family: the ids of all these.
        ports: local ports of the workers' connections, and whose each is.
    """

    def __init__(self, pid: int, others: Mapping[str, int]) -> None:
        self._pid = pid
        self._others = others
        self._peaks: dict[bool, float] = defaultdict(float)
        self.samples: list[Sample] = []
        self.total_mb = 0.0
        self.family: set[int] = set()
        self.ports: dict[int, int] = {}

    @property
    def peak_mb(self) -> float:
        """The most that a process had."""
        return self._peaks.get(True, self._peaks[False])

    def look(self) -> None:
        """Take one sample."""
        workers = list(_workers(self._pid))
        cpu_s = {name: cpu_of(pid) for name, pid in self._others.items()}
        cpu_s["workers"] = sum(map(cpu_of, workers))
        cpu_s["machine"] = _machine_s()
        now = 0.0
        for pid, is_worker in [(self._pid, False), *((pid, True) for pid in workers)]:
            resident, peak = _memory_mb(pid)
            self._peaks[is_worker] = max(self._peaks[is_worker], peak)
            now = max(now, resident if is_worker or not workers else 0.0)
        self.samples.append(Sample(time.monotonic(), cpu_s, now))
        family = (self._pid, *_below(self._pid))
        self.family |= set(family)
        self.total_mb = max(self.total_mb, sum(map(_share_mb, family)))
        if len(self.samples) % 4 == 0:
            for pid in workers:
                with suppress(psutil.Error):
                    connections = psutil.Process(pid).net_connections("tcp")
                    self.ports |= {found.laddr.port: pid for found in connections}

    def cpu_between(self, begin: float, end: float) -> dict[str, float]:
        """Return the shares of a core that each took between two times."""
        inside = [sample for sample in self.samples if begin <= sample.at <= end]
        first, last = inside[0], inside[-1]
        return {
            name: (last.cpu_s[name] - first.cpu_s[name]) / (last.at - first.at)
            for name in last.cpu_s
        }


@contextmanager
def watching(pid: int, others: Mapping[str, int]) -> Iterator[Watch]:
    """Look again and again, for the length of the block."""
    watch, over = Watch(pid, others), threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            watch.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _below(pid: int) -> Iterator[int]:
    for child in map(int, _read(pid, f"task/{pid}/children").split()):
        yield child
        yield from _below(child)


def _workers(pid: int) -> Iterator[int]:
    return (child for child in _below(pid) if "worker" in _read(child, "cmdline"))


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has taken; 0 where it is gone."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _machine_s() -> float:
    """Return seconds in which the cores of this machine were not idle."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        user, nice, system, _idle, _waiting, *interrupts = map(int, stat.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


def _memory_mb(pid: int) -> tuple[float, float]:
    """Return what a process has in memory, and the most that it ever had."""
    lines = (line.split() for line in _read(pid, "status").splitlines())
    found = {line[0]: int(line[1]) for line in lines if line and line[0] in {"VmRSS:", "VmHWM:"}}
    return found.get("VmRSS:", 0) * _KIB / 1e6, found.get("VmHWM:", 0) * _KIB / 1e6


def _share_mb(pid: int) -> float:
    """Return a process's memory, in which a page that n processes have counts as an nth."""
    lines = (line.split() for line in _read(pid, "smaps_rollup").splitlines())
    return sum(int(line[1]) * _KIB / 1e6 for line in lines if line[0] == "Pss:")


def _read(pid: int, what: str) -> str:
    """Return a file of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""Owns the identity of a process: an id together with its birth, so a recycled id is not it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, for all time: `born` tells it from others that get the same id."""

    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return identify(self.pid) == self

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left that could hold a port: all its threads have ended."""
        seen = _look(self.pid)
        return seen is None or seen.born != self.born or (seen.ended and seen.threads <= 1)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, patience_s: float) -> None:
        """Ask it to end (SIGTERM), and kill it when it has not within `patience_s`."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a stopped process would not see the request
        if not self.wait_gone(patience_s):
            self.send(signal.SIGKILL)
            self.wait_gone(patience_s)

    def wait_gone(self, patience_s: float) -> bool:
        """Wait for its end; False when it still runs after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not self.gone:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """Identify a running process; None when there is none (or only a zombie)."""
    seen = _look(pid)
    return None if seen is None or seen.ended else ProcessIdentity(pid, seen.born)


@dataclass(frozen=True)
class _Seen:
    born: str  # in the system's own words
    ended: bool  # its first thread at least: a zombie
    threads: int


def _look(pid: int) -> _Seen | None:
    if not _BOOT_ID.exists():
        return _look_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything: state is the first field behind it.
    fields = stat.rpartition(")")[2].split()
    state, threads, start_ticks = fields[0], int(fields[17]), fields[19]
    born = f"{_BOOT_ID.read_text().strip()}/{start_ticks}"
    return _Seen(born, state in "ZX", threads)


def _look_by_ps(pid: int) -> _Seen | None:
    found = subprocess.run(  # noqa: S603 - an integer
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, start = found.stdout.strip().partition(" ")
    return _Seen(start.strip(), state.startswith("Z"), 1) if state else None

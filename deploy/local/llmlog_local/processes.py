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
        return birth(self.pid) == self.born

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
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """Identify a running process; None when there is none (or only a zombie)."""
    born = birth(pid)
    return None if born is None else ProcessIdentity(pid, born)


def birth(pid: int) -> str | None:
    """When the process was born, in the system's own words; None when it does not run."""
    if not _BOOT_ID.exists():
        return _birth_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything: state is the first field behind it.
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{_BOOT_ID.read_text().strip()}/{start_ticks}"


def _birth_by_ps(pid: int) -> str | None:
    found = subprocess.run(  # noqa: S603 - an integer
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, start = found.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else start.strip()

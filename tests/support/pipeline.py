"""Runs the installed command `pipeline` and looks at what it did, from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from llmlog_local.ports import free_ports

PIPELINE = str(Path(sys.executable).with_name("pipeline"))
SLOW = 5
"""Factor of every deadline: they are written for a quiet machine, and end a test that hangs."""


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the workers of a `pipeline consume` that run now: children of its template."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in family if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "worker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def wait_until(condition: Callable[[], object], timeout: float = 60.0, what: str = "") -> object:
    """Return the condition's first true value; fail where there is none in time.

    Args:
        condition: asked every 50 ms.
        timeout: seconds on a quiet machine.
        what: the condition in words, for the failure.
    """
    deadline = time.monotonic() + timeout * SLOW
    pause = threading.Event()
    while time.monotonic() < deadline:
        if value := condition():
            return value
        pause.wait(0.05)
    raise AssertionError(f"not within {timeout * SLOW} s: {what or condition}")


@dataclass
class Pipeline:
    """The installed command against the session's servers, with names of its own.

    Attributes:
        environment: the settings; change them before a command.
        program: what `start` starts, in the place of the installed command.
    """

    environment: dict[str, str]
    folder: Path
    elasticsearch: str
    topic: str
    index: str
    group: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    program: tuple[str, ...] = (PIPELINE,)

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 120, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """Run `pipeline ARGUMENTS` to its end."""
        done = subprocess.run(
            [PIPELINE, *arguments], env=self.environment, cwd=self.folder, text=True,
            capture_output=True, timeout=timeout * SLOW, check=False, **options,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr[-4000:]}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `pipeline ARGUMENTS`; its stderr goes to `stderr_of`."""
        with (self.folder / f"{len(self.processes)}.err").open("w") as log:
            process = subprocess.Popen(
                [*self.program, *arguments], env=self.environment, cwd=self.folder, text=True,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        """End what was started and still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def stderr_of(self, process: subprocess.Popen[str]) -> str:
        """Return what a started command has written to stderr so far."""
        return (self.folder / f"{self.processes.index(process)}.err").read_text()

    def open_page(self) -> None:
        """Let the next `consume` serve health and metrics."""
        (port,) = free_ports(1)
        self.environment["LLMLOG_METRICS_PORT"] = str(port)

    def ask_page(self, path: str) -> tuple[int, str]:
        """Return status and body of a path of the page; 0 where nothing answers."""
        port = self.environment["LLMLOG_METRICS_PORT"]
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return the values of the page, by name without prefix and the values of labels."""
        families = text_string_to_metric_families(self.ask_page("/metrics")[1])
        return {
            (sample.name.removeprefix("llmlog_consumer_"), *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, path: str, **json: object) -> dict:
        """Ask Elasticsearch."""
        answer = httpx.request(
            "POST" if json else "GET", f"{self.elasticsearch}{path}", json=json or None, timeout=120
        )
        return answer.json()

    def refresh(self) -> None:
        """Make everything indexed so far visible."""
        httpx.post(f"{self.elasticsearch}/{self.index}-*/_refresh", timeout=120)

    def count(self) -> int:
        """Return the number of documents behind the alias."""
        self.refresh()
        return int(self.get(f"/{self.index}/_count").get("count", 0))

    def documents(self) -> dict[str, dict]:
        """Return up to 10,000 documents by id."""
        self.refresh()
        hits = self.get(f"/{self.index}/_search", size=10_000)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}


def base_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without settings of ours, plus the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMLOG_")}
    return {**kept, **settings}

"""Owns the LiteLLM proxy: a real one, with our callback and models that answer by themselves."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from llmlog_local.ports import HOST, free_ports
from llmlog_local.processes import ProcessIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path("deploy/litellm/config.yaml")
_START_TIMEOUT_SECONDS = 120.0
_STOP_TIMEOUT_SECONDS = 30.0


class GatewayError(Exception):
    """The proxy is not installed, or did not start; the text says what to do."""


def find_litellm() -> Path:
    """Return the command `litellm` of the newest environment that `make litellm` made.

    Raises:
        GatewayError: there is none.
    """
    found = sorted(
        ROOT.glob(".venvs/litellm-*/bin/litellm"),
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])],
    )
    if not found:
        raise GatewayError("LiteLLM is not installed here: run `make demo`, or `make litellm`")
    return found[-1]


class Gateway:
    """The proxy as a child process, from `with` to `stop` or the end of the block.

    Attributes:
        command: as typed in a shell.
        address: its base URL.
        key: the master key, made up for this run.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._litellm = find_litellm()
        self._folder = folder
        self._environment = environment
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.key = f"sk-{secrets.token_hex(24)}"
        self.address = f"http://{HOST}:{self._port}"
        self.command = f"litellm --config {CONFIG} --host {HOST} --port {self._port}"

    def __enter__(self) -> Self:
        """Start it, without waiting until it answers."""
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - installed by `make litellm`
                [self._litellm, *self.command.split()[1:]],
                cwd=ROOT,
                env={
                    **self._environment,
                    "LLMLOG_JOURNAL_DIR": str(self._folder / "journal"),
                    "LITELLM_MASTER_KEY": self.key,
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_TELEMETRY": "False",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which ends it in order
            )
        if me := identify(self._process.pid):
            _pid_file(self._folder).write_text(json.dumps(asdict(me)))
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    @property
    def log_path(self) -> Path:
        """Its log."""
        return self._folder / "litellm.log"

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            GatewayError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                raise GatewayError(f"the proxy ended while it started: see {self.log_path}")
            if time.monotonic() > deadline:
                raise GatewayError(f"the proxy does not answer: see {self.log_path}")
            time.sleep(0.1)

    def models(self) -> dict[str, str]:
        """Return the provider's model behind every name that clients ask for."""
        answer = httpx.get(f"{self.address}/v1/model/info", headers=self.headers, timeout=30)
        answer.raise_for_status()
        return {
            model["model_name"]: model["litellm_params"]["model"] for model in answer.json()["data"]
        }

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a client that is signed in."""
        return {"Authorization": f"Bearer {self.key}"}

    def stop(self) -> None:
        """End it with SIGTERM, as an init system or Kubernetes does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            _pid_file(self._folder).unlink(missing_ok=True)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health/readiness").is_success
        except httpx.TransportError:
            return False


def end_previous(folder: Path) -> None:
    """End the proxy of an earlier run that was killed."""
    if _pid_file(folder).exists():
        ProcessIdentity(**json.loads(_pid_file(folder).read_text())).end(_STOP_TIMEOUT_SECONDS)


def _pid_file(folder: Path) -> Path:
    return folder / "gateway.json"

"""A real LiteLLM proxy as a child process, with our handler and a recorder beside it."""

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path

import httpx

from llmlog_local.ports import free_ports
from support.pipeline import SLOW, wait_until

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "deploy/litellm/config.yaml"
VERSIONS = ("1.106.2", "1.109.3", "1.110.2")
"""The oldest that is supported, and two of the newest."""

OURS = '["llmlog_producer.callback.handler"]'
BOTH = '["llmlog_producer.callback.handler", "recorder.recorder"]'


def python_of(version):
    """Return the interpreter that has this version of LiteLLM."""
    python = ROOT / f".venvs/litellm-{version}/bin/python"
    assert python.exists(), f"LiteLLM {version} is not installed: run make litellm"
    return python


def offline(environment):
    """Return an environment in which LiteLLM asks no server on the internet."""
    return {**environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


class Proxy:
    """Runs `litellm --config` until `stop`.

    Attributes:
        client: signed in with the master key.
        version: of LiteLLM.
    """

    def __init__(self, version, folder, environment, *arguments, callbacks=BOTH, more_config=""):
        self.version = version
        self.recorded_file = folder / "recorded.jsonl"
        self.log_file = folder / "proxy.log"
        key = f"sk-{secrets.token_hex(24)}"
        config = folder / "config.yaml"
        text = CONFIG.read_text()
        assert OURS in text
        config.write_text(text.replace(OURS, callbacks) + more_config)
        (port,) = free_ports(1)
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60 * SLOW,
        )
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [
                    python_of(version).with_name("litellm"), "--config", config,
                    "--host", "127.0.0.1", "--port", str(port), *arguments,
                ],
                env=offline(environment) | {
                    "LITELLM_MASTER_KEY": key,
                    "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
                    "RECORDER_FILE": str(self.recorded_file),
                },
                cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self):
        """Wait until it answers."""
        wait_until(self._ready, 60, "the proxy is ready")

    def _ready(self):
        assert self.process.poll() is None, f"the proxy ended:\n{self.log()[-4000:]}"
        try:
            return self.client.get("/health/readiness").is_success
        except httpx.TransportError:
            return False

    def log(self):
        """Return what it has logged so far."""
        return self.log_file.read_text(errors="replace")

    def recorded(self):
        """Return the payloads that the recorder was given so far."""
        if not self.recorded_file.exists():
            return []
        return [json.loads(line) for line in self.recorded_file.read_text().splitlines()]

    def stop(self):
        """End it with SIGTERM, as an init system or Kubernetes does."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30 * SLOW)

    def clean_up(self):
        """Leave nothing running, whatever happened before."""
        self.client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

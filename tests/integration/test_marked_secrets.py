"""Passwords and keys are in nothing that commands and gateway write, nor in any command's words.

Each secret holds a mark. All that is written is searched for it: logs, errors, help, health pages,
metrics, crashes; and the words of every process while ours run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acceptance.gateway.proxy import VERSIONS, offline, python_of
from llmlog_consumer.provision.rights import User
from llmlog_local.ports import free_ports
from support.pipeline import SLOW, Pipeline, base_environment, wait_until
from support.secure import NAMES, SecureServers, secure_servers

pytestmark = pytest.mark.long

MARK = "mRk7"
READING = (
    ("status", "--json"), ("verify",), ("trace", "call-1"), ("report",), ("offsets", "show"),
    ("dlq", "list"), ("dlq", "stats"), ("dlq", "export"), ("doctor", "--json"),
)  # fmt: skip
COMMANDS = (
    ("setup", "--dry-run"), ("setup", "--print", "acls"), ("setup", "--print", "role"), *READING,
    ("dlq", "replay", "--yes"), ("consume", "--until-end"), ("version",), ("--help",),
    ("consume", "--help"), ("setup", "--help"), ("console", "--help"),
)  # fmt: skip
CRASH = """
import os
import confluent_kafka.admin

def crash(*_, **__):
    raise RuntimeError("crashed with " + os.environ["LLMLOG_KAFKA_SASL_PASSWORD"])

confluent_kafka.admin.AdminClient.list_topics = crash
"""
"""A module that Python imports as it starts: a fault of ours, whose text quotes a secret."""
CALL = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import litellm, prometheus_client
from llmlog_producer.callback import handler
litellm.callbacks = [handler]
litellm.completion(model="openai/gpt-4o-mini", mock_response="hi",
                   messages=[{"role": "user", "content": "where?"}])
print("pending", handler.flush(float(sys.argv[1])), handler.stats(), repr(handler))
print(prometheus_client.generate_latest().decode())
"""
AWAY = {
    "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "LLMLOG_ELASTICSEARCH_URL": "https://127.0.0.1:9",
    "LLMLOG_COMMAND_PATIENCE": "1 s",
}
WRONG = {
    "LLMLOG_KAFKA_SASL_PASSWORD": f"{MARK}-wrong",
    "LLMLOG_ELASTICSEARCH_PASSWORD": f"{MARK}-wrong",
    "LLMLOG_COMMAND_PATIENCE": "1 s",
}
IN_URLS = {
    "LLMLOG_ELASTICSEARCH_USERNAME": "",
    "LLMLOG_ELASTICSEARCH_PASSWORD": "",
    "LLMLOG_ELASTICSEARCH_API_KEY": f"{MARK}a2V5OnNlY3JldA==",
    "LLMLOG_ELASTICSEARCH_HTTP_PROXY": f"http://someone:{MARK}@127.0.0.1:9",
    "LLMLOG_SCHEMA_REGISTRY_URL": f"http://someone:{MARK}@127.0.0.1:9",
    "LLMLOG_COMMAND_PATIENCE": "1 s",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServers]:
    folder = tmp_path_factory.mktemp("marked")
    (folder / "security").mkdir()
    for user in ("admin", *User):
        (folder / "security" / f"{user}.password").write_text(f"{MARK}-of-{user}\n")
    with secure_servers(folder) as running:
        yield running


@pytest.fixture
def pipeline(servers: SecureServers, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(base_environment({}), tmp_path, servers.elasticsearch.url, *NAMES.values())
    yield pipeline
    pipeline.kill_all()


def settings_of(servers: SecureServers, user: str, change: dict[str, str]) -> dict[str, str]:
    settings = base_environment(servers.environment(user) | change)
    assert any(MARK in value for value in settings.values())
    return {name: value for name, value in settings.items() if value}


def words_of_processes() -> str:
    """Return the words of every process of this machine."""
    found = []
    for process in psutil.process_iter():
        try:
            found += process.cmdline()
        except psutil.Error:
            continue
    return "\n".join(found)


@pytest.mark.parametrize(
    "change", [{}, WRONG, AWAY, IN_URLS], ids=["right", "wrong", "away", "urls"]
)
def test_no_command_writes_a_secret(
    pipeline: Pipeline, servers: SecureServers, change: dict[str, str]
) -> None:
    pipeline.environment = settings_of(servers, "setup", change)
    assert MARK not in repr(pipeline.run("setup", check=not change))
    codes = {}
    for command in COMMANDS:
        if change and command[0] == "consume" and "--help" not in command:
            continue  # it waits; the test below looks at it
        user = User.SETUP if command[0] == "setup" else User.OPERATOR
        user = User.WORKER if command[0] == "consume" else user
        pipeline.environment = settings_of(servers, user, change)
        done = pipeline.run(*command, check=False)
        codes[command] = done.returncode
        assert MARK not in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, command
    refused = {command for command, code in codes.items() if code in {3, 4}}
    assert refused >= ({("verify",), ("dlq", "list")} if change in (WRONG, AWAY) else set()), codes
    if not change:
        assert codes[("dlq", "list")] == codes[("consume", "--until-end")] == 0, codes


@pytest.mark.parametrize(
    "change", [{}, WRONG, AWAY, IN_URLS], ids=["right", "wrong", "away", "urls"]
)
def test_no_service_writes_a_secret(
    pipeline: Pipeline, servers: SecureServers, change: dict[str, str], tmp_path: Path
) -> None:
    """Workers and console: log, health, metrics, and the words of their processes."""
    if not change:
        pipeline.environment = settings_of(servers, "setup", change)
        pipeline.run("setup")
    pipeline.environment = settings_of(servers, "worker", change)
    pipeline.environment["LLMLOG_LOG_LEVEL"] = "debug"
    pipeline.open_page()
    workers = pipeline.start("consume", "--workers", "2")
    said = "waiting" if change else "event=assigned"
    wait_until(
        lambda: said in pipeline.stderr_of(workers) or workers.poll() is not None,
        what="workers run or wait, or the command has refused",
    )
    pages = ""
    if workers.poll() is None:
        wait_until(lambda: pipeline.ask_page("/healthz")[0], what="the page answers")
        pages = "".join(pipeline.ask_page(path)[1] for path in ("/healthz", "/readyz", "/metrics"))
        assert "llmlog_consumer_workers" in pages
    (port,) = free_ports(1)
    page = pipeline.environment
    pipeline.environment = settings_of(servers, "console", change)
    console = pipeline.start("console", "--port", str(port))
    wait_until(
        lambda: "http" in pipeline.stderr_of(console) or console.poll() is not None,
        what="the console is up, or has refused",
    )
    assert MARK not in words_of_processes()
    pipeline.environment = page
    for process in (workers, console):
        process.terminate()
        process.wait(60 * SLOW)
        printed = process.stdout.read() if process.stdout else ""
        assert MARK not in pipeline.stderr_of(process) + printed
    assert MARK not in pages


def test_no_crash_writes_a_secret(
    pipeline: Pipeline, servers: SecureServers, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    for command in (("setup",), ("verify",), ("status",), ("doctor",), ("consume", "--until-end")):
        pipeline.environment = settings_of(servers, "admin", {})
        path = f"{tmp_path}:{pipeline.environment.get('PYTHONPATH', '')}"
        pipeline.environment["PYTHONPATH"] = path
        done = pipeline.run(*command, check=False)
        assert "crashed with" in done.stdout + done.stderr, command
        assert MARK not in done.stdout + done.stderr, command


@pytest.mark.parametrize("change", [{}], ids=["right"])
def test_no_gateway_writes_a_secret(
    servers: SecureServers, change: dict[str, str], pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.environment = settings_of(servers, "setup", {})
    pipeline.run("setup")
    environment = offline(settings_of(servers, "gateway", change)) | {
        "LLMLOG_JOURNAL_DIR": str(tmp_path / "journal")
    }

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words], env=environment, capture_output=True, text=True, check=False,
            timeout=60 * SLOW, cwd=tmp_path,
        )  # fmt: skip

    called = run(python_of(VERSIONS[-1]), "-c", CALL, "30" if not change else "3")
    assert f"pending {1 if change else 0}" in called.stdout, called.stderr[-2000:]
    commands = (["check"], ["check", "--json"], ["journal", "show"], ["--help"])
    done = [called, *(run(sys.executable, "-m", "llmlog_producer", *words) for words in commands)]
    for one in done:
        assert MARK not in one.stdout + one.stderr, one.args
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if MARK.encode() in path.read_bytes()]
    assert ("ok     topic: secure" in done[1].stdout) is (not change), done[1]
    json.loads(done[2].stdout)

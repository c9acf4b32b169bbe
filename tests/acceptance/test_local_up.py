"""`pipeline local` from the outside: what it prints, when it returns, what it leaves running."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from llmlog_local.ports import free_ports
from support.pipeline import SLOW, wait_until

MAIN = "from llmlog_consumer.cli.local import app; app(prog_name='pipeline local')"


def command(folder, *words):
    return [sys.executable, "-c", MAIN, *words, "--dir", str(folder)]


def run(folder, *words):
    return subprocess.run(
        command(folder, *words), capture_output=True, text=True, timeout=120 * SLOW, check=False
    )


def start_up(folder):
    ports = [str(port) for port in free_ports(2)]
    words = ["up", "--kafka-port", ports[0], "--elasticsearch-port", ports[1]]
    return subprocess.Popen(
        command(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def servers(folder):
    """Processes of the servers in a folder, by module; zombies do not run."""
    found = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        module = next((word for word in words if word.startswith("llmlog_local.")), None)
        if module and str(folder / "state.json") in words:
            found[module] = process
    return found


def logged(folder, server, text):
    logs = list(folder.glob(f"{server}*/server.log"))
    return bool(logs) and text in logs[0].read_text(errors="replace")


MOMENTS = {
    "the lock is taken": lambda folder: (folder / "lock").exists(),
    "kafka is launched": lambda folder: len(servers(folder)) >= 1,
    "both are launched": lambda folder: len(servers(folder)) == 2,
    "kafka has started": lambda folder: logged(folder, "kafka", "Kafka Server started"),
    "elasticsearch serves": lambda folder: logged(folder, "elasticsearch", "started {n1}"),
}


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "stack"
    run(tmp_path / "stack", "down")
    for process in servers(tmp_path / "stack").values():
        process.kill()


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_before_up_has_returned_leaves_nothing_running(folder, moment):
    up = start_up(folder)
    wait_until(lambda: MOMENTS[moment](folder))
    up.kill()
    printed, _ = up.communicate(timeout=30 * SLOW)
    assert printed == ""
    wait_until(lambda: not servers(folder))
    assert run(folder, "status").returncode == 1


@pytest.mark.parametrize(
    ("module", "code", "name"),
    [("nodes.kafka", 3, "kafka"), ("nodes.elasticsearch", 4, "elasticsearch")],
)
def test_a_server_that_dies_while_it_starts_ends_up_and_the_other_one(folder, module, code, name):
    up = start_up(folder)
    wait_until(lambda: len(servers(folder)) == 2)
    servers(folder)[f"llmlog_local.{module}"].kill()
    printed, said = up.communicate(timeout=120 * SLOW)
    assert (up.returncode, printed) == (code, "")
    assert re.search(f"error: {name} ended while it started; the log .*server.log", said)
    assert not servers(folder)


def test_captured_output_returns_and_the_servers_stay_until_down(folder):
    killed = start_up(folder)  # what it leaves behind must not be in the way
    wait_until(lambda: len(servers(folder)) == 2)
    killed.kill()
    killed.communicate(timeout=30 * SLOW)
    wait_until(lambda: not servers(folder))

    up = start_up(folder)
    printed, _ = up.communicate(timeout=120 * SLOW)  # ends once no process holds the pipe
    assert up.returncode == 0
    kafka, elasticsearch = printed.splitlines()
    assert re.fullmatch(r"export LLMLOG_KAFKA_BOOTSTRAP_SERVERS=127\.0\.0\.1:\d+", kafka)
    assert re.fullmatch(r"export LLMLOG_ELASTICSEARCH_URL=http://127\.0\.0\.1:\d+", elasticsearch)
    assert len(servers(folder)) == 2
    assert all(os.getsid(one.pid) == one.pid for one in servers(folder).values())

    assert run(folder, "env").stdout == printed
    assert run(folder, "up").stdout == printed
    status = run(folder, "status", "--json")
    assert status.returncode == 0
    assert [row["running"] for row in json.loads(status.stdout)["servers"]] == [True, True]
    table = run(folder, "status").stdout.splitlines()
    assert table[0].split("\t") == ["name", "state", "port", "pid", "version", "log"]
    assert "Kafka Server started" in run(folder, "logs", "kafka", "--lines", "1000").stdout

    refused = run(folder, "up", "--elasticsearch-version", "9.5.3")
    assert refused.returncode == 2
    assert "elasticsearch runs already, with version 8" in refused.stderr

    down = run(folder, "down")
    assert (down.returncode, down.stdout) == (0, "")
    assert not servers(folder)
    assert run(folder, "env").returncode == 1


def test_ctrl_c_in_up_leaves_nothing_running(folder):
    up = start_up(folder)
    wait_until(lambda: len(servers(folder)) == 2)
    up.send_signal(signal.SIGINT)
    printed, _ = up.communicate(timeout=30 * SLOW)
    assert up.returncode != 0
    assert printed == ""
    # One that was being launched in that very moment sees by itself that no process holds it.
    wait_until(lambda: not servers(folder))


def test_a_taken_port_is_a_usage_error(folder):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        refused = run(folder, "up", "--kafka-port", port)
    assert refused.returncode == 2
    assert f"port {port} is taken" in refused.stderr
    assert refused.stdout == ""


def test_down_where_nothing_runs_is_fine(folder):
    assert run(folder, "down").returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("name", ["up", "env", "down", "status", "logs"])
def test_every_command_has_help_with_an_example(folder, name):
    helped = run(folder, name, "--help")
    assert helped.returncode == 0
    assert f"pipeline local {name}" in helped.stdout.partition("Example")[2]

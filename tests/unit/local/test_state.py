"""The state file, the identity of processes, and what the stack makes of them."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from llmlog_local.errors import LocalStackError, LocalUsageError
from llmlog_local.processes import ProcessIdentity, identify
from llmlog_local.server import tail
from llmlog_local.stack import LocalStack, export_lines
from llmlog_local.state import ServerState, read_state, write_state


def server(name, process, port=9092):
    return ServerState(name, "1.0", port, f"{name}.log", process)


def this_process():
    return identify(os.getpid())


def recycled():
    """Another process that had this one's id."""
    return ProcessIdentity(os.getpid(), "born before")


def test_a_written_state_is_read_back(tmp_path):
    servers = {"kafka": server("kafka", this_process())}
    write_state(tmp_path / "state.json", servers)
    assert read_state(tmp_path / "state.json") == servers
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_no_file_is_an_empty_stack(tmp_path):
    assert read_state(tmp_path / "state.json") == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"servers": [{"name": "kafka"}]}'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(LocalStackError, match=r"state\.json is damaged"):
        read_state(path)


def test_a_process_differs_from_a_later_one_with_its_id():
    assert this_process().alive
    assert not recycled().alive


def test_a_recycled_id_is_never_sent_a_signal():
    recycled().end(timeout_seconds=1)  # this very process would be the victim


def test_a_process_that_ended_is_not_alive_even_as_a_zombie():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(child.pid)
    child.stdin.close()
    assert identity.wait_for_end(30)  # not reaped yet
    assert identify(child.pid) is None
    child.wait()


def test_down_leaves_a_recycled_id_alone(tmp_path):
    stack = LocalStack(tmp_path)
    write_state(stack.state_file, {"kafka": server("kafka", recycled())})
    assert stack.down() == []
    assert not stack.state_file.exists()


def test_status_tells_running_from_stopped_and_never_started(tmp_path):
    stack = LocalStack(tmp_path)
    write_state(stack.state_file, {"kafka": server("kafka", this_process())})
    kafka, elasticsearch = stack.status()
    assert (kafka.running, kafka.port, kafka.pid) == (True, 9092, os.getpid())
    assert (elasticsearch.running, elasticsearch.port, elasticsearch.pid) == (False, None, None)


def test_an_environment_is_only_that_of_two_running_servers(tmp_path):
    stack = LocalStack(tmp_path)
    running = {"kafka": server("kafka", this_process())}
    write_state(stack.state_file, running)
    with pytest.raises(LocalStackError, match="start it with `up`"):
        stack.environment()
    both = running | {"elasticsearch": server("elasticsearch", this_process(), port=9200)}
    write_state(stack.state_file, both)
    assert stack.environment() == {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "LLMLOG_ELASTICSEARCH_URL": "http://127.0.0.1:9200",
    }


def test_a_running_server_is_not_moved_to_another_port(tmp_path):
    stack = LocalStack(tmp_path)
    write_state(stack.state_file, {"kafka": server("kafka", this_process())})
    with pytest.raises(LocalUsageError, match="port 9092, not 9999: end it first"):
        stack.up(kafka_port=9999)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStackError, match=r"cannot write in .*file.*--dir"):
        LocalStack(tmp_path / "file" / "stack").up()


@pytest.mark.parametrize("value", ["127.0.0.1:9092", "two words", "it's", "$(reboot)", ""])
def test_export_lines_are_quoted_for_a_shell(value):
    line = export_lines({"LLMLOG_TOPIC": value})
    assert shlex.split(line) == ["export", f"LLMLOG_TOPIC={value}"]


def test_the_tail_of_a_log(tmp_path):
    log = tmp_path / "server.log"
    assert tail(log, 3) == []
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert tail(log, 2) == ["line 98", "line 99"]
    assert tail(log, 0) == []


def test_the_state_file_is_readable_json(tmp_path):
    path = tmp_path / "state.json"
    write_state(path, {"kafka": server("kafka", this_process())})
    (entry,) = json.loads(path.read_text())["servers"]
    assert entry["process"]["pid"] == os.getpid()

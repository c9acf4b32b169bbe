"""The systemd unit runs a command with settings that exist, and waits for its drain."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

from llmlog_common.settings import load
from llmlog_consumer.worker.task import Task
from support.commands_in_files import parse

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/llmlog-consumer.service"


def service():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser["Service"]


def test_it_runs_a_command_of_pipeline():
    program, *arguments = shlex.split(service()["ExecStart"])
    assert program == "/opt/llmlog/bin/pipeline"
    parse(arguments)


def test_it_waits_for_the_drain_and_tells_the_supervisor_alone():
    assert service()["KillMode"] == "mixed"
    assert (
        int(service()["TimeoutStopSec"]) >= 2 * Task.__dataclass_fields__["drain_seconds"].default
    )


def test_its_settings_and_those_of_the_page_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = dict(pair.split("=") for pair in shlex.split(service()["Environment"]))
    load(environ={name: value for name, value in given.items() if name.startswith("LLMLOG_")})
    page = (ROOT / "docs/systemd.md").read_text()
    secret = tmp_path / "key"
    secret.write_text("key")
    lines = dict(re.findall(r"(?m)^(LLMLOG_\w+)=(.*)$", page))
    load(
        environ={
            name: str(secret) if name.endswith("_FILE") else value for name, value in lines.items()
        }
    )


def test_a_wrong_setting_is_not_tried_again():
    from llmlog_common.errors import ConfigurationError

    assert service()["RestartPreventExitStatus"] == str(ConfigurationError.exit_code)

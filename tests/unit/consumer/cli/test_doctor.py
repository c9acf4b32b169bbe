"""What `pipeline doctor` prints, and its exit code."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from llmlog_common.errors import DeploymentError
from llmlog_consumer.checks.doctor import examination
from llmlog_consumer.checks.doctor.findings import Check, examine, green, red, skipped, yellow
from llmlog_consumer.cli.app import app

SEEN = [green("well"), yellow("nearly", "do this"), skipped("not asked"), red("not", "do that")]


@pytest.fixture
def found(monkeypatch):
    """Let the command find something; return the list of it."""
    seen = list(SEEN)

    def examine_deployment(_settings, user):
        checks = [Check(f"a.{n}", f"{user}?", (), lambda s=s: s) for n, s in enumerate(seen)]
        return examine(checks, {})

    monkeypatch.setattr(examination, "examine_deployment", examine_deployment)
    return seen


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_each_check_is_a_line_and_what_mends_it_another(found):
    done = run()
    assert done.stdout.splitlines() == [
        "green   a.0: well",
        "yellow  a.1: nearly",
        "        do this",
        "skipped a.2: not asked",
        "red     a.3: not",
        "        do that",
    ]
    assert isinstance(done.exception, DeploymentError)
    assert str(done.exception) == "1 green, 1 skipped, 1 yellow, 1 red; red: a.3"


def test_quiet_leaves_out_what_is_well(found):
    assert "a.0" not in run("--quiet").stdout
    assert "a.2" not in run("--quiet").stdout
    assert "a.1" in run("--quiet").stdout


def test_yellow_alone_is_no_failure(found):
    del found[-1]
    done = run("--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["ok"]) == ("yellow", True)
    assert answer["checks"][0] == {
        "check": "a.0", "asks": "worker?", "verdict": "green", "seen": "well", "mend": None,
    }  # fmt: skip


def test_json_is_whole_where_something_is_red_and_names_the_user(found):
    done = run("--json", "--as", "operator", "--quiet")
    answer = json.loads(done.stdout)
    assert [check["verdict"] for check in answer["checks"]] == [
        "green", "yellow", "skipped", "red",
    ]  # fmt: skip
    assert answer["checks"][0]["asks"] == "operator?"
    assert DeploymentError.exit_code == 8

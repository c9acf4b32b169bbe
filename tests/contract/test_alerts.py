"""The alert rules: metrics exist, each fires in its test, and leads to a section and a command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.metrics_page import ROWS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
TESTS = [
    test
    for case in yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    for test in case["alert_rule_test"]
]
RUNBOOK = (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("name", RULES)
def test_every_metric_of_a_rule_exists(name):
    known = {metric.partition("{")[0] for rows in ROWS.values() for metric, *_ in rows()}
    known |= {f"{metric}_{part}" for metric in known for part in ("bucket", "count", "sum")}
    assert set(re.findall(r"\bllmlog_\w+", RULES[name]["expr"])) <= known


@pytest.mark.parametrize("name", RULES)
def test_every_alert_leads_to_a_section_and_a_command(name):
    notes = RULES[name]["annotations"]
    assert notes["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOK
    assert notes["summary"]
    assert notes["command"].startswith(("pipeline ", "curl ", "python -m llmlog_producer "))
    assert RULES[name]["labels"]["severity"] in {"warning", "critical"}


def test_every_section_is_an_alert():
    assert re.findall(r"(?m)^### (\w+)$", RUNBOOK) == list(RULES)


@pytest.mark.parametrize("name", RULES)
def test_every_alert_has_a_test_that_it_fires_and_one_that_it_is_silent(name):
    fires = {bool(test["exp_alerts"]) for test in TESTS if test["alertname"] == name}
    assert fires == {True, False}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_agrees():
    for command in ("check rules rules.yml", "test rules rules_test.yml"):
        done = subprocess.run(
            ["promtool", *command.split()], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

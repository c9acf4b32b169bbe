"""The dashboard is what its builder builds, and its queries are about metrics that exist."""

import json
import re
import shutil
import subprocess

import pytest

from support.builders import load_builder
from support.metrics_page import ROWS

BUILDER = load_builder("grafana")
KNOWN = {metric.partition("{")[0] for rows in ROWS.values() for metric, *_ in rows()}


def test_the_dashboard_is_the_built_one():
    assert BUILDER.FILE.read_text() == BUILDER.build(), "run `make docs`"


def test_every_query_is_on_the_dashboard_and_each_panel_has_one():
    panels = json.loads(BUILDER.FILE.read_text())["panels"]
    panels = [panel for panel in panels if panel["type"] != "row"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    assert sorted(shown) == sorted(BUILDER.expressions())
    assert all(panel["title"] and panel["targets"] for panel in panels)
    for panel in panels:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("query", BUILDER.expressions())
def test_every_metric_of_a_query_exists(query):
    known = KNOWN | {f"{name}_{part}" for name in KNOWN for part in ("bucket", "count", "sum")}
    named = set(re.findall(r"\bllmlog_\w+", query))
    assert named
    assert named <= known


def test_every_metric_of_the_consumer_is_shown():
    text = BUILDER.FILE.read_text()
    left_out = {"failure_store", "rerouted", "unclassified", "late", "released", "in_flight",
                "lag_age_seconds", "assigned_partitions", "pending_letters"}  # fmt: skip
    names = {name for name in KNOWN if name.startswith("llmlog_consumer_")}
    missing = {name for name in names if name not in text}
    assert missing <= {f"llmlog_consumer_{n}{end}" for n in left_out for end in ("", "_total")}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_reads_every_query(tmp_path):
    rules = [
        {"record": f"q:{n}", "expr": query.replace("$__rate_interval", "5m").replace("$job", ".*")}
        for n, query in enumerate(BUILDER.expressions())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Renders the Helm chart, and reads what it would run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/llmlog"
VARIANTS = sorted((ROOT / "deploy/helm/examples").glob("*.yaml"))
HELM = shutil.which("helm")


def run_helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    return subprocess.run(
        [str(HELM), *arguments], text=True, capture_output=True, check=False, timeout=120
    )


def run_template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Render the chart for a cluster; a helm that was built from its source assumes an old one."""
    return run_helm("template", "prod", CHART, "--kube-version", "1.30.0", *arguments)


def render(variant: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return the objects of the chart with these values."""
    done = run_template("--values", variant, *arguments)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def find(objects: list[dict[str, Any]], kind: str, end: str = "") -> dict[str, Any]:
    """Return the one object of a kind whose name ends so."""
    (found,) = [
        one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(end)
    ]
    return found


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of a workload's pods."""
    return workload["spec"]["template"]["spec"]


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a container that have a value of their own."""
    return {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}

"""What a tag makes: two builds that are the same, a valid workflow, licences to be shipped."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from support.licences_page import PAGE, page, rows

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github/workflows/release.yml"
ACCEPTED = re.compile(
    r"(MIT|BSD|Apache|MPL|Mozilla Public|ISC|PSF)[\w\s.,()-]*(License|licence)?[\w\s.,()-]*"
)
EXTRAS = ("gateway", "consumer", "console")


def build(folder, python):
    """Run what `make release` builds with."""
    return subprocess.run(
        ["sh", ROOT / "deploy/release/build.sh"],
        env=os.environ | {"DIST": str(folder), "BUILD_PYTHON": str(python)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make release` builds of what is committed."""
    folder = tmp_path_factory.mktemp("dist")
    done = build(folder, sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_two_builds_are_the_same_and_their_sums_are_written(dist):
    sums = dict(reversed(line.split()) for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert {name.rpartition("-")[2][-6:] for name in sums} == {"ny.whl", "tar.gz"}
    for name, digest in sums.items():
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest


def test_a_build_that_differs_is_refused(tmp_path):
    python = tmp_path / "python"
    # `python -m hatchling build -d FOLDER`, and a wheel that is another one each time.
    python.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"; date +%N >> "$5"/made-at.whl\n')
    python.chmod(0o755)
    done = build(tmp_path / "dist", python)
    assert done.returncode != 0
    assert "two builds differ" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_wheel_and_sdist_hold_what_they_should(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if not name.startswith("llmlog_pipeline-")} == {
        "llmlog_producer", "llmlog_consumer", "llmlog_schemas", "llmlog_common", "llmlog_local",
    }  # fmt: skip
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "pyproject.toml", "docs", "tests"} <= top
    assert not {".venv", ".venvs", "build", "dist"} & top


@pytest.mark.long
@pytest.mark.parametrize("extra", EXTRAS)
def test_the_wheel_works_in_an_empty_environment(dist, extra):
    done = subprocess.run(
        ["sh", ROOT / "deploy/release/smoke.sh", extra],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "DIST": str(dist)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_valid():
    done = subprocess.run(
        [
            sys.executable, "-m", "check_jsonschema",
            "--builtin-schema", "vendor.github-workflows", WORKFLOW,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_ci_and_publishes_nothing_before():
    flow = yaml.safe_load(WORKFLOW.read_text())
    jobs = flow["jobs"]
    assert any(step.get("run", "").endswith(".ci/run") for step in jobs["test"]["steps"])
    assert any(step.get("run") == "make release" for step in jobs["build"]["steps"])
    assert set(jobs["publish"]["needs"]) == {"test", "build", "smoke"}
    assert jobs["smoke"]["strategy"]["matrix"]["extra"] == list(EXTRAS)
    assert flow["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]


def test_actions_are_pinned_and_commands_have_no_text_from_outside():
    text = WORKFLOW.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one)] == []
    for run in re.findall(r"(?m)run: (.*)$", text):
        assert "github." not in run
    assert "pypi" not in text.lower()


def test_the_page_of_licences_is_the_present_one():
    names = [row.split(" | ")[0] for row in PAGE.read_text().splitlines() if row.startswith("| ")]
    assert names == [row.split(" | ")[0] for row in page().splitlines() if row.startswith("| ")]


def test_each_dependency_has_a_licence_that_may_be_shipped():
    found = rows()
    assert len(found) > 40
    for name, licence, _ in found:
        parts = re.split(r" (?:AND|OR) |, ", licence.replace("(", "").replace(")", ""))
        assert all(ACCEPTED.fullmatch(part) for part in parts), (name, licence)

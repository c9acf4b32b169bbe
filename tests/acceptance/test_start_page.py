"""The documentation's first page, typed as it stands: it ends with a document that is found."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support.pipeline import PIPELINE, SLOW, base_environment

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "make install && . .venv/bin/activate\n"
"""Has been typed where tests run."""
STACK = ('eval "$(pipeline local up)"', "pipeline local down")
"""Of the first part, which shares the servers of other tests."""


def typed_parts():
    """Return what the page tells people to type: to the first document, and with logins."""
    page = (ROOT / "docs/index.md").read_text()
    first, secured = page.split("## As in production")
    parts = ["".join(re.findall(r"(?ms)^```sh\n(.*?)^```", part)) for part in (first, secured)]
    assert parts[0].startswith(INSTALL)
    return parts[0].removeprefix(INSTALL), parts[1]


def type_in(folder, environment, script):
    """Type lines into a shell; return what it prints."""
    path = f"{Path(PIPELINE).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment | {"PATH": path},
        capture_output=True, text=True, timeout=120 * SLOW, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_person_who_follows_the_page_finds_a_document(bare_pipeline):
    lines = typed_parts()[0].splitlines()
    assert set(STACK) <= set(lines)
    script = "\n".join(line for line in lines if line not in STACK)
    # The shared servers hold other tests' documents: this one has names of its own.
    script = script.replace("/litellm-logs/", f"/{bare_pipeline.index}/")
    out = type_in(bare_pipeline.folder, bare_pipeline.environment, script)
    assert '"content":"Where do logs go?"' in out
    assert "OK: nothing lost, nothing doubled" in out


@pytest.mark.long
def test_the_whole_page_with_servers_of_its_own_and_then_with_logins(tmp_path):
    try:
        out = type_in(tmp_path, base_environment({}), "".join(typed_parts()))
    finally:
        subprocess.run([PIPELINE, "local", "down"], cwd=tmp_path, check=False, timeout=60 * SLOW)
    assert '"content":"Where do logs go?"' in out
    assert out.count("OK: nothing lost, nothing doubled") == 2

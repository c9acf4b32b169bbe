"""The documentation is a site: each page in its navigation, each link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = ROOT / ".venvs/site/bin/mkdocs"
LYCHEE = MKDOCS.with_name("lychee")
NAV = re.findall(r"(?m)^ +- [^:\n]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text())


def test_each_page_is_in_the_navigation_once():
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert sorted(NAV) == sorted(pages | {"contributing.md", "changelog.md"})


@pytest.mark.skipif(not MKDOCS.exists(), reason="make site installs what builds it")
@pytest.mark.parametrize("repository", ["", "https://git.example.org/llmlog/blob/main/"])
def test_the_site_builds_strictly_and_its_links_lead_somewhere(tmp_path, repository):
    # Not with --quiet: what is not printed is not counted.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "SITE_REPOSITORY": repository}
    site = tmp_path / "site"
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", site],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    start = (site / "index.html").read_text()
    assert "fonts.g" not in start, "no page asks another server for its fonts"
    if LYCHEE.exists():
        done = subprocess.run(
            [LYCHEE, "--offline", "--no-progress", "--include-fragments", "--root-dir", site, site],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    glossary = (site / "glossary.html").read_text()
    assert ("git.example.org" in glossary) == bool(repository)

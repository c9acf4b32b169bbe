"""No text of ours lets a person install a package of our name that is not ours."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("producer", "consumer", "schemas", "deploy", "docs")
BY_NAME = re.compile(r"install[^\n]{0,60}[\s'\"]llmlog[-_]pipeline\b(?!-\*)")


def texts():
    yield from ROOT.glob("*.md")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".md", ".py", ".yml", ".yaml", ".html"} or path.name == "Dockerfile":
                yield path


def test_nothing_is_installed_by_a_name_that_is_on_no_index():
    found = [str(path.relative_to(ROOT)) for path in texts() if BY_NAME.search(path.read_text())]
    assert not found


def test_such_a_text_would_be_found():
    assert BY_NAME.search("    pip install llmlog-pipeline\n")
    assert BY_NAME.search("pip install 'llmlog-pipeline[console]'")
    assert not BY_NAME.search("pip install dist/llmlog_pipeline-*.whl")

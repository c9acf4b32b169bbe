"""Writes docs/licences.md: what an install of ours brings, and under which licence."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/licences.md"
SETS = {"gateway": "image-gateway", "consumer": "consumer", "console": "console"}
"""Where a package is installed, and the lock that says so."""
HEAD = """# Licences

llmlog-pipeline is under Apache-2.0. These packages come with it, as the locks in `requirements`
say; LiteLLM and what it needs are LiteLLM's. This page is made by
`python tests/support/licences_page.py` of what the packages say of themselves. htmx and ECharts,
which the console's pages load, are listed with version, licence and checksum in
[`vendored.py`](../consumer/llmlog_consumer/console/vendored.py).

| package | licence | in |
|---|---|---|
"""


def locked(name: str) -> set[str]:
    """Return the packages that a lock installs on Linux."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    lines = re.findall(r"(?m)^([a-z0-9.-]+)==([^\n]*)", text)
    elsewhere = re.compile(r"== '(emscripten|win32)'")
    return {package for package, rest in lines if not elsewhere.search(rest)}


def licence_of(package: str) -> str:
    """Return the licence that a package names; empty where it names none.

    Raises:
        PackageNotFoundError: it is not installed here.
    """
    said = metadata(package)
    if expression := said.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in said.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    text = str(said.get("License") or "").strip().splitlines()
    return ", ".join(classifiers) or (text[0] if text else "")


def rows() -> list[tuple[str, str, str]]:
    """Return package, licence, and where it is installed."""
    where = {lock: locked(lock) for lock in SETS.values()}
    found = []
    for package in sorted(set().union(*where.values())):
        try:
            licence = licence_of(package)
        except PackageNotFoundError:
            continue
        places = ", ".join(name for name, lock in SETS.items() if package in where[lock])
        found.append((package, licence, places))
    return found


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(
        f"| {name} | {licence} | {places} |\n" for name, licence, places in rows()
    )


if __name__ == "__main__":
    PAGE.write_text(page())

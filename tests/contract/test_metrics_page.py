"""docs/metrics.md is written from the closed lists; every metric that a page names exists."""

import re
from pathlib import Path

from support.metrics_page import PAGE, ROWS, page_with_tables

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_lists():
    text = PAGE.read_text()
    assert page_with_tables(text) == text, "run `make docs`"


def test_every_metric_that_a_page_names_exists():
    known = {name.partition("{")[0] for rows in ROWS.values() for name, *_ in rows()}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        named = set(re.findall(r"\bllmlog_(?:consumer|gateway|verify)_\w+", page.read_text()))
        assert named <= known, f"{page.name}: {sorted(named - known)}"

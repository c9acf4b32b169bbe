"""Each thing that a page shows has a part of the documentation, and the part is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.table import new_table
from llmlog_consumer.checks.status import Health
from llmlog_consumer.console import runbook
from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.provision.rights import User


@pytest.mark.parametrize(
    "part",
    sorted({*runbook.CHECKS.values(), *runbook.VERDICTS.values(), *runbook.STAGES.values()}),
)
def test_each_part_of_the_runbook_is_a_heading_of_its_page(part) -> None:
    page, _, anchor = part.partition("#")
    text = (Path(__file__).parents[4] / "docs" / page).read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert anchor in slugs


def test_each_check_verdict_and_stage_has_its_part() -> None:
    checks = new_table(load(environ={}), "http://es", User.WORKER)
    parts = {check.name: runbook.of_check(check.name) for check in checks}
    assert parts["kafka.connection"] == "configuration.md#kafka"
    assert parts["elasticsearch.rights"] == "permissions.md#elasticsearch"
    assert parts["index.blocks"] == "operations.md#llmlogpausedscope"
    assert set(runbook.VERDICTS) == {one.word.lower() for one in Health} - {"current"}
    assert set(runbook.STAGES) == set(Stage)


def test_each_cause_of_the_documentation_has_its_advice_and_each_stage_one_for_all_others() -> None:
    page = (Path(__file__).parents[4] / "docs/dead-letters.md").read_text()
    for row in runbook.ADVICE:
        assert not row.says or row.says in page, row
    for stage in Stage:
        assert runbook.advise(stage, "never seen before")
    assert runbook.advise("index", "document_parsing_exception", None).startswith("The index of")
    assert "firewall" in runbook.advise("index", None, "403: the answer is not Elasticsearch's own")
    assert runbook.advise("elsewhere", "x") == ""

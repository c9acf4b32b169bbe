"""The screens of the runbook are what a terminal shows; it explains every stage and answer."""

import json
import re

import pytest

from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.elasticsearch.error_rules import ITEM_RULES, Disposition
from llmlog_consumer.replay.plan import ReplayOutcome
from support.screens import PAGE, WIDTHS, page_with_screens, screen

TEXT = PAGE.read_text()
CLI = PAGE.with_name("cli.md").read_text()


def test_the_screens_are_drawn_by_the_command():
    assert page_with_screens(TEXT) == TEXT, "run `make docs`"


@pytest.mark.parametrize("name", ["list", "stats", "show"])
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_screen_stands_on_the_page_and_fits_its_width(name, columns):
    assert f"<!-- screen {name} {columns} -->" in TEXT
    assert max(map(len, screen(name, columns).splitlines())) <= columns


def test_every_stage_has_a_section():
    for stage in Stage:
        assert f"\n### `{stage}`" in TEXT


def test_every_permanent_answer_of_elasticsearch_is_explained():
    refusals = {
        rule.error_type
        for rule in ITEM_RULES
        if rule.error_type and rule.verdict.disposition is Disposition.PERMANENT
    }
    assert {name for name in refusals if f"`{name}`" not in TEXT} == set()


def test_every_outcome_of_a_dry_run_has_a_row():
    section = TEXT.split("\n## Replaying\n")[1]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == [str(outcome) for outcome in ReplayOutcome]


def test_the_documented_json_of_a_dry_run_has_a_key_for_each_outcome():
    section = CLI.split("\n## pipeline dlq replay\n")[1]
    block = re.search(r"(?ms)^```json\n(.*?)^```", section)
    (row,) = json.loads(block[1])["fingerprints"]
    assert list(row) == ["fingerprint", "stage", "letters", *ReplayOutcome]
    assert row["letters"] == sum(row[outcome] for outcome in ReplayOutcome)

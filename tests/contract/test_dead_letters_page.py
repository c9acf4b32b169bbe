"""The screens of the runbook are what a terminal shows; it explains every stage and answer."""

import pytest

from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.elasticsearch.error_rules import ITEM_RULES, Disposition
from support.screens import PAGE, WIDTHS, page_with_screens, screen

TEXT = PAGE.read_text()


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

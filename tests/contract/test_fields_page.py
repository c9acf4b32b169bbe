"""docs/fields.md says what the tables of fields say, and LiteLLM has the sources that it names."""

import ast
from pathlib import Path

import pytest

from llmlog_schemas.derived.table import CALL_FACTS, DERIVED
from support.fields_page import PAGE, page

ENVIRONMENTS = sorted((Path(__file__).resolve().parents[2] / ".venvs").glob("litellm-*"))
CLASSES = {
    "metadata": "StandardLoggingMetadata",
    "cost_breakdown": "CostBreakdown",
    "hidden_params": "StandardLoggingHiddenParams",
    "error_information": "StandardLoggingPayloadErrorInformation",
    "status_fields": "StandardLoggingPayloadStatusFields",
    "guardrail_information[]": "StandardLoggingGuardrailInformation",
    "metadata.mcp_tool_call_metadata": "StandardLoggingMCPToolCall",
}
"""LiteLLM's type of each object that fields are derived from."""


def test_the_page_is_made_of_the_tables():
    assert PAGE.read_text() == page(), "run `python tests/support/fields_page.py`"


def fields_of(source, name):
    """Return the fields of a type of LiteLLM's, those of its parents too."""
    (found,) = (node for node in ast.walk(source) if getattr(node, "name", "") == name)
    names = {line.target.id for line in found.body if isinstance(line, ast.AnnAssign)}
    for base in found.bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            names |= fields_of(source, base.id)
    return names


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.name)
def test_litellm_has_each_source(environment):
    (utils,) = environment.glob("lib/python3*/site-packages/litellm/types/utils.py")
    source = ast.parse(utils.read_text())
    theirs = {where: fields_of(source, name) for where, name in CLASSES.items()}
    for name, field in DERIVED.items():
        for path in field.paths:
            where, _, key = path.rstrip("[]{}").rpartition(".")
            if where in theirs:
                assert key in theirs[where], f"{utils}: {name} has lost its source {path}"


def test_facts_of_a_call_are_derived_from_or_constant():
    facts = {path for field in DERIVED.values() for path in field.paths if CALL_FACTS in path}
    assert len(facts) == 8

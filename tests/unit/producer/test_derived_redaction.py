"""Fields are derived after redaction: what is hidden at its source leaves no derived value."""

import pytest

from llmlog_producer.events.call_facts import add_call_facts
from llmlog_producer.testing import document_of
from llmlog_schemas.derived.table import CALL_FACTS, DERIVED
from support.rich_payload import RIGHT_VALUES, rich_payload

PATHS = [
    (name, path) for name, field in DERIVED.items() for path in field.paths if name in RIGHT_VALUES
]
TIMES = {"duration", "time_to_first_token", "tokens_per_second"}


def hide(path):
    """Return the setting that hides a path: entries and keys as a whole."""
    return path.replace("[].", ".*.").removesuffix("[]").removesuffix("{}")


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_a_field_whose_source_is_redacted_is_absent(name, path):
    paths = [hide(one) for one in DERIVED[name].paths]
    assert name not in document_of(rich_payload(), redact_fields=paths), path


@pytest.mark.parametrize("parent", [
    "metadata", "cost_breakdown", "hidden_params", "response", "error_information",
    "guardrail_information", "status_fields", "model_parameters", CALL_FACTS,
])  # fmt: skip
def test_a_redacted_parent_leaves_no_derived_value(parent):
    left = document_of(rich_payload(), redact_fields=parent)
    for name, field in DERIVED.items():
        if all(path.startswith(parent) for path in field.paths):
            assert name not in left, name


@pytest.mark.parametrize("name", RIGHT_VALUES)
def test_a_field_can_be_redacted_by_its_own_name(name):
    assert name in document_of(rich_payload())
    assert name not in document_of(rich_payload(), redact_fields=name)
    assert name not in document_of(rich_payload(), redact_keys=name)


def test_a_masked_or_dropped_answer_names_no_tools():
    for mode in ("mask", "drop"):
        left = document_of(rich_payload(), redact_response=mode, redact_messages=mode)
        assert left["tool_names_called"] == ["ask"], "of the MCP call alone"
        assert left.get("finish_reasons", ["tool_calls"]) == ["tool_calls"]
        assert "get_weather" not in left.get("tool_text", "")


def test_a_rule_that_keeps_nothing_keeps_no_derived_value_but_times():
    left = document_of(rich_payload(), redact_rules="team:payments=nothing")
    assert set(left) & set(DERIVED) <= TIMES


def test_secrets_are_hidden_before_fields_are_derived():
    payload = rich_payload()
    payload["metadata"]["user_api_key_alias"] = "sk-" + "a1B2" * 12
    assert "sk-" not in str(document_of(payload))


def test_facts_of_a_call_are_a_closed_list_of_scalars():
    given = {"queue_time_seconds": 0.5, "attempted_retries": 0, "max_retries": {"no": 1},
             "original_model_group": "x" * 5000, "secret": "s"}  # fmt: skip
    payload = {"model": "m"}
    facts = add_call_facts(payload, {"litellm_params": {"metadata": given}})[CALL_FACTS]
    assert payload == {"model": "m"}, "LiteLLM's own, shared with other callbacks"
    assert facts.keys() - {"gateway_host", "gateway_version"} == {
        "queue_time_seconds", "attempted_retries",
    }  # fmt: skip


def test_a_trace_is_taken_from_the_request_where_the_payload_has_no_headers():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = {"proxy_server_request": {"headers": {"traceparent": trace}}}
    facts = add_call_facts({}, {"litellm_params": request})[CALL_FACTS]
    assert facts["traceparent"] == trace
    own = {"metadata": {"requester_metadata": {"headers": "<redacted>"}}}
    assert "traceparent" not in add_call_facts(own, {"litellm_params": request})[CALL_FACTS]


@pytest.mark.parametrize("kwargs", [None, {}, {"litellm_params": None}, {"litellm_params": 5}, 7])
def test_a_call_without_facts_keeps_its_payload(kwargs):
    assert add_call_facts({"model": "m"}, kwargs)["model"] == "m"

"""Writes docs/elastic-integration.md: its documents and ours, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "elastic-integration.md"
SOURCE: Final = (
    "elastic/integrations, packages/lite_llm/data_stream/spend_tracking/fields/fields.yml, "
    "commit 23a0c9a12d51ac88def8dd7c6dc27f4efa92593b"
)
_USAGE = {
    f"{side}_tokens_details.{kind}_tokens": f"{side}_{kind}_tokens"
    for side in ("prompt", "completion")
    for kind in ("text", "audio", "image", "video")
} | {
    "prompt_tokens_details.cached_tokens": "cached_tokens",
    "completion_tokens_details.reasoning_tokens": "reasoning_tokens",
    "completion_tokens_details.accepted_prediction_tokens": "accepted_prediction_tokens",
    "completion_tokens_details.rejected_prediction_tokens": "rejected_prediction_tokens",
}

OURS: Final[dict[str, str]] = {
    "gen_ai.operation.name": "gen_ai.operation.name",
    "gen_ai.request.model": "gen_ai.request.model",
    "gen_ai.response.id": "gen_ai.response.id",
    "gen_ai.system": "gen_ai.system",
    "gen_ai.tool.name": "gen_ai.tool.name",
    "gen_ai.usage.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens": "gen_ai.usage.output_tokens",
    "api_key": "key_hash",
    "cache_hit": "cache_hit",
    "cache_key": "cache_key",
    "completion_start_time": "completionStartTime",
    "messages": "messages_text",
    "metadata.applied_guardrails": "guardrail_names",
    "metadata.attempted_retries": "retries",
    "metadata.batch_models": "hidden_params",
    "metadata.cold_storage_object_key": "metadata",
    "metadata.cost_breakdown.input_cost": "input_cost",
    "metadata.cost_breakdown.output_cost": "output_cost",
    "metadata.cost_breakdown.total_cost": "response_cost",
    "metadata.cost_breakdown.tool_usage_cost": "tool_cost",
    "metadata.cost_breakdown.original_cost": "original_cost",
    "metadata.cost_breakdown.discount_percent": "cost_breakdown",
    "metadata.cost_breakdown.discount_amount": "discount_amount",
    "metadata.cost_breakdown.margin_percent": "cost_breakdown",
    "metadata.cost_breakdown.margin_fixed_amount": "cost_breakdown",
    "metadata.cost_breakdown.margin_total_amount": "margin_amount",
    "metadata.error_information.error_message": "error_str",
    "metadata.error_information.error_rate_limit_category": "error_rate_limit_category",
    "metadata.error_information.error_rate_limit_type": "error_rate_limit_type",
    "metadata.error_information.llm_provider": "error_provider",
    "metadata.guardrail_information.guardrail_mode": "guardrail_mode",
    "metadata.guardrail_information.guardrail_response.detected_entities": "guardrail_entities",
    "metadata.guardrail_information.guardrail_status": "guardrail_status",
    "metadata.litellm_overhead_time_ms": "overhead",
    "metadata.max_retries": "max_retries",
    "metadata.mcp_tool_call_metadata": "metadata",
    "metadata.requester_ip_address": "requester_ip_address",
    "metadata.spend_logs_metadata": "metadata",
    "metadata.status": "status",
    "metadata.usage_object.total_tokens": "total_tokens",
    "metadata.usage_object.prompt_tokens": "prompt_tokens",
    "metadata.usage_object.completion_tokens": "completion_tokens",
    "metadata.user_api_key": "key_hash",
    "metadata.user_api_key_alias": "key_alias",
    "metadata.user_api_key_org_id": "org_id",
    "metadata.user_api_key_project_alias": "project_alias",
    "metadata.user_api_key_project_id": "project_id",
    "metadata.user_api_key_team_id": "team_id",
    "metadata.vector_store_request_metadata": "metadata",
    "model_group": "model_group",
    "model_id": "model_id",
    "request_duration_ms": "duration",
    "response": "response_text",
    "response_cost": "response_cost",
    "response_time": "response_time",
    "session_id": "session_id",
    "spend": "response_cost",
    "total_tokens": "total_tokens",
    "user_api_key_hash": "key_hash",
    **{f"metadata.usage_object.{theirs}": ours for theirs, ours in _USAGE.items()},
    **{f"metadata.additional_usage_values.{theirs}": ours for theirs, ours in _USAGE.items()},
}
"""Our field for each of theirs; those below `lite_llm.spend_tracking.` without that beginning."""

LACKED: Final[dict[str, str]] = {
    "gen_ai.agent.id": "LiteLLM's payload names no agent",
    "metadata.eval_information": "not in LiteLLM's payload for callbacks",
    "metadata.guardrail_information.guardrail_response.flagged": (
        "the guardrail's own answer, of another form for each: kept in `guardrail_information`, "
        "not indexed; `guardrail_status` says whether it flagged or intervened"
    ),
    "metadata.proxy_server_request": (
        "the raw request; its parts are in `messages`, `model_parameters` and `metadata`"
    ),
    "metadata.model_map_information": (
        "LiteLLM's price list, 8.6 KB a call: left out unless "
        "`LLMLOG_MODEL_MAP_INFORMATION=true`, and then kept, not indexed"
    ),
}
"""Their fields that we have not, and why."""

_NOTES: Final = {
    "hidden_params": "flattened: found by value",
    "metadata": "flattened: found by value",
    "cost_breakdown": "flattened: found by value, not added up",
    "input_cost": "without the cost of the cache; theirs has it in it",
    "messages_text": "text; theirs is a keyword",
    "response_text": "text; theirs is a keyword",
    "overhead": "seconds; theirs milliseconds",
    "duration": "seconds; theirs milliseconds",
    "cache_hit": "boolean; theirs a text",
    "requester_ip_address": "keyword; theirs is of the type `ip` and takes ranges of addresses",
}

_TOP: Final = f"""# Beside Elastic's own integration

Elastic ships an integration for LiteLLM (`lite_llm`, with dashboards). It is compared here by its
list of fields ({SOURCE}). This page is made by `python tests/support/comparison.py`.

| | Elastic's integration | this pipeline |
|---|---|---|
| reads | LiteLLM's database by its API, or files in S3 | LiteLLM's callback |
| how late | by its interval, 24 hours unless set | seconds |
| needs | LiteLLM with a database; Elastic Agent | Kafka, and a consumer |
| one document for each call | as complete as that table | yes, and `pipeline verify` proves it |
| prompts | keyword: exact and cut | full text, from the newest turn back |
| dashboards | shipped | none |
| changes of configuration, sign-ins | a second stream, `audit` | none |
| redaction before data leave the gateway | none of its own | fields, keys, secrets, rules |

## Fields

Theirs begin with `lite_llm.spend_tracking.` where they do not begin with `gen_ai.`. Types are those
of [fields.md](fields.md).

| theirs | ours | |
|---|---|---|
"""

_REST: Final = """
## Theirs that we have not

| theirs | why |
|---|---|
{lacked}

## Ours that they have not

The cost of reading and writing the provider's cache, of reasoning, guardrails and additions; spend
and limit of key, user and team at the call; time to the first token, tokens a second, time in the
queue; attempt, fallbacks and what was asked for first; tools offered and called, MCP server; action
and duration of guardrails; class and code of errors, normalized; `trace.id`; host and
version of the gateway; `indexed_at`.
"""


def page() -> str:
    """Return the text of the page."""
    rows = "".join(
        f"| `{theirs}` | `{ours}` | {_NOTES.get(ours, '')} |\n" for theirs, ours in OURS.items()
    )
    lacked = "\n".join(f"| `{theirs}` | {why} |" for theirs, why in LACKED.items())
    return _TOP + rows + _REST.format(lacked=lacked)


if __name__ == "__main__":
    PAGE.write_text(page())

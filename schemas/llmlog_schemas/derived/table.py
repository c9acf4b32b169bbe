"""The fields that are derived from LiteLLM's payload: kind, source and meaning of each. Pure.

LiteLLM keeps costs, tokens, teams and errors in objects, which the index neither adds up nor sorts.
A derived field is one value out of them, at the top level, with a type of its own. `compute.py`
computes them; docs/fields.md is generated of this table and of those in `fields.py`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from llmlog_schemas.kinds import Kind

MAX_ITEMS: Final = 64
"""Entries of a derived list; the rest is left out."""

CALL_FACTS: Final = "llmlog_call"
"""Top-level key of a payload under which the gateway puts what LiteLLM's payload leaves out."""


class Derived(NamedTuple):
    """One derived field.

    Attributes:
        kind: of its value.
        paths: where it is taken from in a payload; the first that is there counts. `[]` stands for
            every entry of a list, `{}` for every key of an object.
        meaning: for docs/fields.md; with the formula where it is computed.
    """

    kind: Kind
    paths: tuple[str, ...]
    meaning: str


def _keyword(meaning: str, *paths: str) -> Derived:
    return Derived(Kind.KEYWORD, paths, meaning)


def _keywords(meaning: str, *paths: str) -> Derived:
    return Derived(Kind.KEYWORDS, paths, meaning)


def _usd(meaning: str, *paths: str) -> Derived:
    return Derived(Kind.MEASURE, paths, f"{meaning}, USD")


def _seconds(meaning: str, *paths: str) -> Derived:
    return Derived(Kind.MEASURE, paths, f"{meaning}, seconds")


def _count(meaning: str, *paths: str) -> Derived:
    return Derived(Kind.COUNT, paths, meaning)


def _tokens(side: str, name: str, what: str) -> Derived:
    other = {"prompt": "input", "completion": "output"}[side]
    places = (f"{side}_tokens_details", f"{other}_tokens_details")
    return _count(what, *(f"metadata.usage_object.{place}.{name}" for place in places))


WHO: Final[dict[str, Derived]] = {
    "team_id": _keyword("team of the key", "metadata.user_api_key_team_id", "metadata.team_id"),
    "team_alias": _keyword("its name", "metadata.user_api_key_team_alias", "metadata.team_alias"),
    "key_hash": _keyword("hash of the virtual key", "metadata.user_api_key_hash"),
    "key_alias": _keyword("the key's name", "metadata.user_api_key_alias"),
    "user_id": _keyword("the key's user", "metadata.user_api_key_user_id"),
    "user_email": _keyword("that user's address", "metadata.user_api_key_user_email"),
    "org_id": _keyword("organization of the key", "metadata.user_api_key_org_id"),
    "org_alias": _keyword("its name", "metadata.user_api_key_org_alias"),
    "project_id": _keyword("project of the key", "metadata.user_api_key_project_id"),
    "project_alias": _keyword("its name", "metadata.user_api_key_project_alias"),
    "request_route": _keyword(
        "path that the client asked for", "metadata.user_api_key_request_route"
    ),
}

MONEY: Final[dict[str, Derived]] = {
    "input_cost": _usd(
        "input tokens that no cache had: LiteLLM's own `input_cost` without the two cache costs, "
        "which it has in it; absent where its parts do not add up",
        "cost_breakdown.input_cost",
    ),
    "cache_read_cost": _usd(
        "input read from the provider's cache", "cost_breakdown.cache_read_cost"
    ),
    "cache_write_cost": _usd(
        "input written to the provider's cache", "cost_breakdown.cache_creation_cost"
    ),
    "output_cost": _usd("output tokens, reasoning among them", "cost_breakdown.output_cost"),
    "reasoning_cost": _usd(
        "reasoning tokens; a part of `output_cost`", "cost_breakdown.reasoning_cost"
    ),
    "tool_cost": _usd("the provider's built-in tools", "cost_breakdown.tool_usage_cost"),
    "additional_cost": _usd(
        "sum of what LiteLLM adds by name", "cost_breakdown.additional_costs{}"
    ),
    "original_cost": _usd(
        "sum of input, cache, output, tool and additional costs", "cost_breakdown.original_cost"
    ),
    "discount_amount": _usd("taken off `original_cost`", "cost_breakdown.discount_amount"),
    "margin_amount": _usd("put on it", "cost_breakdown.margin_total_amount"),
    "guardrail_cost": _usd("guardrails that count as spend", "cost_breakdown.guardrail_cost"),
}
"""`original_cost - discount_amount + margin_amount + guardrail_cost` is `response_cost`."""

BUDGETS: Final[dict[str, Derived]] = {
    f"{whose}_{what}": _usd(
        f"{text} of the {whose}, as it was at this call", f"metadata.{path}_{what}"
    )
    for whose, path in (
        ("key", "user_api_key"),
        ("user", "user_api_key_user"),
        ("team", "user_api_key_team"),
    )
    for what, text in (("spend", "spend"), ("max_budget", "spending limit"))
}

TOKENS: Final[dict[str, Derived]] = {
    "cached_tokens": _count(
        "prompt tokens read from the provider's cache",
        "metadata.usage_object.prompt_tokens_details.cached_tokens",
        "metadata.usage_object.input_tokens_details.cached_tokens",
        "metadata.usage_object.cache_read_input_tokens",
    ),
    "cache_write_tokens": _count(
        "prompt tokens written to it",
        "metadata.usage_object.prompt_tokens_details.cache_creation_tokens",
        "metadata.usage_object.prompt_tokens_details.cache_write_tokens",
        "metadata.usage_object.cache_creation_input_tokens",
    ),
    "reasoning_tokens": _tokens(
        "completion", "reasoning_tokens", "completion tokens of the model's reasoning"
    ),
    "accepted_prediction_tokens": _tokens(
        "completion", "accepted_prediction_tokens", "predicted tokens that the answer had"
    ),
    "rejected_prediction_tokens": _tokens(
        "completion", "rejected_prediction_tokens", "predicted tokens that it had not"
    ),
    **{
        f"{side}_{kind}_tokens": _tokens(side, f"{kind}_tokens", f"{kind} tokens of the {side}")
        for side in ("prompt", "completion")
        for kind in ("text", "audio", "image", "video")
    },
}

TIME: Final[dict[str, Derived]] = {
    "duration": _seconds("`endTime - startTime`, unrounded", "endTime"),
    "time_to_first_token": _seconds(
        "of a stream: `completionStartTime - startTime`; absent where no token came",
        "completionStartTime",
    ),
    "tokens_per_second": Derived(
        Kind.MEASURE,
        ("completion_tokens",),
        "of a stream that no cache answered: `completion_tokens / (endTime - completionStartTime)`",
    ),
    "overhead": _seconds("time that LiteLLM itself took", "hidden_params.litellm_overhead_time_ms"),
    "queue_time": _seconds(
        "from the request's arrival at the proxy to the start of its work",
        f"{CALL_FACTS}.queue_time_seconds",
    ),
}

COURSE: Final[dict[str, Derived]] = {
    "attempt": _count(
        "which try of its model group this call is, from 1", f"{CALL_FACTS}.attempted_retries"
    ),
    "retries": _count("tries of this model group before it", f"{CALL_FACTS}.attempted_retries"),
    "max_retries": _count("retries that were allowed", f"{CALL_FACTS}.max_retries"),
    "fallbacks": _count("model groups tried before this one", f"{CALL_FACTS}.attempted_fallbacks"),
    "fallback_from": _keyword(
        "model group that was asked for, where this call is a fallback",
        f"{CALL_FACTS}.original_model_group",
    ),
    "finish_reasons": _keywords(
        "why the model stopped, in the provider's own words",
        "response.choices[].finish_reason",
        "response.stop_reason",
        "response.candidates[].finishReason",
    ),
}

TOOLS: Final[dict[str, Derived]] = {
    "tool_names_offered": _keywords(
        "tools that the model could call; a tool without a name by its type",
        "model_parameters.tools[].function.name",
        "model_parameters.tools[].custom.name",
        "model_parameters.tools[].name",
        "model_parameters.functions[].name",
        "model_parameters.tools[].type",
    ),
    "tool_names_called": _keywords(
        "tools that the answer calls, each once; of an MCP call the tool itself",
        "response.choices[].message.tool_calls[].function.name",
        "response.choices[].message.tool_calls[].custom.name",
        "response.output[].name",
        "response.content[].name",
        "metadata.mcp_tool_call_metadata.name",
    ),
    "mcp_server": _keyword(
        "MCP server of the call", "metadata.mcp_tool_call_metadata.mcp_server_name"
    ),
}

GUARDRAILS: Final[dict[str, Derived]] = {
    "guardrail_names": _keywords(
        "guardrails that ran",
        "guardrail_information[].guardrail_name",
        "metadata.applied_guardrails[]",
    ),
    "guardrail_status": _keyword(
        "what came of all of them: `success`, `guardrail_flagged`, `guardrail_intervened`, "
        "`guardrail_failed_to_respond`, `not_run`",
        "status_fields.guardrail_status",
    ),
    "guardrail_action": _keywords("what each did", "guardrail_information[].guardrail_action"),
    "guardrail_mode": _keywords("when each ran", "guardrail_information[].guardrail_mode"),
    "guardrail_provider": _keywords("who runs it", "guardrail_information[].guardrail_provider"),
    "guardrail_entities": _keywords(
        "kinds of data that were masked", "guardrail_information[].masked_entity_count{}"
    ),
    "guardrail_categories": _keywords(
        "kinds of violation", "guardrail_information[].violation_categories[]"
    ),
    "guardrail_duration": _seconds("sum over guardrails", "guardrail_information[].duration"),
}

ERRORS: Final[dict[str, Derived]] = {
    "error_class": _keyword("LiteLLM's exception", "error_information.error_class"),
    "error_code": _keyword("HTTP status, as text", "error_information.error_code"),
    "error_provider": _keyword("provider that failed", "error_information.llm_provider"),
    "normalized_error": _keyword(
        "LiteLLM's common name of it", "error_information.normalized_error"
    ),
    "error_rate_limit_category": _keyword(
        "whose limit was hit", "error_information.error_rate_limit_category"
    ),
    "error_rate_limit_type": _keyword(
        "which limit: requests, tokens, budget", "error_information.error_rate_limit_type"
    ),
    "error_provider_request_id": _keyword(
        "the provider's id of the request", "error_information.error_provider_request_id"
    ),
}

GATEWAY: Final[dict[str, Derived]] = {
    "trace.id": _keyword(
        "trace id of a valid W3C `traceparent` header of the client",
        "metadata.requester_metadata.headers.traceparent",
        f"{CALL_FACTS}.traceparent",
    ),
    "gateway_host": _keyword("host name of the gateway", f"{CALL_FACTS}.gateway_host"),
    "gateway_version": _keyword("its version of LiteLLM", f"{CALL_FACTS}.gateway_version"),
}

GROUPS: Final[dict[str, dict[str, Derived]]] = {
    "Who": WHO,
    "Money": MONEY,
    "Budgets": BUDGETS,
    "Tokens": TOKENS,
    "Time": TIME,
    "Course of the call": COURSE,
    "Tools": TOOLS,
    "Guardrails": GUARDRAILS,
    "Errors": ERRORS,
    "Gateway": GATEWAY,
}
"""All of them, under the headings of docs/fields.md."""

DERIVED: Final[dict[str, Derived]] = {
    name: field for group in GROUPS.values() for name, field in group.items()
}
"""All of them, by name."""

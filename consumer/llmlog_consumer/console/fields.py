"""Owns the fields of a call that the console shows, and where a document has each. Pure.

A field's own name comes first. Documents that were made before it was a field of its own have the
value elsewhere, or not at all; then the page says "not recorded".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.console.formats import write_label

if TYPE_CHECKING:
    from collections.abc import Mapping


class Field(NamedTuple):
    """One field.

    Attributes:
        label: for people.
        kind: `usd`, `count`, `seconds`, `text`.
        group: heading under which the drawer shows it.
        path: where an older document has the value; empty for nowhere.
        scale: of the value at that path.
        is_content: only for those who may see contents.
    """

    label: str
    kind: str
    group: str
    path: tuple[str, ...] = ()
    scale: float = 1
    is_content: bool = False


_WHO, _MONEY, _TOKENS = "Who", "Money", "Tokens"
_TIME, _COURSE, _TOOLS = "Time", "Course", "Tools and guardrails"


def _of_key(name: str) -> tuple[str, str]:
    return ("metadata", f"user_api_key_{name}")


def _of_cost(name: str) -> tuple[str, str]:
    return ("cost_breakdown", name)


FIELDS: Final[dict[str, Field]] = {
    "team_alias": Field("team", "text", _WHO, _of_key("team_alias")),
    "team_id": Field("team id", "text", _WHO, _of_key("team_id")),
    "key_alias": Field("key", "text", _WHO, _of_key("alias")),
    "user_id": Field("user", "text", _WHO, _of_key("user_id"), is_content=True),
    "user_email": Field("user's e-mail", "text", _WHO, _of_key("user_email"), is_content=True),
    "org_id": Field("organization", "text", _WHO, _of_key("org_id")),
    "org_alias": Field("organization's name", "text", _WHO, _of_key("org_alias")),
    "project_alias": Field("project", "text", _WHO, _of_key("project_alias")),
    "end_user": Field("end user", "text", _WHO, is_content=True),
    "request_tags": Field("tags", "text", _WHO),
    "response_cost": Field("cost", "usd", _MONEY),
    "input_cost": Field("input", "usd", _MONEY, _of_cost("input_cost")),
    "output_cost": Field("output", "usd", _MONEY, _of_cost("output_cost")),
    "reasoning_cost": Field("of it, reasoning", "usd", _MONEY, _of_cost("reasoning_cost")),
    "cache_read_cost": Field("read from the cache", "usd", _MONEY, _of_cost("cache_read_cost")),
    "cache_write_cost": Field(
        "written to the cache", "usd", _MONEY, _of_cost("cache_creation_cost")
    ),
    "tool_cost": Field("tools", "usd", _MONEY, _of_cost("tool_usage_cost")),
    "additional_cost": Field("additional", "usd", _MONEY),
    "guardrail_cost": Field("guardrails", "usd", _MONEY),
    "discount_amount": Field("discount", "usd", _MONEY, _of_cost("discount_amount")),
    "margin_amount": Field("margin", "usd", _MONEY, _of_cost("margin_total_amount")),
    "saved_cache_cost": Field("saved by LiteLLM's cache", "usd", _MONEY),
    "team_spend": Field("spent by the team until then", "usd", _MONEY),
    "team_max_budget": Field("budget of the team", "usd", _MONEY),
    "key_spend": Field("spent with the key until then", "usd", _MONEY),
    "key_max_budget": Field("budget of the key", "usd", _MONEY),
    "total_tokens": Field("all", "count", _TOKENS),
    "prompt_tokens": Field("prompt", "count", _TOKENS),
    "completion_tokens": Field("answer", "count", _TOKENS),
    "cached_tokens": Field("of the prompt, cached", "count", _TOKENS),
    "cache_write_tokens": Field("written to the cache", "count", _TOKENS),
    "reasoning_tokens": Field("of the answer, reasoning", "count", _TOKENS),
    "duration": Field("duration", "seconds", _TIME),
    "response_time": Field("response time", "seconds", _TIME),
    "time_to_first_token": Field("to the first token", "seconds", _TIME),
    "overhead": Field(
        "LiteLLM's own part", "seconds", _TIME, ("hidden_params", "litellm_overhead_time_ms"), 0.001
    ),
    "queue_time": Field("in the queue", "seconds", _TIME),
    "tokens_per_second": Field("tokens a second", "count", _TIME),
    "status": Field("status", "text", _COURSE),
    "call_type": Field("kind of call", "text", _COURSE),
    "model": Field("model", "text", _COURSE),
    "model_group": Field("model group", "text", _COURSE),
    "custom_llm_provider": Field("provider", "text", _COURSE),
    "stream": Field("stream", "text", _COURSE),
    "cache_hit": Field("answered from the cache", "text", _COURSE),
    "attempt": Field("attempt", "count", _COURSE),
    "retries": Field("retries", "count", _COURSE),
    "fallback_from": Field("fallback from", "text", _COURSE),
    "finish_reasons": Field("finish reasons", "text", _COURSE),
    "call_origin": Field("origin", "text", _COURSE),
    "error_class": Field("error class", "text", _COURSE, ("error_information", "error_class")),
    "error_code": Field("error code", "text", _COURSE, ("error_information", "error_code")),
    "tool_names_offered": Field("tools offered", "text", _TOOLS),
    "tool_names_called": Field("tools called", "text", _TOOLS),
    "mcp_server": Field("MCP server", "text", _TOOLS),
    "guardrail_names": Field("guardrails", "text", _TOOLS),
    "guardrail_status": Field("guardrail status", "text", _TOOLS),
    "guardrail_action": Field("guardrail action", "text", _TOOLS),
    "litellm_call_id": Field("call id", "text", "Ids"),
    "trace_id": Field("trace", "text", "Ids"),
    "session_id": Field("session", "text", "Ids"),
    "model_id": Field("deployment", "text", "Ids"),
    "gateway_host": Field("gateway", "text", "Ids"),
    "gateway_version": Field("gateway's version", "text", "Ids"),
}

DIMENSIONS: Final[dict[str, tuple[str, str]]] = {
    "team": ("team", "metadata.user_api_key_team_alias"),
    "key": ("key", "metadata.user_api_key_alias"),
    "user": ("user", "metadata.user_api_key_user_id"),
    "model": ("model", "model"),
    "provider": ("provider", "custom_llm_provider"),
    "tag": ("tag", "request_tags"),
}
"""What calls are stacked and filtered by: the word for it, and the indexed field.

These are fields that every document has, of whichever version of the template.
"""
CONTENT_DIMENSIONS: Final = frozenset(("user",))
"""Those that name people: only for those who may see contents."""

TEXT_FIELDS: Final = (
    "messages_text",
    "prompt_text",
    "response_text",
    "tool_text",
    "error_str",
)
"""Searched for text; an index that lacks one of them is searched in the others."""

CONTENT_SOURCES: Final = (
    "messages",
    "response",
    *TEXT_FIELDS,
    "error_information",
    "guardrail_information",
    "metadata",
    "extra",
    "hidden_params",
    "model_parameters",
)
"""Parts of a document that are never read for a list."""

ERROR_CLASS: Final = "error_information.error_class"


def read_field(source: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field in a document; None where it has none.

    Args:
        source: `_source` of the document.
        name: in `FIELDS`.
    """
    value = source.get(name)
    if value is not None:
        return value
    if name == "duration":
        return _seconds_between(source, "startTime", "endTime")
    if name == "time_to_first_token" and source.get("stream"):
        return _seconds_between(source, "startTime", "completionStartTime")
    value = _read_path(source, FIELDS[name])
    if name == "input_cost" and value is not None:
        # LiteLLM's own has the two costs of the cache in it.
        for part in ("cache_read_cost", "cache_write_cost"):
            value -= read_field(source, part) or 0.0
    return value


def _read_path(source: Mapping[str, Any], field: Field) -> Any:
    """Return the value at a field's path in an older document; None where there is none."""
    inner: Any = source if field.path else None
    for part in field.path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    if inner is None or field.kind == "text":
        return inner
    try:
        return float(inner) * field.scale
    except (TypeError, ValueError):
        return None


def _seconds_between(source: Mapping[str, Any], begin: str, end: str) -> float | None:
    begun, ended = source.get(begin), source.get(end)
    if not (isinstance(begun, int | float) and isinstance(ended, int | float)):
        return None
    return max(0.0, (ended - begun) / 1000)


def describe_call(
    source: Mapping[str, Any], *, shows_contents: bool
) -> dict[str, list[tuple[str, Any, str]]]:
    """Return label, value and kind of each field, by group; contents only for who may see them."""
    groups: dict[str, list[tuple[str, Any, str]]] = {}
    for name, field in FIELDS.items():
        if field.is_content and not shows_contents:
            continue
        value = read_field(source, name)
        if isinstance(value, str):
            value = write_label(value, shows_contents=shows_contents)
        elif isinstance(value, list):
            value = [write_label(item, shows_contents=shows_contents) for item in value[:64]]
        groups.setdefault(field.group, []).append((field.label, value, field.kind))
    return groups

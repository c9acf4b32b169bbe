"""The payload fields that are known by name, and the kind of value that each holds. Pure.

The gateway writes values of exactly these kinds, and the index template maps the same names to the
same kinds (a contract test compares them), so Elasticsearch refuses no payload for its shape.
Fields that are in no table are kept under `extra`.
"""

from __future__ import annotations

from typing import Final

from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.kinds import Kind

TYPED: Final[dict[str, Kind]] = {
    "litellm_call_id": Kind.KEYWORD,
    "trace_id": Kind.KEYWORD,
    "call_type": Kind.KEYWORD,
    "status": Kind.KEYWORD,
    "model": Kind.KEYWORD,
    "startTime": Kind.SECONDS,
    "endTime": Kind.SECONDS,
    "response_time": Kind.DOUBLE,
    "response_cost": Kind.DOUBLE,
    "prompt_tokens": Kind.LONG,
    "completion_tokens": Kind.LONG,
    "total_tokens": Kind.LONG,
}
"""Fields of the Avro schema; they are in the document too."""

UNTYPED: Final[dict[str, Kind]] = {
    "messages": Kind.STORED,
    "response": Kind.STORED,
    "metadata": Kind.FLATTENED,
    "id": Kind.KEYWORD,
    "session_id": Kind.KEYWORD,
    "stream": Kind.BOOLEAN,
    "custom_llm_provider": Kind.KEYWORD,
    "completionStartTime": Kind.SECONDS,
    "model_id": Kind.KEYWORD,
    "model_group": Kind.KEYWORD,
    "api_base": Kind.KEYWORD,
    "cache_hit": Kind.BOOLEAN,
    "cache_key": Kind.KEYWORD,
    "saved_cache_cost": Kind.DOUBLE,
    "request_tags": Kind.KEYWORDS,
    "request_model_access_groups": Kind.KEYWORDS,
    "end_user": Kind.KEYWORD,
    "end_user_object": Kind.FLATTENED,
    "call_origin": Kind.KEYWORD,
    "requester_ip_address": Kind.KEYWORD,
    "user_agent": Kind.KEYWORD,
    "error_str": Kind.TEXT,
    "error_information": Kind.FLATTENED,
    "cost_breakdown": Kind.FLATTENED,
    "hidden_params": Kind.FLATTENED,
    "status_fields": Kind.FLATTENED,
    "autorouter_savings": Kind.DOUBLE,
    "autorouter_savings_estimate": Kind.STORED,
    "autorouter_baseline_observation": Kind.KEYWORD,
    "response_cost_failure_debug_info": Kind.STORED,
    "zero_cost_diagnostic": Kind.STORED,
    "model_parameters": Kind.STORED,
    "model_map_information": Kind.STORED,
    "guardrail_information": Kind.STORED,
    "standard_built_in_tools_params": Kind.STORED,
}
"""Fields of the document alone."""

SEARCH_TEXTS: Final[dict[str, str]] = {
    "messages_text": "what was asked: the newest turn of the user, then back in time, the system's "
    "instructions last",
    "response_text": "what was answered",
    "tool_text": "names and arguments of the tools that were called, the newest first",
}
"""Full-text fields, and what each holds."""

TIMESTAMP: Final = "@timestamp"
"""The time in the event id, epoch milliseconds; Kibana sorts by it."""

INDEXED_AT: Final = "indexed_at"
"""When the consumer sent the document, epoch milliseconds. Put in by the consumer alone."""

DOCUMENT_VERSION: Final = "document_version"
"""Which generation of fields a document has; absent in the first."""

CURRENT_DOCUMENT_VERSION: Final = 2
"""The generation with derived fields; also the index template's `_meta.llmlog_version`."""

EXTRA: Final = "extra"
"""The field for everything else: stored, not indexed."""

DOCUMENT: Final[dict[str, Kind]] = {
    TIMESTAMP: Kind.SECONDS,
    **TYPED,
    **UNTYPED,
    **{name: field.kind for name, field in DERIVED.items()},
    **dict.fromkeys(SEARCH_TEXTS, Kind.TEXT),
    DOCUMENT_VERSION: Kind.COUNT,
    INDEXED_AT: Kind.SECONDS,
    EXTRA: Kind.STORED,
}
"""Every field that a document may have."""

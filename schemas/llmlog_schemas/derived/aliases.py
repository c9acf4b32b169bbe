"""Other names of fields: those of OpenTelemetry, of ECS, and shorter ones of our own. Pure.

An alias answers queries and aggregations. It does not stand in a document, and cannot be written.
"""

from __future__ import annotations

from typing import Final

OWN: Final[dict[str, str]] = {
    "prompt_text": "messages_text",
    "tags": "request_tags",
}

GEN_AI: Final[dict[str, str]] = {
    "gen_ai.conversation.id": "session_id",
    "gen_ai.operation.name": "call_type",
    "gen_ai.provider.name": "custom_llm_provider",
    "gen_ai.request.model": "model",
    "gen_ai.response.finish_reasons": "finish_reasons",
    "gen_ai.response.id": "id",
    "gen_ai.system": "custom_llm_provider",
    "gen_ai.tool.name": "tool_names_called",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
}
"""Names of OpenTelemetry's conventions. Values are LiteLLM's: `acompletion`, not `chat`."""

ECS: Final[dict[str, str]] = {
    "client.address": "requester_ip_address",
    "error.code": "error_code",
    "error.message": "error_str",
    "error.type": "error_class",
    "event.end": "endTime",
    "event.ingested": "indexed_at",
    "event.outcome": "status",
    "event.start": "startTime",
    "host.name": "gateway_host",
    "observer.version": "gateway_version",
    "organization.id": "org_id",
    "organization.name": "org_alias",
    "url.path": "request_route",
    "user.email": "user_email",
    "user.id": "user_id",
}
"""Names of the Elastic Common Schema whose type is that of our field."""

ALIASES: Final[dict[str, str]] = {**OWN, **GEN_AI, **ECS}
"""All of them: the alias, and the field that it stands for."""

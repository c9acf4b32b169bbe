"""2,000 made calls: 8 teams, 5 providers, streams, tools, guardrails, caches, failures."""

from __future__ import annotations

import random
from typing import Any

CALLS = 2_000
BEGAN = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MODELS = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "mistral": "mistral-large",
    "bedrock": "nova-pro",
}
ERRORS = {"RateLimitError": "429", "Timeout": "408", "AuthenticationError": "401"}
TOOLS = ("search", "get_weather", "run_sql")
TOPICS = ("Straßenbahn", "数据库索引", "parse_config", "invoice")


def made_calls() -> list[dict[str, Any]]:
    """Return the payloads; the same ones each time."""
    return [_call(number, random.Random(number)) for number in range(CALLS)]


def _call(number: int, pick: random.Random) -> dict[str, Any]:
    provider = pick.choice(list(MODELS))
    failed, is_stream = number % 20 == 0, number % 3 == 0
    start = BEGAN + number * 60 + 0.25
    first, end = start + 0.25 + number % 5 / 8, start + 1.5 + number % 7 / 4
    prompt, completion = 100 + number % 50, 0 if failed else 20 + number % 30
    cached = 64 if number % 4 == 0 else 0
    cost = 0.0 if failed else round(0.001 * (1 + number % 9), 6)
    tool = TOOLS[number % 3] if number % 5 == 0 and not failed else None
    blocked = number % 40 == 7
    message: dict[str, Any] = {"role": "assistant", "content": f"answer {number}"}
    if tool:
        function = {"name": tool, "arguments": "{}"}
        message["tool_calls"] = [{"type": "function", "function": function}]
    error = pick.choice(list(ERRORS))
    team = number % 8
    return {
        "litellm_call_id": f"made-{number}",
        "call_type": "acompletion",
        "status": "failure" if failed else "success",
        "model": MODELS[provider],
        "custom_llm_provider": provider,
        "stream": is_stream,
        "startTime": start,
        "endTime": end,
        "completionStartTime": first if is_stream and not failed else end,
        "response_time": end - start,
        "response_cost": cost,
        "cost_breakdown": {
            "input_cost": cost / 4, "output_cost": cost * 3 / 4, "original_cost": cost,
            "tool_usage_cost": 0.0,
        },
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cache_hit": number % 11 == 0,
        "saved_cache_cost": 0.002 if number % 11 == 0 else 0.0,
        "request_tags": ["prod" if number % 2 else "test"],
        "end_user": f"customer-{number % 13}",
        "metadata": {
            "user_api_key_team_id": f"t-{team}",
            "user_api_key_team_alias": f"team {team}",
            "user_api_key_hash": f"hash-{number % 16}",
            "user_api_key_alias": f"key {number % 16}",
            "user_api_key_user_id": f"u-{number % 24}",
            "user_api_key_user_email": f"u{number % 24}@example.com",
            "user_api_key_team_spend": float(number),
            "user_api_key_team_max_budget": 5000.0,
            "usage_object": {
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": completion // 4},
            },
        },
        "hidden_params": {"litellm_overhead_time_ms": float(number % 10)},
        "messages": [{"role": "user", "content": f"{TOPICS[number % 4]} {number}"}],
        "response": {"choices": [{"finish_reason": "tool_calls" if tool else "stop",
                                  "message": message}]},
        "error_str": f"{error} of {provider}" if failed else None,
        "error_information": {
            "error_class": error, "error_code": ERRORS[error], "llm_provider": provider,
        } if failed else None,
        "guardrail_information": [{
            "guardrail_name": "pii", "guardrail_action": "BLOCKED" if blocked else "NONE",
        }] if number % 10 == 7 else None,
        "status_fields": {
            "guardrail_status": "guardrail_intervened" if blocked
            else "success" if number % 10 == 7 else "not_run",
        },
        "llmlog_call": {
            "queue_time_seconds": number % 4 / 100, "attempted_retries": number % 6 // 5,
            "attempted_fallbacks": number % 25 // 24, "original_model_group": "chat",
        },
    }  # fmt: skip

"""The events whose bytes stand in `tests/contract/golden`, written out and never computed."""

import math
from typing import Any

FULL: dict[str, Any] = {
    "event_id": "AZtXgOIAPqM4wrx7hCk_",
    "index_place": "month-payments",
    "litellm_call_id": "5a0cb3e2-7f55-4d43-b9c7-0a4b1d1b6f10",
    "trace_id": "trace-1",
    "call_type": "acompletion",
    "status": "success",
    "model": "gpt-4o-mini",
    "start_time_ms": 1767225600000,
    "end_time_ms": 1767225601500,
    "response_time": 1.5,
    "response_cost": 0.00025,
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "document": (
        '{"@timestamp":1767225600000,"litellm_call_id":"5a0cb3e2-7f55-4d43-b9c7-0a4b1d1b6f10","model":"gpt-4o-mini",'
        '"messages":[{"role":"user","content":"Grüße, 世界 🌍"}],"extra":{"brand_new":1}}'
    ).encode(),
}

MINIMAL: dict[str, Any] = {
    "event_id": "AZtXgOIAAAAAAAAAAAAA",
    "index_place": "",
    "litellm_call_id": "",
    "trace_id": "",
    "call_type": "",
    "status": "",
    "model": "",
    "start_time_ms": 1767225600000,
    "end_time_ms": -1,
    "response_time": math.nan,
    "response_cost": math.nan,
    "prompt_tokens": -1,
    "completion_tokens": -1,
    "total_tokens": -1,
    "document": b'{"@timestamp":1767225600000,"startTime":1767225600000}',
}

EXTREME: dict[str, Any] = {
    "event_id": "____________________",
    "index_place": "week-" + "z" * 32,
    "litellm_call_id": "x" * 300,
    "trace_id": '\x00\x1f"\\\n\r\u2028\u2029',
    "call_type": "\uffff\U0010ffff",
    "status": "neither",
    "model": "🌍" * 70,
    "start_time_ms": 2**63 - 1,
    "end_time_ms": -(2**63),
    "response_time": math.inf,
    "response_cost": 5e-324,
    "prompt_tokens": 0,
    "completion_tokens": 2**63 - 1,
    "total_tokens": 2**32,
    "document": bytes(range(256)) * 2,
}

EVENTS = {"full": FULL, "minimal": MINIMAL, "extreme": EXTREME}

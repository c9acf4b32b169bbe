"""Payloads of the shape that LiteLLM makes, and records that should not exist."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer

from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event

HOUR = float(os.environ.setdefault("TESTS_BEGAN_IN_HOUR", str(time.time() // 3600 * 3600)))
"""Epoch seconds; the hour in which the tests began, in their child processes too.

Of today, so that `pipeline setup` has made its index; of one moment, so that the event of a seed is
the same one when the clock strikes.
"""


def payload(seed: int, **overrides: Any) -> dict[str, Any]:
    """Return one payload; equal seeds make equal events."""
    pick = random.Random(seed)
    started = overrides.pop("startTime", None) or HOUR + pick.random() * 60
    status = "failure" if seed % 10 == 0 else "success"
    return {
        "id": f"chatcmpl-{seed % 7}",
        "litellm_call_id": str(uuid.UUID(int=pick.getrandbits(128))),
        "trace_id": f"trace-{seed // 3}",
        "call_type": "acompletion",
        "status": status,
        "model": f"gpt-{seed % 3}",
        "startTime": started,
        "endTime": started + 0.5,
        "response_time": 0.5,
        "response_cost": 0.0 if seed % 5 == 0 else 0.00025,
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "messages": [{"role": "user", "content": f"question {seed}"}],
        "response": {
            "choices": [{"message": {"content": f"answer {seed} " * pick.randint(1, 60)}}]
        },
        "metadata": {"user_api_key_alias": f"key-{seed % 4}", "nested": {"a": [1, 2, {"b": None}]}},
        "error_str": "rate limited" if status == "failure" else None,
        "request_tags": ["a", "b"],
        "cache_hit": None,
        **overrides,
    }


def ndjson(payloads: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> str:
    """Return payloads as `pipeline produce` reads them."""
    return "".join(json.dumps(item) + "\n" for item in payloads)


def event(seed: int, **fields: Any) -> dict[str, Any]:
    """Return an event with some of its fields replaced, possibly by what should not be there."""
    return {**to_event(payload(seed)), **fields}


def encoded(seed: int, **fields: Any) -> bytes:
    """Return the value of such an event."""
    return Encoder().encode(event(seed, **fields))  # type: ignore[arg-type]


def send(
    bootstrap: str, topic: str, values: list[bytes | None], *, partition: int = -1, **options: Any
) -> None:
    """Write raw values to a topic and wait until they are there."""
    failures: list[Any] = []
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, **options})
    for number, value in enumerate(values):
        while True:
            try:
                producer.produce(
                    topic, value, key=f"k{number}", partition=partition,
                    on_delivery=lambda error, _message: error and failures.append(error),
                )  # fmt: skip
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    assert not failures, failures[0]

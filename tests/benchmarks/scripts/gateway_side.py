"""What a gateway pays, measured inside one: run by an interpreter that has LiteLLM.

    gateway_side.py hook | cpu | memory | generic single | generic json_array

Reads `LLMLOG_…`; prints JSON. `hook`: microseconds that the request path is kept, 4 KB payloads
with one of a megabyte among a hundred. `cpu`: all CPU for each event with our handler.
`generic`: the same with LiteLLM's own `generic_api` logger, posting to `GENERIC_LOGGER_ENDPOINT`,
`single`:
one document a request, is the one form of it that Elasticsearch takes; `json_array`, its default,
is a batch in one request, which Elasticsearch refuses. `memory`: megabytes that our handler adds to
a process that has LiteLLM loaded, at its most and in the end.
"""

import asyncio
import copy
import gc
import json
import random
import sys
import time
from pathlib import Path

TEXT = "the quick brown fox jumps over a lazy dog while seven wizards wait"
WORDS = TEXT.split()


def payload(number, size):
    """Return a chat payload as LiteLLM makes them, of about so many bytes of JSON."""
    pick = random.Random(number)
    text = " ".join(pick.choices(WORDS, k=max(size - 2200, 200) // 5))
    half = len(text) // 2
    return {
        "id": f"chatcmpl-{number}", "trace_id": f"trace-{number}", "call_type": "acompletion",
        "litellm_call_id": f"call-{number}-{pick.random()}", "stream": False, "status": "success",
        "cache_hit": None, "cache_key": None, "saved_cache_cost": 0.0,
        "startTime": time.time(), "endTime": time.time() + 0.5,
        "completionStartTime": time.time() + 0.2, "response_time": 0.5,
        "model": "gpt-4o", "model_id": "0f1e2d3c", "model_group": "chat", "end_user": "",
        "custom_llm_provider": "openai", "api_base": "https://api.openai.com/v1",
        "response_cost": 0.0012, "total_tokens": 321, "prompt_tokens": 300,
        "completion_tokens": 21, "request_tags": ["team-a", "prod"], "requester_ip_address": "",
        "metadata": {
            "user_api_key_hash": "9" * 64, "user_api_key_alias": "team-a-key",
            "user_api_key_team_id": "team-a", "user_api_key_user_id": "user-17",
            "user_api_key_org_id": None, "spend_logs_metadata": {"job": "nightly", "n": number},
            "requester_metadata": {"a": 1}, "usage_object": {"prompt_tokens": 300},
            "used_client_oauth_token": False,
        },
        "hidden_params": {
            "model_id": "0f1e2d3c", "litellm_overhead_time_ms": 3.2, "batch_models": None,
            "additional_headers": {f"x-ratelimit-{n}": str(n) for n in range(6)},
        },
        "model_parameters": {"temperature": 0.2, "max_tokens": 400},
        "messages": [{"role": "system", "content": "You are brief."},
                     {"role": "user", "content": text[:half]}],
        "response": {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "model": "gpt-4o",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": text[half:]}}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 21, "total_tokens": 321},
        },
        "error_str": None, "error_information": None, "guardrail_information": None,
    }  # fmt: skip


async def hook(handler):
    """Return quantiles of the time in the hook, at about 150 events a second.

    `copies`: the median over that of a copy of such a payload, as dicts and lists, which is made in
    between: both find the processor's cache as a pause has left it.
    """
    small = [payload(number, 4000) for number in range(200)]
    large = payload(-1, 1_000_000)
    taken, copies = [], []
    for number in range(6000):
        is_large = number % 100 == 50
        given = copy.copy(large if is_large else small[number % 200])
        kwargs = {"standard_logging_object": given}
        began = time.perf_counter_ns()
        await handler.async_log_success_event(kwargs, None, None, None)
        if number >= 500:
            taken.append((time.perf_counter_ns() - began) / 1000)
        await asyncio.sleep(0.003)
        began = time.perf_counter_ns()
        copied(small[number % 200])
        copies.append((time.perf_counter_ns() - began) / 1000)
        await asyncio.sleep(0.003)
    taken.sort()
    copies.sort()
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    return {"p50": p50, "p99": p99, "copies": p50 / copies[len(copies) // 2]}


def copied(value):
    """Return a copy of a payload, as dicts and lists."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


async def cpu(handler, flush, number):
    """Return microseconds of CPU an event, that of the loop around it taken off."""
    given = [payload(number, 4000) for number in range(500)]

    async def feed(count, call):
        began = time.process_time()
        for at in range(count):
            await call({"standard_logging_object": given[at % 500]})
            if at % 50 == 49:
                await asyncio.sleep(0.01)
        return began

    async def nothing(_kwargs):
        return None

    async def one(kwargs):
        await handler.async_log_success_event(kwargs, None, None, None)

    async def some():
        await feed(1000, one)
        await flush()

    await some()  # what is compiled at first use is
    await some()
    began = await feed(number, nothing)
    idle = time.process_time() - began
    began = await feed(number, one)
    await flush()
    return {"us": (time.process_time() - began - idle) / number * 1e6}


def rss_mb():
    """Return megabytes of this process: now, and at its most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return [int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")]


async def memory():
    """Return megabytes of memory that our handler adds, over 20,000 events."""
    import litellm  # noqa: F401 - a proxy has loaded it

    given = [payload(number, 4000) for number in range(500)]
    gc.collect()
    before, _ = rss_mb()
    from llmlog_producer.callback import handler

    for number in range(20_000):
        kwargs = {"standard_logging_object": given[number % 500]}
        await handler.async_log_success_event(kwargs, None, None, None)
        if number % 5 == 4:
            await asyncio.sleep(0.01)
    assert await asyncio.to_thread(handler.flush, 60) == 0
    now, most = rss_mb()
    return {"end": now - before, "most": most - before}


async def main(what, log_format=None):
    """Measure one thing."""
    if what == "memory":
        return await memory()
    if what == "generic":
        from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

        handler = GenericAPILogger(log_format=log_format)

        async def flush():
            await handler.async_send_batch()

        return await cpu(handler, flush, 5_000)
    from llmlog_producer.callback import handler

    async def flush():
        assert await asyncio.to_thread(handler.flush, 60) == 0

    found = await (hook(handler) if what == "hook" else cpu(handler, flush, 20_000))
    await flush()
    stats = handler.stats()
    assert stats["delivered"] == stats["accepted"], stats
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))

"""What people write with LiteLLM's SDK: each ends at once, and flushes nothing.

`fork_scripts.py` runs them, and gives them `AT_LAST`.
"""

_CALL = 'model="openai/gpt-4o-mini", mock_response="hi", messages='

_SYNC = f"""
import json
import sys

import litellm

before = set(sys.modules)
from llmlog_producer.callback import handler

litellm.callbacks = [handler]
litellm.completion({_CALL}[{{"role": "user", "content": "sync"}}])
new = set(sys.modules) - before
ours = {{"typer", "rich", "structlog", "llmlog_consumer", "llmlog_local"}}
print(json.dumps({{"loaded": sorted(new & ours)}}))
"""

_ASYNC = f"""
import asyncio

import litellm
from llmlog_producer.callback import handler

litellm.callbacks = [handler]
asyncio.run(litellm.acompletion({_CALL}[{{"role": "user", "content": "async"}}]))
"""

# The first call has Kafka connected, however busy the machine is; the second ends at once.
_CONNECTED = f"""
import litellm
from llmlog_producer.callback import handler

litellm.callbacks = [handler]
litellm.completion({_CALL}[{{"role": "user", "content": "connected"}}])
assert handler.flush(60) == 0
litellm.completion({_CALL}[{{"role": "user", "content": "connected"}}])
"""

_LISTS_AND_ROUTER = f"""
import litellm
from llmlog_producer.callback import handler

litellm.success_callback = [handler]
litellm.failure_callback = [handler]
messages = [{{"role": "user", "content": "both lists"}}]
litellm.completion({_CALL}messages)
try:
    litellm.completion(
        model="openai/gpt-4o-mini", messages=messages, mock_response="litellm.RateLimitError"
    )
except litellm.RateLimitError:
    pass
params = {{"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": "hi"}}
router = litellm.Router(model_list=[{{"model_name": "chat", "litellm_params": params}}])
router.completion("chat", [{{"role": "user", "content": "router"}}])
"""

_TWO_CALLS = f"""
import asyncio
import json
import logging

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
answers = []
AT_LAST.append(lambda: print(json.dumps({{"answers": answers, "stats": handler.stats()}})))

import litellm
from llmlog_producer.callback import handler

litellm.callbacks = [handler]
messages = [{{"role": "user", "content": "no handler takes it"}}]
answers.append(litellm.completion({_CALL}messages).choices[0].message.content)


async def main():
    answer = await litellm.acompletion({_CALL}messages)
    answers.append(answer.choices[0].message.content)


asyncio.run(main())
"""

_HOSTILE = """
import asyncio
import json
import logging
import time
import types

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
from llmlog_producer import callback
from llmlog_producer.callback import handler


class Rude:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    __str__ = __iter__ = __len__ = __hash__ = __bool__ = __repr__


class RudeDict(dict):
    def items(self):
        raise RuntimeError("items")


class Unspeakable(Exception):
    def __repr__(self):
        raise RuntimeError("repr")

    __str__ = __repr__


class UnspeakableDict(dict):
    def keys(self):
        raise Unspeakable

    __iter__ = items = keys


cycle = {}
cycle["itself"] = [cycle]
deep = leaf = {}
for _ in range(5000):
    leaf["a"] = leaf = {}
without = [None, {}] + [
    {"standard_logging_object": payload}
    for payload in (None, "text", b"bytes", 7, float("nan"), [], (), object(), Rude(), Rude)
]
unreadable = [Rude(), "text", 7, {"standard_logging_object": UnspeakableDict(a=1)}]
fields = [
    {},
    {"startTime": object(), "endTime": "soon", "response_time": float("inf")},
    {"startTime": 1e300, "total_tokens": 10**40, "prompt_tokens": -1, "response_cost": "dear"},
    {"model": "\\ud800", "messages": "\\ud800\\0", "metadata": {"": 1, "\\0": 2, "a.b": {1: 2}}},
    {"messages": [Rude(), Rude, {1, 2}, b"\\xff", 1e400], "response": Rude()},
    {"metadata": cycle, "messages": cycle, "response": deep, "hidden_params": deep},
    {"metadata": [1], "hidden_params": "text", "request_tags": {"a": 1}, "error_str": {"a": 1}},
    {1: 2, None: 3, (1, 2): Rude(), "llmlog_cut": "x", "extra": "x", "mistyped": "x"},
    {"litellm_call_id": Rude(), "trace_id": ["a"], "call_type": None, "status": 200},
    {"id": "x" * 100_000, "model": "y" * 100_000, "messages": "z" * 10_000_000},
    {"nested": RudeDict(a=1), "metadata": RudeDict(a=1)},
]
now = time.time()
# A payload without a usable time has its hook's, in ms: all four hooks are told at one moment.
callback.time = types.SimpleNamespace(**vars(time) | {"time": lambda: now})
payloads = [
    {"litellm_call_id": f"h{number}", "startTime": now, "model_group": "hostile", **payload}
    for number, payload in enumerate(fields)
]
payloads.append(RudeDict(payloads[0], litellm_call_id="rude"))
raised = []
called = 0


async def main():
    global called
    readable = ({"standard_logging_object": payload} for payload in payloads)
    for kwargs in [*without, *unreadable, *readable]:
        for hook in (
            handler.log_success_event, handler.log_failure_event,
            handler.async_log_success_event, handler.async_log_failure_event,
        ):
            called += 1
            try:
                done = hook(kwargs=kwargs, response_obj=Rude(), start_time=None, end_time=None)
                if done is not None:
                    await done
            except BaseException as error:
                raised.append(f"{hook.__name__}: {error!r}")


asyncio.run(main())
handler.flush(60)
print(json.dumps({
    "raised": raised, "called": called, "without_payload": len(without),
    "unreadable": len(unreadable),
    # Without a call id that is one, nothing says that four hooks were told of the same call.
    "distinct": sum(1 if type(p["litellm_call_id"]) is str else 4 for p in payloads),
    "stats": handler.stats(),
}))
"""

SCRIPTS = {
    "no Kafka": _TWO_CALLS,
    "sync": _SYNC,
    "async": _ASYNC,
    "connected": _CONNECTED,
    "lists and router": _LISTS_AND_ROUTER,
    "wrong settings": _TWO_CALLS,
    "hostile": _HOSTILE,
}
"""By name; the one that waits longest comes first."""

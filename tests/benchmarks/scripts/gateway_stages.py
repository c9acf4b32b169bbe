"""Where the callback's microseconds go: run by an interpreter that has LiteLLM.

Reads `LLMLOG_…`; prints a table. The hook's thread, ours, and librdkafka's are told apart by the
operating system's clocks while events are sent; steps are timed alone, over and over, and so with
everything at hand.
"""

import asyncio
import threading
import time

import orjson
from gateway_side import payload

from llmlog_common.settings import load
from llmlog_producer.callback import handler
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.redact import Redactor
from llmlog_producer.events.snapshot import snapshot
from llmlog_producer.events.truncate import Truncator
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from llmlog_schemas.search_text import search_texts

EVENTS = 20_000
TIMES = 20
WITHOUT = frozenset({"model_map_information"})


async def feed(count, given, call):
    """Give the hook 50 events every 10 ms."""
    for at in range(count):
        await call({"standard_logging_object": given[at % len(given)]})
        if at % 50 == 49:
            await asyncio.sleep(0.01)


async def in_place(given):
    """Return µs an event of the hook, of our thread, and of the whole process."""

    async def nothing(_kwargs):
        return None

    async def one(kwargs):
        await handler.async_log_success_event(kwargs, None, None, None)

    async def some():
        await feed(1000, given, one)
        assert await asyncio.to_thread(handler.flush, 60) == 0

    await some()  # what is compiled at first use is
    await some()
    (ours,) = (t for t in threading.enumerate() if t.name == "llmlog-publisher")
    clocks = [time.CLOCK_THREAD_CPUTIME_ID, time.pthread_getcpuclockid(ours.ident)]
    clocks.append(time.CLOCK_PROCESS_CPUTIME_ID)

    async def spent(call):
        before = [time.clock_gettime(clock) for clock in clocks]
        await feed(EVENTS, given, call)
        hook = time.clock_gettime(clocks[0])
        await asyncio.to_thread(handler.flush, 60)
        after = [hook, *(time.clock_gettime(clock) for clock in clocks[1:])]
        return [(b - a) / EVENTS * 1e6 for a, b in zip(before, after, strict=True)]

    idle, busy = await spent(nothing), await spent(one)
    return [there - without for there, without in zip(busy, idle, strict=True)]


def alone(step, inputs):
    """Return the least µs that a step takes for one of its inputs."""
    found = []
    for _ in range(TIMES):
        given = inputs()
        began = time.thread_time()
        for one in given:
            step(one)
        found.append((time.thread_time() - began) / len(given) * 1e6)
    return min(found)


def steps(given):
    """Return µs of each step of the conversion."""
    settings = load()
    redactor, encoder = Redactor(settings), Encoder()
    texts = [snapshot(one, without=WITHOUT)[0] for one in given]

    def read():
        return [orjson.loads(text) for text in texts]

    events = [to_event(one, captured_at=0.0) for one in read()]
    captured = [CapturedPayload(text, "", 0.0) for text in texts]
    return {
        "copy as JSON": alone(lambda one: snapshot(one, without=WITHOUT), lambda: given),
        "read the copy": alone(orjson.loads, lambda: texts),
        "truncate": alone(Truncator(settings).truncate, read),
        "redact": alone(redactor.redact, read),
        "look for secrets": alone(redactor.may_hold_secret, lambda: texts),
        "convert": alone(lambda one: to_event(one, captured_at=0.0, search_text=False), read),
        "text for search": alone(lambda one: search_texts(one["messages"], one["response"]), read),
        "Avro": alone(encoder.encode, lambda: events),
        "all of it": alone(EventBuilder(settings, Stats()).build, lambda: captured),
    }


def main():
    """Measure and print."""
    given = [payload(number, 4000) for number in range(200)]
    hook, thread, process = asyncio.run(in_place(given))
    of_it = steps(given)
    whole = of_it.pop("all of it")
    print(f"µs of CPU an event, payloads of {len(orjson.dumps(given[0]))} bytes")
    print(f"  {'hook':40}{hook:7.1f}")
    print(f"    {'of it: copy as JSON':38}{of_it.pop('copy as JSON'):7.1f}   (alone)")
    print(f"  {'thread: convert, produce, reports':40}{thread:7.1f}")
    print(f"    {'of it: conversion':38}{whole:7.1f}   (alone)")
    for label, microseconds in of_it.items():
        print(f"      {label:36}{microseconds:7.1f}   (alone)")
    print(f"  {'threads of librdkafka':40}{process - hook - thread:7.1f}")
    print(f"  {'together':40}{process:7.1f}")


if __name__ == "__main__":
    main()

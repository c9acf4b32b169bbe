"""What keeps a gateway busy on purpose costs its hook a bounded time, and counted memory."""

import time
import tracemalloc

import orjson
import pytest

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from llmlog_schemas.codec import Decoder
from support.attacks import KINDS, SIZES, attacks

NONE = frozenset()
MOST_SECONDS = 0.05
"""Ten times the bound that `make bench` shows: tests share their cores with other processes."""
TIMES_REAL = 1.5
FREED = 20_000
"""Bytes that the interpreter keeps of dicts and lists that are gone, for the next ones."""


def test_there_are_enough_attacks():
    assert len(list(attacks())) >= 300
    assert min(SIZES) == 1_000
    assert max(SIZES) == 8_000_000


def in_hook(payload):
    began = time.thread_time()
    snapshot(payload, without=NONE)
    return time.thread_time() - began


@pytest.mark.parametrize("size", SIZES)
def test_the_hook_takes_a_bounded_time_whatever_it_is_given(size):
    for name, make in attacks((size,)):
        payload = make()
        taken = in_hook(payload)
        if taken > MOST_SECONDS:
            taken = min(in_hook(payload) for _ in range(3))
        assert taken <= MOST_SECONDS, name


@pytest.mark.parametrize(("size", "odd"), [(100_000, None), (1_000_000, float("nan"))])
def test_what_is_counted_is_what_is_held(size, odd):
    for name, make in attacks((size,)):
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        payload = make() | {"response_cost": odd}
        copy, counted = snapshot(payload, without=NONE)
        del payload
        real = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert copy
        assert counted / TIMES_REAL <= real + FREED <= counted * TIMES_REAL + 2 * FREED, name


@pytest.mark.parametrize("kind", KINDS)
def test_every_attack_becomes_an_event_that_says_what_was_left_out(kind):
    whole, copy = KINDS[kind](200_000), None
    given = {
        "startTime": 1_800_000_000.5,
        "litellm_call_id": "c",
        "metadata": {"a": "b"},
        "x": whole,
    }
    copy, size = snapshot(given, without=NONE)
    captured = CapturedPayload(copy, "", 1.0, size)
    event = Decoder().decode(EventBuilder(load(environ={}), Stats()).build(captured).value)
    document = orjson.loads(event["document"])
    assert document["metadata"] == {"a": "b"}
    if isinstance(copy, dict) and b"llmlog_cut" in event["document"]:
        assert document["extra"]["llmlog_cut"]["places"] >= 1


def test_a_payload_past_the_bounds_keeps_its_small_fields_and_the_ends_of_the_large_ones():
    large = [{"role": "user", "content": [{"type": "text", "text": f"t{n}"}]} for n in range(9_000)]
    copy, _ = snapshot({"messages": large, "response": large, "model": "m"}, without=NONE)
    assert copy["model"] == "m"
    for name in ("messages", "response"):
        first, marker, *last = copy[name]
        assert 100 < len(last) == 8_999 - marker["llmlog_cut"]["items"]
        assert first == large[0]
        assert last[1:] == large[1 - len(last) :]


def test_what_is_deeper_than_the_bound_is_left_out_of_a_large_payload():
    deep = "bottom"
    for _ in range(300):
        deep = [deep]
    copy, _ = snapshot({"a": deep}, without=NONE)
    for _ in range(61):
        (copy,) = copy.values() if isinstance(copy, dict) else copy
    assert copy == "<cut: deeper than 60 levels>"

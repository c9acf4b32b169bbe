"""What derived fields cost of an event's conversion, with and without them in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figures
from benchmarks.scripts.gateway_side import payload
from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from llmlog_schemas import convert
from support.rich_payload import rich_payload

ROUNDS = 250
_PAYLOADS = 20


def measure(figures: Figures) -> None:
    """Print µs of one conversion, for a usual payload of 4 KB and for one with every field."""
    del figures
    shapes = {
        "4 KB": [payload(number, 4000) for number in range(_PAYLOADS)],
        "every field": [{**rich_payload(), "litellm_call_id": str(n)} for n in range(_PAYLOADS)],
    }
    print(f"{'payload':14}{'without':>10}{'with':>10}{'more':>8}")
    for shape, given in shapes.items():
        without, whole = _run(given)
        print(f"{shape:14}{without:10.1f}{whole:10.1f}{whole / without - 1:8.1%}")


def _run(given: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the least µs of a conversion, without and with derived fields."""
    derive = convert.derive
    builder = EventBuilder(load(environ={}), Stats())
    captured = [CapturedPayload(snapshot(one, without=frozenset())[0], "", 0.0) for one in given]
    ways: tuple[Callable[..., Any], ...] = (lambda *_: {}, derive)
    least = [[float("inf")] * len(captured) for _ in ways]
    try:
        for _ in range(ROUNDS):
            for number, one in enumerate(captured):
                for way, taken in zip(ways, least, strict=True):
                    convert.derive = way
                    began = time.perf_counter_ns()
                    builder.build(one)
                    taken[number] = min(taken[number], time.perf_counter_ns() - began)
    finally:
        convert.derive = derive
    without, whole = (statistics.fmean(taken) / 1000 for taken in least)
    return without, whole

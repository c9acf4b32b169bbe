"""What hostile payloads cost a gateway: run by an interpreter that has LiteLLM or not.

Prints JSON: the worst time in the hook, the worst sum of pauses over 20 ms of another thread that
one payload causes, and how far the memory that is counted is from the real one. Run it on a quiet
machine: a pause is what a thread that sleeps for a millisecond sees.
"""

import json
import sys
import threading
import time
import tracemalloc
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from support.attacks import SIZES, attacks

NONE = frozenset()
PAUSE_SECONDS = 0.02


class Probe:
    """A thread of the gateway that wants to run every millisecond."""

    def __init__(self):
        self.gaps = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        last = time.perf_counter()
        while True:
            time.sleep(0.001)
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now

    def pauses_ms(self):
        return sum(gap for gap in self.gaps if gap > PAUSE_SECONDS) * 1000


def hook_ms(payload):
    began = time.perf_counter()
    captured = CapturedPayload(*_captured(payload))
    return (time.perf_counter() - began) * 1000, captured


def _captured(payload):
    copy, size = snapshot(payload, without=NONE)
    return copy, "", 1.0, size


def memory_factor(make):
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    payload = make()
    copy, counted = snapshot(payload, without=NONE)
    del payload
    real = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert copy
    return max(real / counted, counted / max(real, 1)) if real > 100_000 else 1.0


def main(sizes):
    """Measure and print."""
    builder, probe = EventBuilder(load(environ={}), Stats()), Probe()
    worst = {"hook_ms": (0.0, ""), "pauses_ms": (0.0, ""), "memory_factor": (0.0, "")}

    def note(what, value, name):
        worst[what] = max(worst[what], (round(value, 2), name))

    for name, make in attacks(sizes):
        payload = make()
        runs = [hook_ms(payload) for _ in range(3)]
        note("hook_ms", min(taken for taken, _ in runs), name)
        captured = runs[-1][1]
        del payload, runs
        time.sleep(0.005)
        probe.gaps.clear()
        builder.build(captured)
        time.sleep(0.005)
        note("pauses_ms", probe.pauses_ms(), name)
        note("memory_factor", memory_factor(make), name)
    print(json.dumps(worst))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)

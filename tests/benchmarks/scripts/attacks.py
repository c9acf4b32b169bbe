"""What hostile payloads cost a gateway: run by an interpreter that has LiteLLM or not.

Prints JSON: the worst time in the hook, the worst sum of pauses over 20 ms of another thread that
one payload causes, and how far the memory that is counted is from the real one. A pause is what a
thread that sleeps for a millisecond sees, and on a busy machine others cause some: what is past its
goal is measured again, `TRIES` times at most, and the least counts.
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
TRIES = 6
HOOK_GOAL_MS, PAUSES_GOAL_MS = 5.0, 100.0


class Probe:
    """A thread of the gateway that wants to run every millisecond.

    Attributes:
        paused_s: the sum of its pauses.
    """

    def __init__(self):
        self.paused_s = 0.0  # a number: what it held would be counted as the payload's
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        last = time.perf_counter()
        while True:
            time.sleep(0.001)
            now = time.perf_counter()
            if now - last > PAUSE_SECONDS:
                self.paused_s += now - last
            last = now


def hook_ms(payload):
    """Return the time in the hook, and what it has made."""
    began = time.perf_counter()
    captured = CapturedPayload(*_captured(payload))
    return (time.perf_counter() - began) * 1000, captured


def pauses_ms(builder, probe, captured):
    """Return what an event's making takes from another thread."""
    time.sleep(0.005)
    before = probe.paused_s
    builder.build(captured)
    time.sleep(0.005)
    return (probe.paused_s - before) * 1000


def least(goal, measure):
    """Measure again while the result, or the first part of it, is past its goal."""
    found = measure()
    for _ in range(TRIES - 1):
        if found[0] <= goal:
            break
        found = min(found, measure(), key=lambda one: one[0])
    return found


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
        taken, _ = least(HOOK_GOAL_MS, lambda given=payload: hook_ms(given))
        note("hook_ms", taken, name)
        (paused,) = least(
            PAUSES_GOAL_MS,  # the event's making changes what it is given: a new copy each time
            lambda given=payload: (pauses_ms(builder, probe, hook_ms(given)[1]),),
        )
        note("pauses_ms", paused, name)
        del payload
        note("memory_factor", memory_factor(make), name)
    print(json.dumps(worst))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)

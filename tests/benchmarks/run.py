"""Runs the benchmarks: `make bench`, or `make bench ONLY=PART`; `PARTS` has their names."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import (
    console,
    consumer,
    derived,
    dlq,
    freshness,
    index_settings,
    isolation,
    members,
    memory,
    peers,
    producer,
    profiles,
    sizing,
)
from benchmarks.figures import Figures

PARTS = {
    "consumer": consumer.measure,
    "isolation": isolation.measure,
    "memory": memory.measure,
    "producer": producer.measure,
    "dlq": dlq.measure,
    "index": index_settings.measure,
    "console": console.measure,
    "members": members.measure,
    "peers": peers.measure,
    "sizing": sizing.measure_all,
    "profiles": profiles.measure,
    "freshness": freshness.measure,
    "derived": derived.measure,
}
ALONE = {"console", "members", "peers"}
"""Parts that run where they are named, and not within the whole."""


def main(only):
    """Measure, print the table, write `bench.json`."""
    unknown = set(only) - set(PARTS)
    if unknown:
        raise SystemExit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    parts = PARTS | {
        "memory": partial(memory.measure, alone=bool(only)),
        "index": partial(index_settings.measure, alone=bool(only)),
    }
    figures = Figures()
    for name, measure in parts.items():
        if name in only or not (only or name in ALONE):
            print(f"\n== {name}", flush=True)
            measure(figures)
    print()
    for line in figures.table():
        print(line)
    figures.write(Path("bench.json"))


if __name__ == "__main__":
    main(sys.argv[1:])

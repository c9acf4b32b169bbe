"""The most that direct `_bulk` reaches: how large its bodies, over how many connections.

What suits an Elasticsearch depends on its cores. So every form is tried on a short topic, and the
fastest ones again in each round, for longer; the ceiling is the best that was found.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from benchmarks.bench import LONG, SHORT, Bench

_FINALISTS = 2


class Form(NamedTuple):
    """How documents are posted: megabytes of a body, connections at once."""

    megabytes: float
    connections: int

    def __str__(self) -> str:
        """Say it."""
        return f"{self.megabytes:g} MB x {self.connections}"

    @property
    def arguments(self) -> tuple[str, str]:
        """Of `direct.py`: bytes of a body, connections."""
        return str(int(self.megabytes * 1e6)), str(self.connections)


FORMS = tuple(itertools.starmap(Form, itertools.product((0.5, 1, 2, 4), (1, 2, 4))))


def post(bench: Bench, topic: str, form: Form) -> float:
    """Post a topic's documents in this form; return documents a second."""
    return bench.script("direct.py", topic, *form.arguments)


def candidates(bench: Bench) -> list[Form]:
    """Try every form; return the fastest ones, the best first."""
    post(bench, f"2kb-{LONG}", FORMS[-1])  # a JVM is slow at first
    seen = {form: post(bench, f"2kb-{SHORT}", form) for form in FORMS}
    best = sorted(FORMS, key=lambda form: -seen[form])
    print("  direct _bulk, documents a second in bodies of so many MB x connections:")
    for form in best:
        print(f"    {form!s:10} {seen[form]:8,.0f}")
    return best[:_FINALISTS]


def ceiling(bench: Bench, forms: list[Form]) -> tuple[float, Form]:
    """Return documents a second of the best of these, and which one it was.

    The difference between the long topic and the short one, as for the pipeline: what
    Elasticsearch puts off until after a run is left out of neither.
    """
    return max((_steady(bench, form), form) for form in forms)


def _steady(bench: Bench, form: Form) -> float:
    short, long = (count / post(bench, f"2kb-{count}", form) for count in (SHORT, LONG))
    return (LONG - SHORT) / (long - short)

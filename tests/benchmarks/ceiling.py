"""The most that direct `_bulk` reaches: how large its bodies, over how many connections.

What suits an Elasticsearch depends on its cores. So every form is tried on a short topic, and the
fastest ones again on a long topic in each round; the ceiling is the best that was found.
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
    """Return documents a second of the best of these on the long topic, and which one it was."""
    return max((post(bench, f"2kb-{LONG}", form), form) for form in forms)

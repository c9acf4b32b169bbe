"""What LiteLLM's own logger delivers, beside which docs/comparison.md puts this pipeline."""

from __future__ import annotations

import json

from acceptance.gateway.proxy import VERSIONS, python_of
from benchmarks import arena
from benchmarks.figures import Figures

CALLS = 350


def measure(figures: Figures) -> None:
    """Print a line for each way in which the endpoint misbehaves; there are no goals."""
    del figures
    script = str(arena.SCRIPTS / "litellm_logger.py")
    done = arena.run([str(python_of(VERSIONS[-1])), script, str(CALLS)], {})
    for line in done.stdout.splitlines():
        said = json.loads(line)
        print(f"    {said.pop('case'):48}", *(f"{name} {number}," for name, number in said.items()))

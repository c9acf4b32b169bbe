"""What the extremes of `make faults` set still exists: they run too seldom to find that out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BOUNDS = Path(__file__).parents[1] / "support" / "bounds.py"


def test_the_command_runs_with_bounds_of_a_test():
    command = [sys.executable, str(BOUNDS), '{"operations": 1}', "version"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "llmlog" in run.stdout

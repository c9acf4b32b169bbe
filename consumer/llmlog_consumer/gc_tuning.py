"""Owns how often Python's garbage collector searches for cycles."""

from __future__ import annotations

import gc


def tune() -> None:
    """Make the collector run rarely; call this once everything is loaded.

    Hardly any object of the pipeline is part of a cycle, but each run of the collector visits
    everything in flight. The default thresholds cost a worker a tenth of its CPU.
    """
    gc.set_threshold(200_000, 20, 100)
    gc.freeze()

"""Owns how often Python's garbage collector looks for cycles."""

from __future__ import annotations

import gc


def tune() -> None:
    """Have it look seldom, from the moment on at which everything is loaded.

    Hardly anything here is part of a cycle, and what is in flight is looked through each time: the
    default thresholds cost a worker a tenth of its CPU, and a reader of dead letters a quarter.
    """
    gc.set_threshold(200_000, 20, 100)
    gc.freeze()

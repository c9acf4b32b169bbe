"""Moves this process's clock, as `CLOCK_OFFSET` says in seconds; on PYTHONPATH, Python loads it."""

import os
import time

if offset := os.environ.get("CLOCK_OFFSET"):
    _true_time = time.time

    def _wrong_time() -> float:
        return _true_time() + float(offset)

    time.time = _wrong_time

"""Owns what a long-lived process does not load. Each line here was measured."""

from __future__ import annotations

import importlib
import sys


def load_structlog() -> None:
    """Load structlog without `rich`, which it uses for tracebacks on a terminal; ours are lines.

    It looks for `rich` once, as it is loaded. That took 110 ms of CPU and 5 MB in each process.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    # The import system's way to say that there is none.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]

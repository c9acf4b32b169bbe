"""Owns what a long-lived process does not load. Each line here was measured."""

from __future__ import annotations

import importlib
import sys


def load_structlog() -> None:
    """Load structlog without `rich`, which it uses for tracebacks on a terminal; ours are lines.

    It looks for `rich` once, as it is loaded. That took 110 ms of CPU and 5 MB in each process.
    """
    _load_without("structlog", "rich")


def load_elastic_transport() -> None:
    """Load the transport of Elasticsearch's client without the HTTP libraries that we do not use.

    It looks for each of them once, as it is loaded. Where they were installed, and with the client
    itself, it took 100 ms of CPU and 17 MB in each process; it takes 15 ms and 1 MB.
    """
    _load_without("elastic_transport", "aiohttp", "httpx", "opentelemetry", "requests")


def _load_without(library: str, *others: str) -> None:
    """Load a library as if the others were not installed; those that are loaded already stay."""
    if library in sys.modules:
        return
    absent = [name for name in others if name not in sys.modules]
    for name in absent:
        # The import system's way to say that there is none.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        importlib.import_module(library)
    finally:
        for name in absent:
            del sys.modules[name]

"""Owns the Prometheus metrics: the counters, in the gateway's own registry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llmlog_producer.counters import COUNTERS, GAUGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "llmlog_gateway_"


def expose(stats: Callable[[], dict[str, int]]) -> bool:
    """Register a collector that asks for the counters whenever it is scraped.

    Args:
        stats: `handler.stats`, called from the scraping thread.

    Returns:
        False where prometheus-client is not installed, or another handler is registered.
    """
    try:
        registry = importlib.import_module("prometheus_client").REGISTRY
        core = importlib.import_module("prometheus_client.core")
        registry.register(_Collector(stats, core))
    except (ImportError, ValueError):
        return False
    return True


class _Collector:
    """A custom collector of prometheus-client."""

    def __init__(self, stats: Callable[[], dict[str, int]], core: Any) -> None:
        self._stats = stats
        self._core = core

    def collect(self) -> Iterator[Any]:
        """Yield one metric for each counter and gauge."""
        values = self._stats()
        for name, text in COUNTERS.items():
            yield self._core.CounterMetricFamily(f"{PREFIX}{name}", text, value=values[name])
        for name, text in GAUGES.items():
            yield self._core.GaugeMetricFamily(f"{PREFIX}{name}", text, value=values[name])

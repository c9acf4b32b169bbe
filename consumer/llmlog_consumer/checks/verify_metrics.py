"""Owns what `pipeline verify --watch --metrics` tells Prometheus: the sums over all rounds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from llmlog_consumer.checks.proof import Proof

PREFIX: Final = "llmlog_verify_"
GAUGES: Final = {
    "unaccounted_events": "Events that are neither a document nor a dead letter, or more than one "
    "document, or hidden from users; of all rounds.",
    "unknown_events": "Events of the last round that could not be looked up.",
    "last_round_timestamp_seconds": "When the last round ended, in epoch seconds; 0 before it.",
}
COUNTERS: Final = {
    "events": "Events that were verified.",
    "documents": "Those of them that have a document.",
    "dead_letters": "Those of them that have a dead letter and no document.",
}


class VerifyMetrics:
    """The numbers of a watch; main adds rounds, the thread that serves reads.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._values: dict[str, float] = dict.fromkeys([*GAUGES, *COUNTERS], 0.0)  # replaced

    def add(self, proof: Proof) -> None:
        """Add a round."""
        last = self._values
        self._values = {
            "unaccounted_events": last["unaccounted_events"] + proof.unaccounted_count,
            "unknown_events": proof.unknown_count,
            "last_round_timestamp_seconds": self._clock(),
            "events": last["events"] + proof.events,
            "documents": last["documents"] + proof.documents,
            "dead_letters": last["dead_letters"] + proof.dead_letters,
        }

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its present value."""
        values = self._values
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=values[name])
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}{name}", text, value=values[name])

    def serve(self, port: int) -> None:
        """Answer `/metrics` on all addresses, in threads, until the process ends.

        Raises:
            ConfigurationError: the port is taken.
        """
        registry = CollectorRegistry()
        registry.register(self)
        try:
            start_http_server(port, registry=registry)
        except OSError as error:
            raise ConfigurationError(f"--metrics {port}: {error.strerror or error}") from None

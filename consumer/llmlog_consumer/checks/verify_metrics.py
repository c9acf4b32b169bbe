"""Owns what `pipeline verify --watch --metrics` tells Prometheus: the sums over all rounds."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.histograms import Histogram

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
    "searches_given_up": "Events that were searched for in vain for two minutes: they wait, or are "
    "dead letters.",
}
EVENT_TO_SEARCHABLE: Final = Histogram(
    "event_to_searchable_seconds",
    (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0),
)
HISTOGRAMS: Final = {
    EVENT_TO_SEARCHABLE.name: "Time from a record's timestamp on Kafka until a search finds its "
    "event; of one event in ten seconds.",
}


class VerifyMetrics:
    """The numbers of a watch; main adds rounds, the search's thread its own, another one reads.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._values: dict[str, float] = dict.fromkeys([*GAUGES, *COUNTERS], 0.0)  # replaced
        self._searches: Counter[str] = Counter()  # replaced, by the search's thread

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

    def add_search(self, seconds: float | None) -> None:
        """Add how long an event took until a search found it; None where it was given up."""
        counts = self._searches.copy()
        if seconds is None:
            counts["searches_given_up"] += 1
        else:
            EVENT_TO_SEARCHABLE.observe(counts, seconds)
        self._searches = counts

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its present value."""
        searches = self._searches
        values = {**self._values, "searches_given_up": searches["searches_given_up"]}
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=values[name])
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}{name}", text, value=values[name])
        yield HistogramMetricFamily(
            f"{PREFIX}{EVENT_TO_SEARCHABLE.name}",
            HISTOGRAMS[EVENT_TO_SEARCHABLE.name],
            buckets=EVENT_TO_SEARCHABLE.buckets(searches),
            sum_value=EVENT_TO_SEARCHABLE.sum(searches),
        )

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

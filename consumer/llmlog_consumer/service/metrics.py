"""Owns the consumer's Prometheus page: the supervisor serves it, with the counts of all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from llmlog_consumer.service.supervisor import State

PREFIX: Final = "llmlog_consumer_"
COUNTERS: Final = {
    "consumed": "Records consumed from the topic.",
    "released": "Records given up unsettled in a rebalance: their next owner settles them.",
    "retries": "Requests that were sent to Elasticsearch again.",
    "failure_store": "Documents that Elasticsearch put into a failure store: no search finds them.",
    "rerouted": "Documents that an ingest pipeline sent to another index than their own.",
    "unclassified": "Answers of Elasticsearch that no error rule covers.",
}


def serve(port: int, state: Callable[[], State]) -> None:
    """Serve `GET /metrics` on this port from now on, in a thread of its own.

    Args:
        port: on all addresses of this machine.
        state: is called at each scrape, from that thread.

    Raises:
        ConfigurationError: the port is not available.
    """
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(state))
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"LLMLOG_METRICS_PORT: port {port}: {error.strerror}") from None


class ConsumerCollector(Collector):
    """The custom collector that prometheus-client asks at each scrape.

    Args:
        state: is called at each scrape, from the server's thread.
    """

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        records = CounterMetricFamily(
            f"{PREFIX}records", "Records by how they ended.", labels=["outcome"]
        )
        for outcome in Outcome:
            records.add_metric([outcome], state.counts[outcome])
        yield records
        letters = CounterMetricFamily(
            f"{PREFIX}dead_letters",
            "Dead letters by cause: `pipeline dlq list --fingerprint …` shows them.",
            labels=["fingerprint", "stage"],
        )
        for (fingerprint, stage), number in state.dead_letters.items():
            letters.add_metric([fingerprint, stage], number)
        yield letters
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}{name}", text, value=state.counts[name])
        for name, text, value in (
            ("in_flight", "Records consumed and not yet settled.", state.in_flight),
            ("workers", "Workers that run.", state.workers),
            ("unhealthy_workers", "Workers that need an operator.", state.unhealthy),
        ):
            yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)
        yield CounterMetricFamily(
            f"{PREFIX}worker_restarts",
            "Workers that died and were started again.",
            value=state.restarts,
        )

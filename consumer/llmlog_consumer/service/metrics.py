"""Shows the consumer's counts to Prometheus: one page of the supervisor, over all workers."""

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
    "consumed": "Records taken from the topic.",
    "released": "Records given up unsettled in a rebalance: their next owner settles them.",
    "retries": "Requests that Elasticsearch was asked again.",
    "failure_store": "Documents that Elasticsearch put into a failure store: no search finds them.",
    "unclassified": "BulkResults of Elasticsearch that no rule of ours speaks of.",
}


def serve(port: int, state: Callable[[], State]) -> None:
    """Answer `GET /metrics` on this port from now on, in a thread of its own.

    Args:
        port: of all addresses of this machine.
        state: asked at each scrape.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(state))
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"LLMLOG_METRICS_PORT: port {port}: {error.strerror}") from None


class ConsumerCollector(Collector):
    """What prometheus-client calls a custom collector.

    Args:
        state: asked at each scrape, from its thread.
    """

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        state = self._state()
        ended = CounterMetricFamily(
            f"{PREFIX}records", "Records by how they ended.", labels=["outcome"]
        )
        for outcome in Outcome:
            ended.add_metric([outcome], state.counts[outcome])
        yield ended
        deaths = CounterMetricFamily(
            f"{PREFIX}dead_letters",
            "Dead letters by cause: `pipeline dlq list --fingerprint …` shows them.",
            labels=["fingerprint", "stage"],
        )
        for (fingerprint, stage), number in state.deaths.items():
            deaths.add_metric([fingerprint, stage], number)
        yield deaths
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}{name}", text, value=state.counts[name])
        for name, text, value in (
            ("in_flight", "Records consumed and not yet settled.", state.in_flight),
            ("workers", "Workers that run.", state.workers),
            ("unhealthy_workers", "Workers that wait for a person to mend something.",
             state.unhealthy),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)
        yield CounterMetricFamily(
            f"{PREFIX}worker_restarts", "Workers that died and were started again.",
            value=state.restarts,
        )  # fmt: skip

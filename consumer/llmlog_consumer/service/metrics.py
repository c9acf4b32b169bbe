"""Owns the consumer's Prometheus metrics: what the supervisor knows, as `metric_list` names it."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from llmlog_consumer.metric_list import HISTOGRAMS, METRICS, PREFIX, Kind, PausedKind
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.service.memory import read_resident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from llmlog_consumer.metric_list import MetricSpec
    from llmlog_consumer.service.state import State
    from llmlog_consumer.service.watches import Lag

Sample = tuple[list[str], float]
"""Values of the labels, and the metric's value."""

_FAMILIES: Final[Mapping[Kind, Any]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
}
_HISTOGRAMS: Final = {histogram.name: histogram for histogram in HISTOGRAMS}


class ConsumerCollector(Collector):
    """The custom collector that prometheus-client asks at each scrape, from the page's thread.

    Args:
        topic: the source.
        state: of the supervisor.
        lag: of the group.
        certificates: when those of servers end, in epoch seconds, by `host:port`.
        is_ready: as `/readyz` says.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        topic: str,
        state: Callable[[], State],
        lag: Callable[[], Lag],
        *,
        certificates: Callable[[], Mapping[str, float]],
        is_ready: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._state = state
        self._lag = lag
        self._certificates = certificates
        self._is_ready = is_ready
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        values = self._values(state)
        for spec in METRICS:
            name = f"{PREFIX}{spec.name}"
            if spec.kind is Kind.HISTOGRAM:
                histogram = _HISTOGRAMS[spec.name]
                yield HistogramMetricFamily(
                    name,
                    spec.text,
                    buckets=histogram.buckets(state.counts),
                    sum_value=histogram.sum(state.counts),
                )
                continue
            family = _FAMILIES[spec.kind](name, spec.text, labels=spec.labels)
            samples = _of_workers(spec, state) if spec.of_worker else values[spec.name]
            for labels, value in samples:
                family.add_metric(labels, value)
            yield family

    def _values(self, state: State) -> dict[str, Iterable[Sample]]:
        """Return the samples of the metrics that are no worker's own, by name."""
        lag = self._lag()
        read_at = lag.read_at
        processes = {
            "supervisor": {"cpu": time.process_time(), "memory": read_resident()},
            **{str(n): r["process"] for n, r in state.reports.items() if "process" in r},
        }
        return {
            "records": [([outcome], state.counts[outcome]) for outcome in Outcome],
            "dead_letters": [
                ([fingerprint, stage], number)
                for (fingerprint, stage), number in state.dead_letters.items()
            ],
            "in_flight": [([], state.in_flight)],
            "lag_records": [([self._topic, str(p)], n) for p, n in lag.records.items()],
            "lag_seconds": [
                ([self._topic, str(p)], s) for p, s in lag.seconds.items() if s is not None
            ],
            "lag_age_seconds": [] if read_at is None else [([], self._clock() - read_at)],
            "paused_scopes": [
                ([kind], sum(r.get("paused", {}).get(kind, 0) for r in state.reports.values()))
                for kind in PausedKind
            ],
            "certificate_expiry_timestamp_seconds": [
                ([where], moment) for where, moment in self._certificates().items()
            ],
            "ready": [([], int(self._is_ready()))],
            "workers": [([], state.workers)],
            "unhealthy_workers": [([], state.unhealthy)],
            "worker_restarts": [([], state.restarts)],
            "process_cpu_seconds": [([name], p["cpu"]) for name, p in processes.items()],
            "process_resident_memory_bytes": [
                ([name], p["memory"]) for name, p in processes.items()
            ],
            "build_info": [([version("llmlog-pipeline")], 1)],
        }


def _of_workers(spec: MetricSpec, state: State) -> list[Sample]:
    if spec.kind is Kind.COUNTER:
        return [([], state.counts[spec.name])]
    gauges = [r.get("gauges", {}).get(spec.name, 0) for r in state.reports.values()]
    return [([], max(gauges, default=0) if spec.is_worst else sum(gauges))]

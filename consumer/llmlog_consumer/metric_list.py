"""Owns the closed list of the consumer's metrics: names, kinds, labels and meanings. Pure.

The page `/metrics` serves exactly these, and docs/metrics.md is written from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmlog_consumer.histograms import Histogram

PREFIX: Final = "llmlog_consumer_"


class Kind(StrEnum):
    """What Prometheus may do with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: behind the prefix; a counter's without `_total`.
        kind: of the metric.
        text: what it tells, for `# HELP` and the documentation.
        labels: names of its labels.
        of_worker: where it comes from: a key of the worker's counts or gauges of the same name,
            added up over workers. Otherwise the supervisor computes it.
        is_worst: of a gauge of workers: the largest value counts, and not the sum.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    of_worker: bool = False
    is_worst: bool = False

    @property
    def full_name(self) -> str:
        """Return the name as a query has it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind is Kind.COUNTER else ''}"


class PausedKind(StrEnum):
    """What may be paused; the values are labels."""

    DEPLOYMENT = "deployment"
    """Elasticsearch as a whole: nothing but probes is sent."""
    INDEX = "index"
    SCHEMA = "schema"
    PARTITION = "partition"
    """It stands still."""
    CIRCUIT = "circuit"
    """An open circuit breaker."""
    DEAD_LETTERS = "dead_letters"
    """The dead-letter topic refuses letters."""


_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0)
_REQUEST_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST_BYTES: Final = (1e3, 1e4, 1e5, 5e5, 1e6, 2e6, 5e6, 1e7)
_ATTEMPTS: Final = (1, 2, 3, 5, 10, 20, 50)

EVENT_TO_INDEXED: Final = Histogram("event_to_indexed_seconds", _SECONDS)
BULK_SECONDS: Final = Histogram("bulk_request_seconds", _REQUEST_SECONDS)
BULK_BYTES: Final = Histogram("bulk_request_bytes", _REQUEST_BYTES)
BULK_ATTEMPTS: Final = Histogram("bulk_request_attempts", _ATTEMPTS)
HISTOGRAMS: Final = (EVENT_TO_INDEXED, BULK_SECONDS, BULK_BYTES, BULK_ATTEMPTS)

METRICS: Final = (
    # Records, from the topic to their outcome.
    MetricSpec("consumed", Kind.COUNTER, "Records consumed from the topic.", of_worker=True),
    MetricSpec("records", Kind.COUNTER, "Records by how they ended.", ("outcome",)),
    MetricSpec(
        "released",
        Kind.COUNTER,
        "Records given up unsettled, in a rebalance or with their worker: "
        "their next owner settles them.",
        of_worker=True,
    ),
    MetricSpec("in_flight", Kind.GAUGE, "Records consumed and not yet settled."),
    MetricSpec("in_flight_bytes", Kind.GAUGE, "Memory that is counted for these.", of_worker=True),
    MetricSpec(
        "dead_letters",
        Kind.COUNTER,
        "Dead letters by cause: `pipeline dlq list --fingerprint …` shows them.",
        ("fingerprint", "stage"),
    ),
    MetricSpec(
        "late",
        Kind.COUNTER,
        "Records that had an outcome when their partition was given away already.",
        of_worker=True,
    ),
    MetricSpec(
        EVENT_TO_INDEXED.name,
        Kind.HISTOGRAM,
        "Time from a record's timestamp on Kafka to the answer that its document was created.",
    ),
    MetricSpec(
        "oldest_unsettled_seconds",
        Kind.GAUGE,
        "Time since the oldest record in flight was consumed; the worst worker.",
        of_worker=True,
        is_worst=True,
    ),
    # Lag of the group: what `pipeline status` says.
    MetricSpec(
        "lag_records",
        Kind.GAUGE,
        "Records that are acknowledged by Kafka and not settled by the group.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "lag_seconds",
        Kind.GAUGE,
        "Age of the oldest of these; no value while it is unknown.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "lag_age_seconds",
        Kind.GAUGE,
        "Time since the lag was read from Kafka; no value before that.",
    ),
    # Elasticsearch.
    MetricSpec(BULK_SECONDS.name, Kind.HISTOGRAM, "Time of a bulk request, to its answer."),
    MetricSpec(BULK_BYTES.name, Kind.HISTOGRAM, "Size of a bulk request's body."),
    MetricSpec(
        BULK_ATTEMPTS.name, Kind.HISTOGRAM, "Which attempt of its documents a bulk request was."
    ),
    MetricSpec(
        "retries",
        Kind.COUNTER,
        "Requests that were sent to Elasticsearch again.",
        of_worker=True,
    ),
    MetricSpec(
        "pushbacks",
        Kind.COUNTER,
        "Answers by which Elasticsearch asked for fewer requests at a time.",
        of_worker=True,
    ),
    MetricSpec(
        "requests_under_way",
        Kind.GAUGE,
        "Bulk requests that wait for their answer.",
        of_worker=True,
    ),
    MetricSpec(
        "concurrency_limit",
        Kind.GAUGE,
        "Bulk requests that may be under way, as learnt from the answers.",
        of_worker=True,
    ),
    MetricSpec(
        "failure_store",
        Kind.COUNTER,
        "Documents that Elasticsearch put into a failure store: no search finds them.",
        of_worker=True,
    ),
    MetricSpec(
        "rerouted",
        Kind.COUNTER,
        "Documents that an ingest pipeline sent to another index than their own.",
        of_worker=True,
    ),
    MetricSpec(
        "unclassified",
        Kind.COUNTER,
        "Answers of Elasticsearch that no error rule covers.",
        of_worker=True,
    ),
    # What waits.
    MetricSpec(
        "paused_scopes",
        Kind.GAUGE,
        "What is paused now, counted by worker: "
        + ", ".join(f"`{kind}`" for kind in PausedKind)
        + ".",
        ("kind",),
    ),
    MetricSpec(
        "pending_letters",
        Kind.GAUGE,
        "Dead letters that the brokers have not confirmed yet.",
        of_worker=True,
    ),
    # Kafka.
    MetricSpec(
        "assigned_partitions", Kind.GAUGE, "Partitions that the workers have.", of_worker=True
    ),
    MetricSpec(
        "commit_age_seconds",
        Kind.GAUGE,
        "Time since Kafka confirmed a commit; the worst worker that has partitions.",
        of_worker=True,
        is_worst=True,
    ),
    MetricSpec(
        "certificate_expiry_timestamp_seconds",
        Kind.GAUGE,
        "When the certificate of a server of Kafka or Elasticsearch ends, in epoch seconds; "
        "read once an hour, no value where it is not verified by an authority.",
        ("server",),
    ),
    # Processes.
    MetricSpec("ready", Kind.GAUGE, "1 while `/readyz` answers 200, else 0."),
    MetricSpec("workers", Kind.GAUGE, "Workers that run."),
    MetricSpec("unhealthy_workers", Kind.GAUGE, "Workers that need an operator."),
    MetricSpec("worker_restarts", Kind.COUNTER, "Workers that died and were started again."),
    MetricSpec(
        "process_cpu_seconds",
        Kind.COUNTER,
        "CPU time since the process began, by process: `supervisor`, or a worker's number.",
        ("process",),
    ),
    MetricSpec(
        "process_resident_memory_bytes",
        Kind.GAUGE,
        "Memory that the process has now, likewise.",
        ("process",),
    ),
    MetricSpec("build_info", Kind.GAUGE, "1, with the version of the consumer.", ("version",)),
)
"""Every metric of the consumer, in the order of the page."""

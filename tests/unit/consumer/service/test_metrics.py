"""The consumer's metrics: the page has each metric of the list, and no other."""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from llmlog_consumer.metric_list import BULK_SECONDS, METRICS, PREFIX, Kind
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.service.metrics import ConsumerCollector
from llmlog_consumer.service.state import State
from llmlog_consumer.service.watches import Lag


def scrape(state=None, lag=None, *, is_ready=True):
    """Return the values of the page, by name and labels."""
    state, lag = state or State(), lag or Lag()
    registry = CollectorRegistry()
    registry.register(
        ConsumerCollector(
            "t",
            lambda: state,
            lambda: lag,
            certificates=lambda: {"k:9093": 1e9},
            is_ready=lambda: is_ready,
            clock=lambda: 50.0,
        )
    )
    page = generate_latest(registry).decode()
    families = list(text_string_to_metric_families(page))
    return families, {
        (sample.name.removeprefix(PREFIX), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_page_has_exactly_the_metrics_of_the_list():
    families, _ = scrape()
    kinds = {spec.name: str(spec.kind) for spec in METRICS}
    assert {family.name.removeprefix(PREFIX): family.type for family in families} == kinds
    assert all(family.documentation for family in families)


def test_names_have_their_unit_and_full_names_are_unique():
    names = [spec.full_name for spec in METRICS]
    assert len(set(names)) == len(names)
    assert all(spec.full_name.endswith("_total") == (spec.kind is Kind.COUNTER) for spec in METRICS)


def test_every_count_is_on_the_page_under_its_name():
    numbers = {spec.name: n for n, spec in enumerate(METRICS, start=5) if spec.of_worker}
    counted = [s for s in METRICS if s.of_worker and s.kind is Kind.COUNTER]
    counts = Counter({spec.name: numbers[spec.name] for spec in counted})
    counts |= {str(outcome): number for number, outcome in enumerate(Outcome, start=1)}
    BULK_SECONDS.observe(counts, 0.3)
    state = State(
        counts=counts, dead_letters=Counter({("2f6c1b9d04aa", "index"): 6}),
        in_flight=7, workers=2, unhealthy=1, restarts=8,
    )  # fmt: skip
    _, values = scrape(state)
    assert {spec.name: values[f"{spec.name}_total",] for spec in counted} == {
        spec.name: numbers[spec.name] for spec in counted
    }
    assert [values["records_total", outcome] for outcome in Outcome] == [1, 2, 3, 4]
    assert values["dead_letters_total", "2f6c1b9d04aa", "index"] == 6
    assert [values[name,] for name in ("in_flight", "workers", "unhealthy_workers")] == [7, 2, 1]
    assert values["worker_restarts_total",] == 8
    assert values["bulk_request_seconds_bucket", "0.25"] == 0
    assert values["bulk_request_seconds_bucket", "0.5"] == 1
    assert values["bulk_request_seconds_count",] == 1
    assert values["bulk_request_seconds_sum",] == 0.3


def test_gauges_of_workers_are_added_up_and_the_worst_age_counts():
    reports = {
        n: {
            "gauges": {"in_flight_bytes": 10 * n, "commit_age_seconds": n},
            "paused": {"index": n},
            "process": {"cpu": n, "memory": 100 * n},
        }
        for n in (1, 2)
    }
    _, values = scrape(State(reports=reports))
    assert values["in_flight_bytes",] == 30
    assert values["commit_age_seconds",] == 2
    assert values["paused_scopes", "index"] == 3
    assert values["paused_scopes", "circuit"] == 0
    assert values["process_cpu_seconds_total", "2"] == 2
    assert values["process_resident_memory_bytes", "1"] == 100
    assert values["process_resident_memory_bytes", "supervisor"] > 1_000_000


def test_lag_that_is_not_known_has_no_value():
    _, values = scrape()
    assert not [name for name in values if name[0].startswith("lag_")]
    _, values = scrape(lag=Lag({0: 5, 1: 0}, {0: None, 1: 0.0}, read_at=40.0))
    assert values["lag_records", "0", "t"] == 5
    assert ("lag_seconds", "0", "t") not in values
    assert values["lag_seconds", "1", "t"] == 0
    assert values["lag_age_seconds",] == 10


def test_the_end_of_each_certificate_is_told():
    assert scrape()[1]["certificate_expiry_timestamp_seconds", "k:9093"] == 1e9


def test_ready_is_what_readyz_says():
    assert scrape(is_ready=True)[1]["ready",] == 1
    assert scrape(is_ready=False)[1]["ready",] == 0

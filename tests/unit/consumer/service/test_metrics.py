"""The consumer's metrics page: every count of the supervisor's state is on it."""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, generate_latest

from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.service.metrics import ConsumerCollector
from llmlog_consumer.service.supervisor import State


def test_every_count_is_on_the_page_under_its_name():
    counts = Counter({str(outcome): number for number, outcome in enumerate(Outcome, start=1)})
    counts |= {
        "consumed": 70,
        "released": 2,
        "retries": 3,
        "failure_store": 4,
        "unclassified": 5,
        "rerouted": 9,
    }
    state = State(
        counts=counts, dead_letters=Counter({("2f6c1b9d04aa", "index"): 6}),
        in_flight=7, workers=2, unhealthy=1, restarts=8,
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(lambda: state))
    page = generate_latest(registry).decode()
    lines = {line for line in page.splitlines() if not line.startswith("#")}
    prefix = "llmlog_consumer_"
    assert lines == {
        *(f'{prefix}records_total{{outcome="{o}"}} {counts[o]:.1f}' for o in Outcome),
        prefix + 'dead_letters_total{fingerprint="2f6c1b9d04aa",stage="index"} 6.0',
        f"{prefix}consumed_total 70.0", f"{prefix}released_total 2.0",
        f"{prefix}retries_total 3.0", f"{prefix}failure_store_total 4.0",
        f"{prefix}unclassified_total 5.0", f"{prefix}rerouted_total 9.0",
        f"{prefix}in_flight 7.0", f"{prefix}workers 2.0",
        f"{prefix}unhealthy_workers 1.0", f"{prefix}worker_restarts_total 8.0",
    }  # fmt: skip

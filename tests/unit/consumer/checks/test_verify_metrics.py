"""What a watch of `pipeline verify` tells Prometheus."""

from __future__ import annotations

import socket
from collections import Counter

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.checks.proof import Proof
from llmlog_consumer.checks.verify_metrics import VerifyMetrics
from llmlog_local.ports import free_ports


def page_of(metrics: VerifyMetrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ({}, 0),
        ({"lost_count": 2}, 2),
        ({"doubled_count": 1, "conflict_count": 3}, 4),
        ({"hidden": Counter({"index": 5})}, 5),
        ({"unreadable": Counter({"closed": 7})}, 0),
    ],
)
def test_what_is_wrong_is_unaccounted(found: dict[str, int], number: int) -> None:
    metrics = VerifyMetrics()
    proof = Proof("t")
    for name, value in found.items():
        setattr(proof, name, value)
    metrics.add(proof)
    assert f"llmlog_verify_unaccounted_events {number:.1f}" in page_of(metrics)
    assert f"llmlog_verify_unknown_events {proof.unknown_count:.1f}" in page_of(metrics)


def test_a_later_round_takes_nothing_back() -> None:
    metrics = VerifyMetrics(clock=lambda: 5.0)
    for lost, events in ((1, 10), (0, 4)):
        proof = Proof("t")
        proof.lost_count, proof.events = lost, events
        metrics.add(proof)
    page = page_of(metrics)
    assert "llmlog_verify_unaccounted_events 1.0" in page
    assert "llmlog_verify_events_total 14.0" in page
    assert "llmlog_verify_last_round_timestamp_seconds 5.0" in page


def test_searches_are_a_histogram_and_those_in_vain_a_counter() -> None:
    metrics = VerifyMetrics()
    for seconds in (0.2, 4.0, 1000.0, None):
        metrics.add_search(seconds)
    page = page_of(metrics)
    name = "llmlog_verify_event_to_searchable_seconds"
    assert f'{name}_bucket{{le="0.5"}} 1.0' in page
    assert f'{name}_bucket{{le="5.0"}} 2.0' in page
    assert f'{name}_bucket{{le="+Inf"}} 3.0' in page
    assert f"{name}_sum 1004.2" in page
    assert "llmlog_verify_searches_given_up_total 1.0" in page


def test_they_are_served_and_a_port_that_is_taken_is_named() -> None:
    (port,) = free_ports(1)
    VerifyMetrics().serve(port)
    assert "unaccounted_events 0.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    with socket.create_server(("0.0.0.0", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--metrics {number}: "):
            VerifyMetrics().serve(number)

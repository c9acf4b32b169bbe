"""Health and metrics of `pipeline consume` on real servers, and beside their outages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from llmlog_consumer.outcomes import Outcome
from llmlog_local.ports import free_ports
from support.fault_proxy import HOST, FaultProxy
from support.payloads import encoded, send
from support.pipeline import SLOW, Pipeline, wait_until, workers_of

RECORDS = 4000


@pytest.fixture
def proxy(pipeline: Pipeline) -> Iterator[FaultProxy]:
    """Between the consumer and Elasticsearch."""
    (port,) = free_ports(1)
    made = FaultProxy(int(pipeline.elasticsearch.rsplit(":", 1)[1]), port)
    made.start()
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = f"http://{HOST}:{port}"
    yield made
    made.mend()
    made.close()


def write(pipeline: Pipeline, seeds: range) -> None:
    servers = pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    send(servers, pipeline.topic, [encoded(seed) for seed in seeds])


def worker_of(process) -> int:
    """Return the process id of a worker of `pipeline consume`."""
    return workers_of(process)[0].pid


def balance(values: dict[tuple[str, ...], float]) -> tuple[float, float]:
    """Return the records consumed, and all that they have become."""
    ended = sum(values["records_total", outcome] for outcome in Outcome)
    return values["consumed_total",], ended + values["released_total",] + values["in_flight",]


def test_the_page_is_up_while_servers_are_waited_for(bare_pipeline: Pipeline) -> None:
    (port,) = free_ports(1)
    bare_pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{port}"
    bare_pipeline.open_page()
    process = bare_pipeline.start("consume")
    wait_until(lambda: bare_pipeline.ask_page("/healthz") == (200, "alive\n"), 20)
    code, reason = wait_until(
        lambda: "does not answer" in (page := bare_pipeline.ask_page("/readyz"))[1] and page, 20
    )
    assert code == 503
    assert f"Kafka at 127.0.0.1:{port} does not answer" in reason
    assert bare_pipeline.metrics()["ready",] == 0
    process.kill()


def test_an_elasticsearch_that_hangs_is_named_and_records_balance_all_the_while(
    pipeline: Pipeline, proxy: FaultProxy
) -> None:
    pipeline.open_page()
    pipeline.environment["LLMLOG_KAFKA_CONSUMER_SESSION_TIMEOUT_MS"] = "6000"
    process = pipeline.start("consume", "--workers", "2")
    wait_until(lambda: pipeline.ask_page("/readyz") == (200, "ready\n"), 30)

    def scrape() -> dict[tuple[str, ...], float]:
        values = pipeline.metrics()
        consumed, rest = balance(values)
        assert consumed == rest
        return values

    def lag(values: dict[tuple[str, ...], float], name: str = "lag_records") -> list[float]:
        return [value for key, value in values.items() if key[0] == name]

    proxy.hang()
    write(pipeline, range(RECORDS))
    code, reason = wait_until(
        lambda: (page := pipeline.ask_page("/readyz"))[0] == 503 and page, 30, "it is not ready"
    )
    assert code == 503
    assert "Elasticsearch" in reason
    assert pipeline.ask_page("/healthz")[0] == 200
    wait_until(lambda: sum(lag(scrape())) == RECORDS, 30, "what waits is lag")
    values = scrape()
    assert values["unhealthy_workers",] >= 1
    assert max(lag(values, "lag_seconds")) > 0

    # What a worker has in flight when it dies is released, and consumed again.
    os.kill(worker_of(process), signal.SIGKILL)
    wait_until(lambda: scrape()["released_total",] > 0)
    proxy.mend()
    wait_until(lambda: pipeline.ask_page("/readyz") == (200, "ready\n"), 60, "it is ready again")

    def is_settled() -> bool:
        values = scrape()
        ended = sum(values["records_total", outcome] for outcome in Outcome)
        return ended >= RECORDS and not values["in_flight",]

    wait_until(is_settled)
    values = scrape()
    assert values["worker_restarts_total",] == 1
    assert pipeline.count() == RECORDS
    assert 0 < values["event_to_indexed_seconds_count",] <= RECORDS
    assert values["bulk_request_seconds_count",] > 0
    assert values["process_resident_memory_bytes", "0"] > 20_000_000
    assert values["assigned_partitions",] == 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(60 * SLOW) == 0, pipeline.stderr_of(process)

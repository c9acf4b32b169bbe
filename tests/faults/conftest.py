"""The arena: servers of these tests' own, for faults kill them. And the table at the end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_local.testing import RunningServers
from support import fault_run
from support.fault_proxy import FaultProxy
from support.fault_run import Arena
from support.pipeline import Pipeline, base_environment

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A broker with a listener that leads through a proxy, and an Elasticsearch with one."""
    folder = tmp_path_factory.mktemp("arena")
    plain, controller, hidden, kafka_port, elastic, elastic_port = free_ports(6)
    host = "127.0.0.1"
    kafka = KafkaServer(
        folder / "kafka",
        plain,
        properties={
            "controller.quorum.voters": f"1@{host}:{controller}",
            "listeners": f"PLAINTEXT://{host}:{plain},PROXIED://{host}:{hidden},"
            f"CONTROLLER://{host}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{host}:{plain},PROXIED://{host}:{kafka_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
        },
    )
    elasticsearch = ElasticsearchServer(folder / "elasticsearch", elastic)
    proxies = FaultProxy(hidden, kafka_port), FaultProxy(elastic, elastic_port)
    try:
        for server in (kafka, elasticsearch):
            server.launch()
        for server in (kafka, elasticsearch):
            server.wait_ready()
        for proxy in proxies:
            proxy.start()
        yield Arena(RunningServers(kafka, elasticsearch), *proxies)
    finally:
        for proxy in proxies:
            proxy.close()
        for server in (kafka, elasticsearch):
            server.stop()


@pytest.fixture
def new_pipeline(arena: Arena, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    """Make a command with names of its own, set up; of another Elasticsearch if one is given."""
    made: list[Pipeline] = []

    def make(elasticsearch: str = "", **settings: str) -> Pipeline:
        name = f"f{os.getpid()}-{next(_numbers)}"
        url = elasticsearch or arena.servers.elasticsearch.url
        environment = base_environment(
            {
                **arena.servers.environment,
                "LLMLOG_ELASTICSEARCH_URL": url,
                "LLMLOG_TOPIC": name,
                "LLMLOG_INDEX": name,
                "LLMLOG_GROUP": name,
                "LLMLOG_PARTITIONS": "4",
                # The shortest that the broker grants: the dead are missed sooner.
                "LLMLOG_KAFKA_CONSUMER_SESSION_TIMEOUT_MS": "6000",
                **settings,
            }
        )
        pipeline = Pipeline(environment, tmp_path, url, name, name, name)
        made.append(pipeline)
        pipeline.run("setup")
        return pipeline

    yield make
    for pipeline in made:
        pipeline.kill_all()


@pytest.fixture
def pipeline(new_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """The command against the arena's own servers, set up."""
    return new_pipeline()


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no fault behind for the next test."""
    yield
    if "arena" not in request.fixturenames:
        return
    arena: Arena = request.getfixturevalue("arena")
    arena.kafka_proxy.mend()
    arena.elastic_proxy.mend()
    for server in (arena.servers.kafka, arena.servers.elasticsearch):
        if not server.running:
            server.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what every fault came to."""
    if fault_run.ROWS:
        terminalreporter.section(f"faults, FAULT_SEED={fault_run.SEED}")
        for line in fault_run.table():
            terminalreporter.write_line(line)

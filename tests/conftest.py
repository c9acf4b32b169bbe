"""Fixtures for all tests: the real servers once a session, names of its own for every test."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmlog_local.testing import RunningServers, running_servers
from support.pipeline import Pipeline, base_environment

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals of gateways lie in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_configure() -> None:
    """Let Ctrl-C reach children: a shell's background job inherits it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """A real Kafka and a real Elasticsearch, shared by the session."""
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
def bare_pipeline(servers: RunningServers, tmp_path: Path) -> Iterator[Pipeline]:
    """The command with names of its own; nothing is set up."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    environment = base_environment(
        {
            **servers.environment,
            "LLMLOG_TOPIC": name,
            "LLMLOG_INDEX": name,
            "LLMLOG_GROUP": name,
            "LLMLOG_PARTITIONS": "4",
        }
    )
    pipeline = Pipeline(environment, tmp_path, servers.elasticsearch.url, name, name, name)
    yield pipeline
    for process in pipeline.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def pipeline(bare_pipeline: Pipeline) -> Pipeline:
    """The command with topics, template and today's index of its own."""
    bare_pipeline.run("setup")
    return bare_pipeline

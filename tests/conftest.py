"""Fixtures for all tests: the real servers once a run, names of its own for every test."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llmlog_local import ports
from support import (
    property_tests,  # noqa: F401 - loads the profile
    workers,
)
from support.pipeline import Pipeline, base_environment
from support.shared_servers import Addresses, shared_servers

_numbers = itertools.count(1)
_until_end = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a process that runs tests: the only one, or one of pytest-xdist's workers."""
    # A shell's background job inherits SIGINT ignored; Ctrl-C has to reach the children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_until_end] = ExitStack()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under pytest-xdist, begin with what takes long, and end with what fills gaps."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: workers.rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Scheduler:
    """Hand tests out to workers in our order."""
    return workers.Scheduler(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the shared servers, once no worker needs them any more."""
    session.config.stash[_until_end].close()


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals of gateways lie in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _addresses() -> Iterator[None]:
    """The tests may run in a container, where addresses have no default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMLOG_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
        patch.setenv("LLMLOG_ELASTICSEARCH_URL", "http://localhost:9200")
        yield


@pytest.fixture(scope="session", autouse=True)
def _ports_of_this_worker() -> Iterator[None]:
    """Two workers never find the same port free before either listens on it."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "FREE_RANGE", ports.FREE_RANGE[number::step])
        yield


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Addresses:
    """A real Kafka and a real Elasticsearch, shared by the whole run."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):
        folder = folder.parent  # which all workers share
    return pytestconfig.stash[_until_end].enter_context(shared_servers(folder))


@pytest.fixture
def bare_pipeline(servers: Addresses, tmp_path: Path) -> Iterator[Pipeline]:
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
    pipeline = Pipeline(environment, tmp_path, servers.elasticsearch_url, name, name, name)
    yield pipeline
    pipeline.kill_all()


@pytest.fixture
def pipeline(bare_pipeline: Pipeline) -> Pipeline:
    """The command with topics, template and today's index of its own."""
    bare_pipeline.run("setup")
    return bare_pipeline

"""Publishers on a fake Kafka cluster."""

import signal

import pytest

from llmlog_common.throttled_log import flush_lines
from support.fakes.gateway import FakeCluster, Gateway


class Lines:
    """The lines that were logged, once the thread that writes them has written all of them."""

    def __init__(self, caplog):
        self._caplog = caplog

    def __getattr__(self, name):
        assert flush_lines(10)
        return getattr(self._caplog, name)


@pytest.fixture
def caplog(caplog):
    """The lines of the gateway; a thread of its own writes them."""
    return Lines(caplog)


@pytest.fixture
def cluster():
    """A cluster that answers as told."""
    return FakeCluster()


@pytest.fixture
def start(cluster, tmp_path):
    """Start gateways that share a journal folder, and end them."""
    running = []

    def start_one(journal="spill", **options):
        running.append(Gateway(cluster, tmp_path, journal, **options))
        return running[-1]

    yield start_one
    for one in running:
        one.kill()


@pytest.fixture
def sigterms():
    """The SIGTERMs that this process got."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, previous)

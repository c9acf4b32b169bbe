"""The page of `pipeline consume`: three paths on one port, from the first second."""

from __future__ import annotations

import socket
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from llmlog_common.credentials import remember
from llmlog_common.errors import ConfigurationError
from llmlog_consumer.service.health import Subject
from llmlog_consumer.service.page import Page, serve
from llmlog_consumer.service.state import State
from llmlog_consumer.service.watches import Lag
from llmlog_local.ports import free_ports

WELL = {"partitions": (0,), "fault": ""}


class Rig:
    def __init__(self):
        self.subject = Subject(clock=lambda: 100.0)
        self._page = Page("t", self.subject)

    def get(self, path):
        """Return status and body."""
        environ, seen = {"PATH_INFO": path}, []
        setup_testing_defaults(environ)
        body = b"".join(self._page(environ, lambda status, headers: seen.append(status)))
        return int(seen[0].split()[0]), body.decode()

    def begin(self, **fields):
        self.subject.begin(lambda: State(**{"turned_at": 99.0, **fields}), Lag)


@pytest.fixture
def rig():
    return Rig()


def test_before_workers_start_it_is_alive_and_says_what_it_waits_for(rig):
    assert rig.get("/healthz") == (200, "alive\n")
    assert rig.get("/readyz") == (503, "the process starts\n")
    rig.subject.wait_for("Kafka at k:9092 does not answer")
    assert rig.get("/readyz") == (503, "Kafka at k:9092 does not answer\n")
    assert "llmlog_consumer_ready 0.0" in rig.get("/metrics")[1]


def test_it_is_ready_once_the_workers_are(rig):
    rig.subject.wait_for("Kafka")
    rig.begin(reports={0: WELL})
    assert rig.get("/readyz") == (200, "ready\n")
    assert "llmlog_consumer_ready 1.0" in rig.get("/metrics")[1]


def test_what_is_waited_for_counts_before_workers_start_alone(rig):
    rig.begin(reports={0: WELL})
    rig.subject.wait_for("Kafka at k:9092 does not answer")
    assert rig.get("/readyz") == (200, "ready\n")


def test_each_reason_is_one_line_without_secrets(rig):
    remember(["hunter2-and-more"])
    reports = {0: WELL | {"fault": "refused:\n hunter2-and-more"}, 1: WELL | {"fault": "other"}}
    rig.begin(reports=reports)
    code, body = rig.get("/readyz")
    assert code == 503
    assert len(body.splitlines()) == 2
    assert "hunter2" not in body


def test_a_loop_that_stands_is_not_alive(rig):
    rig.begin(turned_at=1.0)
    code, body = rig.get("/healthz")
    assert code == 503
    assert "restart this process" in body


def test_other_paths_name_those_that_there_are(rig):
    code, body = rig.get("/")
    assert code == 404
    assert "/healthz, /readyz, /metrics" in body


def test_it_is_served_and_a_port_in_use_is_said(rig):
    (port,) = free_ports(1)
    page = Page("t", rig.subject)
    serve(port, page)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "alive\n"
    with pytest.raises(ConfigurationError, match=f"LLMLOG_METRICS_PORT: port {port}: Address"):
        serve(port, page)


def test_no_name_is_looked_up_before_it_is_served(rig, monkeypatch):
    def look_up(*_):
        raise AssertionError("a name server that hangs would delay the start")

    monkeypatch.setattr(socket, "getfqdn", look_up)
    (port,) = free_ports(1)
    serve(port, Page("t", rig.subject))
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503


def test_a_client_that_sends_nothing_does_not_keep_others_waiting(rig):
    (port,) = free_ports(1)
    serve(port, Page("t", rig.subject))
    with socket.create_connection(("127.0.0.1", port)):
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "alive\n"

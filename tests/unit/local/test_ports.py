"""Choosing ports."""

import socket

import pytest

from llmlog_local.errors import LocalUsageError
from llmlog_local.ports import FREE_RANGE, HOST, choose_port, free_ports, is_free


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_ports_are_distinct_and_outside_the_range_of_outgoing_connections():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port in FREE_RANGE for port in ports)
    assert FREE_RANGE.stop <= 32768


def test_a_port_that_something_listens_on_is_not_free(taken_port):
    assert not is_free(taken_port)


def test_the_preferred_port_is_taken_if_free():
    (free,) = free_ports(1)
    assert choose_port(None, free, "--kafka-port") == free


def test_any_port_will_do_when_the_preferred_one_is_taken(taken_port):
    chosen = choose_port(None, taken_port, "--kafka-port")
    assert chosen != taken_port
    assert is_free(chosen)


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_that_names_the_option(taken_port):
    with pytest.raises(LocalUsageError, match=f"port {taken_port} is taken.*--kafka-port"):
        choose_port(taken_port, 9092, "--kafka-port")

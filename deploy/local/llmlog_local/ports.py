"""Owns the choice of TCP ports on 127.0.0.1."""

from __future__ import annotations

import random
import socket

from llmlog_local.errors import LocalUsageError

HOST = "127.0.0.1"

# Below the local ports of outgoing connections (Linux from 32768, macOS from 49152). A client that
# keeps trying to reach a stopped server could otherwise be given the server's own port, connect to
# itself, and keep the server from coming back.
FREE_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Java does: connections in TIME_WAIT do not keep a server from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on.

    Raises:
        LocalUsageError: there are not that many.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(FREE_RANGE, len(FREE_RANGE)):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    else:
        raise LocalUsageError(f"no free port between {FREE_RANGE.start} and {FREE_RANGE.stop}")
    return ports


def choose_port(asked: int | None, preferred: int, flag: str) -> int:
    """Return the port that was asked for, else the preferred one if it is free, else any.

    Args:
        asked: What the user gave, or None.
        preferred: The server's well-known port.
        flag: The command line option that sets it, for the error.

    Raises:
        LocalUsageError: the port that was asked for is taken.
    """
    if asked is None:
        return preferred if is_free(preferred) else free_ports(1)[0]
    if not is_free(asked):
        raise LocalUsageError(f"port {asked} is taken: give another {flag}, or none for a free one")
    return asked

"""What the process beside a gateway runs: payloads in, events out, until its gateway ends.

    python -m llmlog_producer.conversion DESCRIPTOR

The descriptor is one end of a pair of sockets; `converter` has the other, and starts this.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Final

from llmlog_producer.event import Captured, Preparer
from llmlog_producer.stats import Stats

_LENGTH: Final = struct.Struct("!Q")
_NICE: Final = 5
"""A request that wants the core goes first."""


class Channel:
    """Objects over a socket, one message after the other; between two processes of one user.

    Args:
        end: one of a pair; its time-out is the caller's to set.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, message: object) -> None:
        """Send an object that can be pickled.

        Raises:
            OSError: nobody is there; TimeoutError where nobody reads.
        """
        data = pickle.dumps(message, protocol=5)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Return the next object.

        Raises:
            EOFError: the other side has ended.
            OSError: TimeoutError where it says nothing.
        """
        (size,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(size))  # noqa: S301 - from our own child or parent

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = 0
        while got < size:
            more = self._socket.recv_into(view[got:])
            if not more:
                raise EOFError
            got += more
        return buffer


def main(descriptor: int) -> None:
    """Convert what comes until the other side closes."""
    # A terminal or an init system tells all processes; the gateway may still need this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    channel = Channel(socket.socket(fileno=descriptor))
    with suppress(EOFError, OSError):
        stats = Stats()
        prepare = Preparer(channel.receive(), stats)
        channel.send("ready")
        while True:
            prepare.limit, payloads = channel.receive()
            before = stats.snapshot()["cut"]
            bodies = [_body(prepare, Captured(*payload)) for payload in payloads]
            channel.send((bodies, stats.snapshot()["cut"] - before))


def _body(prepare: Preparer, captured: Captured) -> bytes | None:
    """Return the event; None of a payload that cannot be read: the gateway tries, and says so."""
    with suppress(Exception):
        return prepare(captured).body
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""What the process beside a gateway runs: payloads in, events out, until its gateway ends.

    python -P -m llmlog_producer.converter.process DESCRIPTOR

The descriptor is one end of a pair of sockets; `converter` has the other, and starts this.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_schemas.codec import current_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH: Final = struct.Struct("!Q")
_NICE: Final = 5
"""A request that wants the core goes first."""


def _identity() -> tuple[str, str]:
    try:
        version = metadata.version("llmlog-pipeline")
    except metadata.PackageNotFoundError:  # run from its source
        version = ""
    return version, str(current_fingerprint())


IDENTITY: Final = _identity()
"""Of what was imported: the package on the disk may be replaced under a gateway that runs."""


class Channel:
    """Objects over a socket, one message after the other; between two processes of one user.

    Args:
        end: one of a pair.
        wait_on: called when the socket's own time-out has passed; raises where that is enough.
    """

    def __init__(self, end: socket.socket, wait_on: Callable[[], None] | None = None) -> None:
        self._socket = end
        self._wait_on = wait_on

    def send(self, message: object) -> None:
        """Send an object that can be pickled.

        Raises:
            OSError: nobody is there; TimeoutError where nobody reads.
        """
        data = pickle.dumps(message, protocol=5)
        view = memoryview(_LENGTH.pack(len(data)) + data)  # one call: each lets the interpreter go
        while view:
            view = view[self._patiently(self._socket.send, view) :]

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
        while view:
            got = self._patiently(self._socket.recv_into, view)
            if not got:
                raise EOFError
            view = view[got:]
        return buffer

    def _patiently(self, act: Callable[[memoryview], int], view: memoryview) -> int:
        while True:
            try:
                return act(view)
            except TimeoutError:
                if self._wait_on is None:
                    raise
                self._wait_on()


def main(descriptor: int) -> None:
    """Convert what comes until the other side closes."""
    # A terminal or an init system tells all processes; the gateway may still need this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what is in memory is not redacted yet
    end = socket.socket(fileno=descriptor)
    end.settimeout(None)  # whatever the gateway's default is
    channel = Channel(end)
    with suppress(EOFError, OSError):
        stats = Stats()
        prepare = EventBuilder(channel.receive(), stats)
        channel.send(IDENTITY)
        while True:
            prepare.limit, payloads = channel.receive()
            before = stats.snapshot()["cut"]
            bodies = [_body(prepare, CapturedPayload(*payload)) for payload in payloads]
            channel.send((bodies, stats.snapshot()["cut"] - before))


def _body(prepare: EventBuilder, captured: CapturedPayload) -> bytes | None:
    """Return the event; None of a payload that cannot be read: the gateway tries, and says so."""
    with suppress(Exception):
        return prepare(captured).body
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]))

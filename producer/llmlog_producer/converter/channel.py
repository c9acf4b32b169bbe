"""Owns the exchange of objects between a gateway and the process beside it."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_LENGTH: Final = struct.Struct("!Q")


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
            OSError: the other side has closed; TimeoutError where it reads nothing.
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

"""A TCP proxy on 127.0.0.1 that breaks connections in the ways that networks do.

Its loop runs in a thread of its own; every method may be called from any thread. Connections
that are open feel a fault as well as new ones, until `mend`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
_CHUNK = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class _Fault:
    """What is wrong now."""

    delay: float = 0.0
    hangs: bool = False
    cut_after: int = 0
    answer: bytes = b""


class FaultProxy:
    """Passes bytes on to a port of this machine, as long as nothing is wrong.

    Args:
        target: port to pass on to.
        port: to listen on.
    """

    def __init__(self, target: int, port: int) -> None:
        self.target, self.port = target, port
        self.connections = 0
        """How many were accepted so far."""
        self._fault = _Fault()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Listen."""
        self._call(self._listen())

    def stop(self) -> None:
        """Refuse new connections and reset those that are open; `start` listens again."""
        self._call(self._deafen())

    def close(self) -> None:
        """End for good."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for so long, in both directions."""
        self._set(_Fault(delay=seconds))

    def hang(self) -> None:
        """Keep connections open and pass nothing on: half-open, as behind a dead switch."""
        self._set(_Fault(hangs=True))

    def cut_after(self, number: int) -> None:
        """Reset each connection once so many bytes of answers were passed on from now."""
        self._set(_Fault(cut_after=number))

    def answer(self, status: str, body: bytes) -> None:
        """Answer every HTTP request like this, in the target's place."""
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"x-elastic-product: Elasticsearch\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._set(_Fault(answer=head.encode() + body))
        self.reset()

    def mend(self) -> None:
        """Nothing is wrong any more; what was held back goes on."""
        was = self._fault
        self._set(_Fault())
        if was.answer:
            self.reset()

    def reset(self) -> None:
        """Reset every open connection, as a crashed peer's system does."""
        self._run(self._reset_all)

    def _set(self, fault: _Fault) -> None:
        def change() -> None:
            self._fault = fault
            self._changed.set()
            self._changed = asyncio.Event()

        self._run(change)

    def _run(self, change: Callable[[], None]) -> None:
        async def run() -> None:
            change()

        self._call(run())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for writer in list(self._open):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()
        self._open.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        ours = [writer]
        try:
            if self._fault.answer:
                await self._stub(reader, writer)
                return
            upstream, downstream = await asyncio.open_connection(HOST, self.target)
            ours.append(downstream)
            self._open.add(downstream)
            await asyncio.gather(
                self._pass(reader, downstream, answers=False),
                self._pass(upstream, writer, answers=True),
            )
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            for end in ours:
                self._reset(end)
            self._tasks.discard(task)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        """Pass one direction on; its end is the end of both."""
        passed = 0
        while data := await source.read(_CHUNK):
            while self._fault.hangs:
                await self._changed.wait()
            fault = self._fault
            if fault.delay:
                await asyncio.sleep(fault.delay)
            if answers and fault.cut_after:
                data = data[: fault.cut_after - passed]
                passed += len(data)
            sink.write(data)
            await sink.drain()
            if fault.cut_after and passed >= fault.cut_after:
                break
        raise ConnectionResetError

    async def _stub(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self._fault.answer:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, found, rest = head.partition(b"content-length:")
            if found:
                await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
            writer.write(self._fault.answer)
            await writer.drain()

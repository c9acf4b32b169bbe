"""Owns the process beside the gateway that makes events of payloads: its start, its work, its end.

    Captured ── a batch ──> python -m llmlog_producer.conversion ── bodies ──> Item

To make an event takes longer than all else that the callback does, and a request waits for whoever
holds the interpreter. Nothing rests on that process: a payload stays here until its event has come
back, and where there is no process, or it is dead or slow, the gateway's own thread converts.
"""

from __future__ import annotations

import logging
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from llmlog_producer.conversion import Channel
from llmlog_producer.event import Captured, Item
from llmlog_producer.quiet_log import logger, spelt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmlog_producer.quiet_log import QuietLog
    from llmlog_producer.stats import Stats
    from llmlog_schemas.settings import Settings

_WORTH: Final = 100
"""Payloads converted here before a process is started: a script that soon ends needs none."""
_BATCH_BYTES: Final = 1 << 20
_PATIENCE: Final = 1.0
_SECONDS_A_BYTE: Final = 1e-6
"""How long a batch may take: a hundred times as long as one does."""
_START_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 60.0
_END_SECONDS: Final = 0.5
_GLANCE: Final = 0.05


def wanted(settings: Settings) -> bool:
    """Tell whether a process is to convert: a user's function needs the user's own modules."""
    return settings.gateway_converter == "process" and not settings.redact_function


class Converter:
    """Decides whether payloads are converted beside the gateway; used by one thread.

    Args:
        settings: as loaded; the process is given them as they are.
        stats: counted into.
        log: told when there is no process any more.
    """

    def __init__(self, settings: Settings, stats: Stats, log: QuietLog) -> None:
        self._settings = settings
        self._stats = stats
        self._log = log
        self._wanted = wanted(settings)
        self._process: ConversionProcess | None = None
        self._converted_here = 0
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """The process that converts; None while the gateway's own thread does."""
        return self._process.pid if self._process is not None and self._process.ready else None

    def __call__(
        self, first: Captured, behind: Iterable[Captured | Item], limit: int
    ) -> list[Item | None]:
        """Return the events of a payload and of some that follow it.

        Args:
            first: the payload.
            behind: what follows.
            limit: bytes of the largest value.

        Returns:
            One each, in their order, None of one that cannot be made there; nothing at all where
            no process converts.
        """
        if not self._wanted:
            return []
        try:
            if self._process is None:
                self._start()
            elif self._process.ready or self._has_started(self._process):
                bodies, cut = self._process.converted(_batch(first, behind), limit)
                self._stats.add("cut", cut)
                return [None if body is None else Item(body) for body in bodies]
        except Exception as error:  # noqa: BLE001 - whatever it is, there is a thread that converts
            self._lost(error)
        self._converted_here += 1
        return []

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def abandon(self) -> None:
        """Close this process's end, in a forked child; the parent has its own."""
        if self._process is not None:
            self._process.hang_up()

    def _start(self) -> None:
        if self._converted_here >= _WORTH and time.monotonic() >= self._not_before:
            self._process = ConversionProcess(self._settings)

    def _has_started(self, process: ConversionProcess) -> bool:
        if process.says_ready():
            logger.info("llmlog: payloads are converted by process %d", process.pid)
        return process.ready

    def _lost(self, error: Exception) -> None:
        """Take note that there is no process; another is tried later."""
        ended = self._process.ended() if self._process is not None else None
        why = spelt(error) if ended is None else f"it ended with {ended}"
        if self._process is not None:
            self._process.kill()
        self.close()
        self._not_before = time.monotonic() + _AGAIN_SECONDS
        self._log(
            logging.WARNING,
            "converter",
            f"no process converts payloads ({why}): the gateway's own thread does, and another "
            "process is tried in a minute (LLMLOG_GATEWAY_CONVERTER=thread: never)",
        )


class ConversionProcess:
    """The process, and this side of the pair of sockets.

    Args:
        settings: what it converts by.

    Attributes:
        pid: its id.
        ready: it has said that it is.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, settings: Settings) -> None:
        self.ready = False
        self._ready_by = time.monotonic() + _START_SECONDS
        self._end, theirs = socket.socketpair()
        self._channel = Channel(self._end)
        self._end.settimeout(_PATIENCE)
        try:
            with theirs:
                descriptor = theirs.fileno()
                self._popen = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-m", "llmlog_producer.conversion", str(descriptor)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(descriptor,),
                    start_new_session=True,  # a group is told to end before its work is done
                )
            self.pid = self._popen.pid
            self._channel.send(settings)
        except BaseException:
            self._end.close()
            raise

    def says_ready(self, seconds: float = 0.0) -> bool:
        """Look whether it can be given payloads; wait for so long at most.

        Raises:
            EOFError: it has ended.
            TimeoutError: it should have said so long ago.
        """
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if poll.poll(seconds * 1000):
            self.ready = bool(self._channel.receive())
        elif time.monotonic() > self._ready_by:
            raise TimeoutError
        return self.ready

    def converted(self, payloads: Sequence[Captured], limit: int) -> tuple[list[bytes | None], int]:
        """Return the bodies of events, and how many of them were cut.

        Raises:
            EOFError: it has ended.
            OSError: TimeoutError where it takes too long.
        """
        if not payloads:
            return [], 0
        self._end.settimeout(_PATIENCE + _SECONDS_A_BYTE * sum(one.size for one in payloads))
        self._channel.send((limit, [(one.payload, one.call_id, one.at) for one in payloads]))
        bodies, cut = self._channel.receive()
        return bodies, cut

    def ended(self) -> int | None:
        """Return its exit code; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self._popen.wait(_GLANCE)
        return None

    def hang_up(self) -> None:
        """Close this side, whereupon it ends."""
        self._end.close()

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()

    def end(self) -> None:
        """Have it end, and see that it has."""
        self.hang_up()
        for last in (self.kill, lambda: None):
            try:
                self._popen.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                last()
            else:
                return


def _batch(first: Captured, behind: Iterable[Captured | Item]) -> list[Captured]:
    """Return those that can be sent together: the first ones that are JSON, and not too many."""
    batch: list[Captured] = []
    size = 0
    for one in (first, *behind):
        size += one.size
        if not isinstance(one, Captured) or not isinstance(one.payload, bytes):
            break
        if batch and size > _BATCH_BYTES:
            break
        batch.append(one)
    return batch

"""Owns the process beside the gateway that makes events of payloads: its start, its work, its end.

    CapturedPayload ── batch ──> `converter.process`, a child ── bodies ──> EncodedEvent

To make an event takes longer than all else that the callback does, and a request waits for whoever
holds the interpreter. Nothing rests on that process: a payload stays here until its event has come
back, and where there is no process, or it is dead or slow, the gateway's own thread converts.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmlog_common.throttled_log import GatewayLogger, error_name
from llmlog_producer.converter.process import IDENTITY, Channel
from llmlog_producer.events.build import CapturedPayload, EncodedEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats

_WORTH: Final = 100
"""Payloads converted here before a process is started: a script that soon ends needs none."""
_BATCH_BYTES: Final = 1 << 20
_PATIENCE: Final = 1.0
_PATIENCE_A_BYTE: Final = 1e-6
"""Seconds that a batch may take: a hundred times as long as it does."""
_USUAL: Final = 0.02
_USUAL_AN_EVENT: Final = 1e-3
_USUAL_A_BYTE: Final = 1e-7
_BEHIND: Final = 2.0
"""Seconds that it may fall behind what the thread would need: then it has no core to run on."""
START_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 60.0
_END_SECONDS: Final = 0.5
_GLANCE: Final = 0.05
"""Seconds after which whoever waits for it looks whether there is a hurry."""

_starting: Final = threading.RLock()
"""Held while a process starts. `subprocess` waits for the end of a pipe, which a child that was
forked meanwhile would hold open for as long as it lives."""
os.register_at_fork(
    before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
)


class AnotherVersionError(Exception):
    """The package was replaced since the gateway has imported it."""


def wanted(settings: Settings) -> bool:
    """Tell whether a process is to convert."""
    return (
        settings.gateway_converter == "process"
        and not settings.redact_function  # which needs the user's own modules, as they are there
        # A frozen program, or a server with Python in it, would start itself once more.
        and not getattr(sys, "frozen", False)
        and "py" in Path(sys.executable or "").name
    )


class Converter:
    """Decides whether payloads are converted beside the gateway; used by one thread.

    Args:
        settings: as loaded; the process is given them as they are.
        stats: counted into.
        log: told when there is no process any more.
        hurried: tells that nobody may be waited for.
    """

    def __init__(
        self, settings: Settings, stats: Stats, log: ThrottledLog, hurried: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._log = log
        self._hurried = hurried
        self._wanted = wanted(settings)
        self._process: ConversionProcess | None = None
        self._converted_here = 0
        self._behind = 0.0
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """The process that converts; None while the gateway's own thread does."""
        process = self._process
        return process.pid if process is not None and process.ready else None

    def __call__(
        self, first: CapturedPayload, behind: Iterable[CapturedPayload | EncodedEvent], limit: int
    ) -> list[EncodedEvent | None]:
        """Return the events of a payload and of some that follow it.

        Args:
            first: the payload.
            behind: what follows.
            limit: bytes of the largest value.

        Returns:
            One each, in their order, None of one that cannot be made there; nothing at all where
            no process converts.
        """
        if not self._wanted or self._hurried():
            return []
        try:
            if self._process is None:
                self._start()
            elif self._process.ready or self._has_started(self._process):
                return self._converted(self._process, _batch(first, behind), limit)
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
            self._process = ConversionProcess(self._hurried)
            self._process.start(self._settings)

    def _has_started(self, process: ConversionProcess) -> bool:
        if process.says_ready():
            GatewayLogger().log(logging.INFO, f"payloads are converted by process {process.pid}")
        return process.ready

    def _converted(
        self, process: ConversionProcess, batch: list[CapturedPayload], limit: int
    ) -> list[EncodedEvent | None]:
        began = time.monotonic()
        bodies, cut = process.converted(batch, limit)
        usual = _USUAL + sum(_USUAL_AN_EVENT + _USUAL_A_BYTE * one.size for one in batch)
        self._behind = max(0.0, self._behind + time.monotonic() - began - usual)
        if self._behind > _BEHIND:
            raise TimeoutError
        self._stats.add("cut", cut)
        return [None if body is None else EncodedEvent(body) for body in bodies]

    def _lost(self, error: Exception) -> None:
        """Take note that there is no process; another is tried later."""
        # First of all: an answer that comes late would be taken for that to another question.
        process, self._process = self._process, None
        self._behind = 0.0
        self._not_before = time.monotonic() + _AGAIN_SECONDS
        why = error_name(error)
        if process is not None:
            with suppress(Exception):
                if (ended := process.killed()) is not None:
                    why = f"it ended with {ended}"
        if self._hurried():
            return
        self._log(
            logging.WARNING,
            "converter",
            f"no process converts payloads ({why}): the gateway's own thread does, and another "
            "process is tried in a minute (LLMLOG_GATEWAY_CONVERTER=thread: never)",
        )


class ConversionProcess:
    """The process, and this side of the pair of sockets; `start` it first.

    Args:
        hurried: tells that it is not to be waited for.

    Attributes:
        pid: its id.
        ready: it has said that it is.
    """

    def __init__(self, hurried: Callable[[], bool] = bool) -> None:
        self.pid = 0
        self.ready = False
        self._hurried = hurried
        self._wait_until = 0.0
        self._popen: subprocess.Popen[bytes] | None = None
        # Here already: whoever is forked while the process starts has to close both.
        self._end, self._other = socket.socketpair()
        self._end.settimeout(_GLANCE)
        self._channel = Channel(self._end, self._wait_on)

    def start(self, settings: Settings) -> None:
        """Start it.

        Args:
            settings: what it converts by.

        Raises:
            OSError: it cannot be started.
        """
        self._ready_by = time.monotonic() + START_SECONDS
        descriptor = self._other.fileno()
        # Modules are found where they were found here, and not in the working directory, where
        # anything may be named as they are. Our own flags might say not to read PYTHONPATH.
        path = os.pathsep.join(map(str, sys.path))
        with _starting:
            self._popen = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", "llmlog_producer.converter.process", str(descriptor)],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                start_new_session=True,  # a group is told to end before its work is done
            )
        self.pid = self._popen.pid
        self._other.close()
        self._have_patience(_PATIENCE)
        self._channel.send(settings)

    def says_ready(self, seconds: float = 0.0) -> bool:
        """Look whether it can be given payloads; wait for so long at most.

        Raises:
            AnotherVersionError: it is not what was imported here.
            EOFError: it has ended.
            TimeoutError: it should have said so long ago.
        """
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if poll.poll(seconds * 1000):
            self._have_patience(_PATIENCE)
            if self._channel.receive() != IDENTITY:
                raise AnotherVersionError
            self.ready = True
        elif time.monotonic() > self._ready_by:
            raise TimeoutError
        return self.ready

    def converted(
        self, payloads: Sequence[CapturedPayload], limit: int
    ) -> tuple[list[bytes | None], int]:
        """Return the bodies of events, and how many of them were cut.

        Raises:
            EOFError: it has ended.
            OSError: TimeoutError where it takes too long, or there is a hurry.
        """
        if not payloads:
            return [], 0
        self._have_patience(_PATIENCE + _PATIENCE_A_BYTE * sum(one.size for one in payloads))
        self._channel.send((limit, [(one.payload, one.call_id, one.at) for one in payloads]))
        bodies, cut = self._channel.receive()
        return bodies, cut

    def hang_up(self) -> None:
        """Close this side, whereupon it ends."""
        self._end.close()
        self._other.close()

    def end(self) -> None:
        """Have it end, and see that it has."""
        self.hang_up()
        if not self._has_ended(_END_SECONDS):
            self.killed()

    def killed(self) -> int | None:
        """Kill it; return its exit code where it had ended by itself before.

        Raises:
            PermissionError: it is not ours any more.
        """
        self.hang_up()
        if self._popen is None:
            return None
        if self._has_ended(_GLANCE):
            return self._popen.returncode
        self._popen.kill()
        self._has_ended(_END_SECONDS)
        return None

    def _has_ended(self, seconds: float) -> bool:
        if self._popen is None:
            return True
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is not None

    def _have_patience(self, seconds: float) -> None:
        self._wait_until = time.monotonic() + seconds

    def _wait_on(self) -> None:
        if self._hurried() or time.monotonic() > self._wait_until:
            raise TimeoutError


def _batch(
    first: CapturedPayload, behind: Iterable[CapturedPayload | EncodedEvent]
) -> list[CapturedPayload]:
    """Return those that can be sent together: the first ones that are JSON, and not too many."""
    batch: list[CapturedPayload] = []
    size = 0
    for one in (first, *behind):
        size += one.size
        if not isinstance(one, CapturedPayload) or not isinstance(one.payload, bytes):
            break
        if batch and size > _BATCH_BYTES:
            break
        batch.append(one)
    return batch

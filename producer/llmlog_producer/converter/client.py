"""Owns the process beside the gateway that converts payloads: its start, its work, its end.

    CapturedPayload ── batch ──> `converter.process`, a child ── bodies ──> EncodedEvent

The conversion takes longer than all other work of the callback, and meanwhile requests wait for the
interpreter. No event depends on that process: a payload stays here until its event has come back.
Where there is no process, or it is dead or slow, the gateway's own thread converts.
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
from llmlog_producer.converter.channel import Channel
from llmlog_producer.converter.process import IDENTITY
from llmlog_producer.events.build import CapturedPayload, EncodedEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.counters import Stats

_START_AFTER_PAYLOADS: Final = 100
"""Payloads converted here before a process is started: a script that soon ends needs none."""
_BATCH_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 1.0
_TIMEOUT_PER_BYTE_SECONDS: Final = 1e-6
"""The longest time that a batch may take: a hundred times the usual one."""
_USUAL_SECONDS: Final = 0.02
_USUAL_PER_EVENT_SECONDS: Final = 1e-3
_USUAL_PER_BYTE_SECONDS: Final = 1e-7
_MAX_BEHIND_SECONDS: Final = 2.0
"""How far it may fall behind the usual time: further, it has no core to run on."""
START_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 60.0
_END_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.05
"""Interval at which a wait for it asks whether the events are needed at once."""

_starting: Final = threading.RLock()
"""Held while a process starts. `subprocess` waits for the end of a pipe. A child that was forked
meanwhile would hold the pipe open for as long as it lives."""
os.register_at_fork(
    before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
)


class AnotherVersionError(Exception):
    """The package was replaced since the gateway has imported it."""


def is_wanted(settings: Settings) -> bool:
    """Tell whether a process is to convert."""
    return (
        settings.gateway_converter == "process"
        and not settings.redact_function  # it needs the user's own modules, as they are here
        # A frozen program, or a server with Python in it, would start itself once more.
        and not getattr(sys, "frozen", False)
        and "py" in Path(sys.executable or "").name
    )


class Converter:
    """The choice between a process and the gateway's own thread; the sending thread uses it.

    Args:
        settings: as loaded; the process gets them as they are.
        stats: counted into.
        log: told when there is no process any more.
        is_urgent: tells that the events are needed at once, so that no process is waited for.
    """

    def __init__(
        self, settings: Settings, stats: Stats, log: ThrottledLog, is_urgent: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._log = log
        self._is_urgent = is_urgent
        self._wanted = is_wanted(settings)
        self._process: ConversionProcess | None = None
        self._converted_here = 0
        self._behind = 0.0
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """The process that converts; None while the gateway's own thread does."""
        process = self._process
        return process.pid if process is not None and process.ready else None

    def convert(
        self,
        first: CapturedPayload,
        following: Iterable[CapturedPayload | EncodedEvent],
        limit: int,
    ) -> list[EncodedEvent | None]:
        """Return the events of a payload and of some that follow it.

        Args:
            first: the payload.
            following: the entries behind it.
            limit: bytes of the largest value.

        Returns:
            One for each, in their order; None for a payload that the process cannot convert. An
            empty list where no process converts.
        """
        if not self._wanted or self._is_urgent():
            return []
        try:
            if self._process is None:
                self._start()
            elif self._process.ready or self._has_started(self._process):
                return self._convert(self._process, _batch(first, following), limit)
        except Exception as error:  # noqa: BLE001 - after any error the thread converts
            self._give_up(error)
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
        if self._converted_here >= _START_AFTER_PAYLOADS and time.monotonic() >= self._not_before:
            self._process = ConversionProcess(self._is_urgent)
            self._process.start(self._settings)

    def _has_started(self, process: ConversionProcess) -> bool:
        if process.poll_ready():
            GatewayLogger().log(logging.INFO, f"payloads are converted by process {process.pid}")
        return process.ready

    def _convert(
        self, process: ConversionProcess, batch: list[CapturedPayload], limit: int
    ) -> list[EncodedEvent | None]:
        began = time.monotonic()
        bodies, truncated = process.convert(batch, limit)
        usual = _USUAL_SECONDS + sum(
            _USUAL_PER_EVENT_SECONDS + _USUAL_PER_BYTE_SECONDS * one.size for one in batch
        )
        self._behind = max(0.0, self._behind + time.monotonic() - began - usual)
        if self._behind > _MAX_BEHIND_SECONDS:
            raise TimeoutError
        self._stats.add("truncated", truncated)
        return [None if body is None else EncodedEvent(body) for body in bodies]

    def _give_up(self, error: Exception) -> None:
        """Kill the process; another is tried later."""
        # First of all: a late answer would be taken for the answer to the next batch.
        process, self._process = self._process, None
        self._behind = 0.0
        self._not_before = time.monotonic() + _RETRY_SECONDS
        why = error_name(error)
        if process is not None:
            with suppress(Exception):
                if (ended := process.kill()) is not None:
                    why = f"it ended with {ended}"
        if self._is_urgent():
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
        is_urgent: tells that it is not to be waited for.

    Attributes:
        pid: its id.
        ready: it takes payloads.
    """

    def __init__(self, is_urgent: Callable[[], bool] = bool) -> None:
        self.pid = 0
        self.ready = False
        self._is_urgent = is_urgent
        self._wait_until = 0.0
        self._popen: subprocess.Popen[bytes] | None = None
        # Here already: a child that is forked while the process starts has to close both.
        self._end, self._other = socket.socketpair()
        self._end.settimeout(_POLL_SECONDS)
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
        # Modules are found where they were found here, and not in the working directory, which may
        # have files of the same names. Our own flags might forbid to read PYTHONPATH.
        path = os.pathsep.join(map(str, sys.path))
        with _starting:
            self._popen = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", "llmlog_producer.converter.process", str(descriptor)],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                start_new_session=True,  # a signal to the gateway's group must not end it first
            )
        self.pid = self._popen.pid
        self._other.close()
        self._set_timeout(_TIMEOUT_SECONDS)
        self._channel.send(settings)

    def poll_ready(self, seconds: float = 0.0) -> bool:
        """Tell whether it takes payloads; wait for so many seconds at most.

        Raises:
            AnotherVersionError: it runs another version than this process.
            EOFError: it has ended.
            TimeoutError: it is not ready in time.
        """
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if poll.poll(seconds * 1000):
            self._set_timeout(_TIMEOUT_SECONDS)
            if self._channel.receive() != IDENTITY:
                raise AnotherVersionError
            self.ready = True
        elif time.monotonic() > self._ready_by:
            raise TimeoutError
        return self.ready

    def convert(
        self, payloads: Sequence[CapturedPayload], limit: int
    ) -> tuple[list[bytes | None], int]:
        """Return the bodies of events, and how many of them were truncated.

        Raises:
            EOFError: it has ended.
            OSError: TimeoutError where it takes too long, or the events are needed at once.
        """
        if not payloads:
            return [], 0
        self._set_timeout(
            _TIMEOUT_SECONDS + _TIMEOUT_PER_BYTE_SECONDS * sum(one.size for one in payloads)
        )
        self._channel.send((limit, [(one.payload, one.call_id, one.at) for one in payloads]))
        bodies, truncated = self._channel.receive()
        return bodies, truncated

    def hang_up(self) -> None:
        """Close this side; the process ends when it sees that."""
        self._end.close()
        self._other.close()

    def end(self) -> None:
        """End it, and wait until it has ended."""
        self.hang_up()
        if not self._has_ended(_END_SECONDS):
            self.kill()

    def kill(self) -> int | None:
        """Kill it; return its exit code where it had ended by itself before.

        Raises:
            PermissionError: it is not ours any more.
        """
        # Before the sockets are closed: it ends when it sees that, and its code would say nothing.
        has_ended = self._has_ended(_POLL_SECONDS)
        self.hang_up()
        if self._popen is None:
            return None
        if has_ended:
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

    def _set_timeout(self, seconds: float) -> None:
        self._wait_until = time.monotonic() + seconds

    def _wait_on(self) -> None:
        if self._is_urgent() or time.monotonic() > self._wait_until:
            raise TimeoutError


def _batch(
    first: CapturedPayload, following: Iterable[CapturedPayload | EncodedEvent]
) -> list[CapturedPayload]:
    """Return the first payloads that are JSON, up to the bound of a batch."""
    batch: list[CapturedPayload] = []
    size = 0
    for one in (first, *following):
        size += one.size
        if not isinstance(one, CapturedPayload) or not isinstance(one.payload, bytes):
            break
        if batch and size > _BATCH_BYTES:
            break
        batch.append(one)
    return batch

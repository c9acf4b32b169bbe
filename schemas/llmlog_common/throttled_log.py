"""Limits how often one cause is logged: at once, then at most once a minute.

So an outage fills neither the gateway's log nor a worker's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmlog_common.credentials import hide
from llmlog_common.job_thread import JobThread
from llmlog_common.texts import cut

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_SECONDS: Final = 60.0


class Logger(Protocol):
    """The logger behind a throttled log: a structlog logger is one."""

    def log(self, level: int, event: str, **details: Any) -> Any:
        """Write one line."""
        ...


_LINES: Final = JobThread("llmlog-log")
os.register_at_fork(after_in_child=_LINES.begin_process)


def flush_lines(seconds: float) -> bool:
    """Wait until the gateway's lines are written, for so many seconds at most."""
    return _LINES.wait(seconds)


class GatewayLogger:
    """A standard library logger that is called as structlog's, for the gateway's process.

    A thread of its own writes the lines: where stderr is a pipe that is not read, or a handler
    sends lines over the network, neither a hook nor the delivery to Kafka waits.

    Args:
        name: of the logger, which users may configure.
    """

    def __init__(self, name: str = "llmlog_producer") -> None:
        self._logger = logging.getLogger(name)

    def log(self, level: int, event: str, **details: Any) -> None:
        """Write `llmlog: event`, with the details behind it."""
        if not self._logger.isEnabledFor(level):
            return
        left_out = details.pop("left_out", 0)
        more = [f"{left_out} times more since"] if left_out else []
        more += [f"{name}: {value}" for name, value in details.items()]
        text = f"{event} ({', '.join(more)})" if more else event
        _LINES.submit(lambda: self._logger.log(level, "llmlog: %s", cut(hide(text))))


class ThrottledLog:
    """Logs the first event of a cause, then one a minute, with the number left out between.

    Any thread may call it.

    Args:
        logger: writes the lines.
        clock: monotonic seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._causes: dict[object, tuple[float, int]] = {}  # guarded by `_lock`

    def is_due(self, cause: object) -> bool:
        """Tell whether an event of this cause would be logged now; for details that are costly."""
        last, _ = self._causes.get(cause, (-INTERVAL_SECONDS, 0))
        return self._clock() - last >= INTERVAL_SECONDS

    def __call__(self, level: int, cause: object, event: str, **details: Any) -> None:
        """Log an event, unless one of the same cause was logged within the last minute.

        Args:
            level: of `logging`.
            cause: hashable; events of one cause count as the same event, whatever their text.
            event: the line.
            details: beside it.
        """
        now = self._clock()
        with self._lock:
            last, left_out = self._causes.get(cause, (-INTERVAL_SECONDS, 0))
            if now - last < INTERVAL_SECONDS:
                self._causes[cause] = (last, left_out + 1)
                return
            self._causes[cause] = (now, 0)
        if left_out:
            details["left_out"] = left_out
        self._logger.log(level, event, **details)


def error_name(error: BaseException) -> str:
    """Return the name of an error's type: its text may quote a payload, or raise itself."""
    return type(error).__name__

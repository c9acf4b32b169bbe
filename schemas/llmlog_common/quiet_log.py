"""One log line per cause and minute: an outage must not fill the gateway's log."""

from __future__ import annotations

import logging
import threading
import time

logger = logging.getLogger("llmlog_producer")

_INTERVAL = 60.0


class QuietLog:
    """Logs a cause at once, then at most once a minute, with the number left out between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._causes: dict[str, tuple[float, int]] = {}

    def __call__(self, level: int, cause: str, message: str) -> None:
        """Log `message` unless its `cause` was logged within the last minute."""
        now = time.monotonic()
        with self._lock:
            last, left_out = self._causes.get(cause, (-_INTERVAL, 0))
            if now - last < _INTERVAL:
                self._causes[cause] = (last, left_out + 1)
                return
            self._causes[cause] = (now, 0)
        again = f" ({left_out} times more since)" if left_out else ""
        logger.log(level, "llmlog: %s%s", message, again)


def error_name(error: BaseException) -> str:
    """Name an error by its type: its text may quote a payload, or raise by itself."""
    return type(error).__name__

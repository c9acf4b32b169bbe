"""Owns how often one cause is logged: at once, then at most once a minute."""

from __future__ import annotations

import time
from typing import Any, Final

SAY_AGAIN: Final = 60.0
"""Seconds."""


class Say:
    """Logs warnings.

    Args:
        log: a structlog logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said: dict[object, float] = {}

    def __call__(self, cause: object, event: str, **details: str) -> None:
        """Log an event, unless one of the same cause was logged a moment ago."""
        now = time.monotonic()
        if now - self._said.get(cause, -SAY_AGAIN) >= SAY_AGAIN:
            self._said[cause] = now
            self._log.warning(event, **details)

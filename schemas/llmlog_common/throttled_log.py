"""Owns how often one cause is logged: at once, then at most once a minute."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

SAY_AGAIN: Final = 60.0
"""Seconds."""


class Say:
    """Logs.

    Args:
        log: a structlog logger.
        level: of `logging`.
    """

    def __init__(self, log: Any, level: int = logging.WARNING) -> None:
        self._log = log
        self._level = level
        self._said: dict[object, float] = {}

    def due(self, cause: object) -> bool:
        """Tell whether an event of this cause would be logged now; for details that cost much."""
        return time.monotonic() - self._said.get(cause, -SAY_AGAIN) >= SAY_AGAIN

    def __call__(self, cause: object, event: str, **details: str) -> None:
        """Log an event, unless one of the same cause was logged a moment ago."""
        if self.due(cause):
            self._said[cause] = time.monotonic()
            self._log.log(self._level, event, **details)

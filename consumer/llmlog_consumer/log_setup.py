"""Owns the form of log lines: one line an event on stderr; coloured on a terminal, else logfmt.

Texts in them come from servers and documents, too: they are cut, and hold no secret.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog

from llmlog_common.credentials import hide
from llmlog_common.texts import ELLIPSIS, cut

_KAFKA = logging.getLogger("llmlog.kafka")

MAX_VALUE_CHARACTERS = 1000
"""Bound of each value of a line."""
MAX_TRACEBACK_CHARACTERS = 8000
"""Bound of a traceback. Its end is kept, which names the error."""


def configure(worker: int | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    Args:
        worker: number of the worker process, which each of its lines names; None for others.
        stream: takes the lines; by default stderr.
    """
    stream = stream or sys.stderr
    renderer = (
        structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))
        if stream.isatty()
        else structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], drop_missing=True
        )
    )
    structlog.configure(
        processors=[
            _add_worker(worker),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write call per line: several processes share this stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    _KAFKA.handlers = [_Forward()]
    _KAFKA.propagate = False


class _Forward(logging.Handler):
    """Gives the lines of what gateway and consumer share the form of our own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        structlog.get_logger(record.name).log(record.levelno, record.getMessage())


def _add_worker(number: int | None) -> structlog.typing.Processor:
    def add(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if number is not None:
            event.setdefault("worker", number)
        return event

    return add


def _make_printable(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Make each value one short line without secrets; numbers stay numbers."""
    for key, value in event.items():
        if value is None or isinstance(value, (bool, int, float)):
            continue
        if key == "exception":
            event[key] = _join(_keep_end(hide(str(value))))
        else:
            text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            event[key] = _join(cut(hide(text), MAX_VALUE_CHARACTERS))
    return event


def _join(text: str) -> str:
    return " ".join(text.split()) if "\n" in text or "\r" in text else text


def _keep_end(text: str) -> str:
    return (
        text
        if len(text) <= MAX_TRACEBACK_CHARACTERS
        else ELLIPSIS + text[-MAX_TRACEBACK_CHARACTERS:]
    )

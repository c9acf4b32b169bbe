"""Log lines: one event each on stderr, readable on a terminal, logfmt elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(worker: int | None = None) -> None:
    """Set up logging for this process.

    Args:
        worker: number of the worker process; bound to each of its lines.
    """
    on_terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer()
        if on_terminal
        else structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], drop_missing=True
        )
    )
    structlog.configure(
        processors=[
            _of_worker(worker),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write for a line: several processes share this stream.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _of_worker(number: int | None) -> structlog.typing.Processor:
    def add(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if number is not None:
            event.setdefault("worker", number)
        return event

    return add


def _one_line(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key, value in event.items():
        if isinstance(value, str) and ("\n" in value or "\r" in value):
            event[key] = " ".join(value.split())
        elif isinstance(value, (list, tuple)):
            event[key] = ",".join(map(str, value))
    return event

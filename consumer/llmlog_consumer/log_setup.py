"""Owns the form of log lines: one line an event on stderr; coloured on a terminal, else logfmt."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog


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
            _join_lines,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write call per line: several processes share this stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
    )


def _add_worker(number: int | None) -> structlog.typing.Processor:
    def add(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if number is not None:
            event.setdefault("worker", number)
        return event

    return add


def _join_lines(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key, value in event.items():
        if isinstance(value, str) and ("\n" in value or "\r" in value):
            event[key] = " ".join(value.split())
        elif isinstance(value, (list, tuple)):
            event[key] = ",".join(map(str, value))
    return event

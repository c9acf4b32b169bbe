"""Owns the form of log lines: one line an event on stderr, as console, logfmt or JSON.

Texts in them come from servers and documents, too: they are cut, and hold no secret.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from llmlog_common.credentials import hide
from llmlog_common.texts import ELLIPSIS, cut

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

_KAFKA = logging.getLogger("llmlog.kafka")
_LIBRDKAFKA = logging.getLogger("llmlog.librdkafka")

MAX_VALUE_CHARACTERS = 1000
"""Bound of each value of a line."""
MAX_TRACEBACK_CHARACTERS = 8000
"""Bound of a traceback. Its end is kept, which names the error."""


_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(
    worker: int | None = None,
    stream: TextIO | None = None,
    *,
    form: str = "auto",
    level: str = "info",
) -> None:
    """Set up logging for this process.

    Args:
        worker: number of the worker process, which each of its lines names; None for others.
        stream: takes the lines; by default stderr.
        form: as `LLMLOG_LOG_FORMAT`.
        level: as `LLMLOG_LOG_LEVEL`.
    """
    stream = stream or sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "logfmt"
    structlog.configure(
        processors=[
            _add_worker(worker),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_printable,
            _new_renderer(form, is_terminal=stream.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # One write call per line: several processes share this stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    _KAFKA.handlers = [_Forward()]
    _KAFKA.propagate = False
    _LIBRDKAFKA.handlers = [_ForwardLibrdkafka()]
    _LIBRDKAFKA.propagate = False
    # At other levels `error_cb` alone tells: librdkafka repeats its lines every second.
    _LIBRDKAFKA.setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)


def _new_renderer(form: str, *, is_terminal: bool) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    if form == "console":
        return structlog.dev.ConsoleRenderer(colors=is_terminal and not os.environ.get("NO_COLOR"))
    return structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "event"], drop_missing=True
    )


class _Forward(logging.Handler):
    """Gives the lines of what gateway and consumer share the form of our own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        structlog.get_logger(record.name).log(record.levelno, record.getMessage())


class _ForwardLibrdkafka(logging.Handler):
    """Gives librdkafka's own lines the form of ours: its facility, client and text are values."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        parts = record.args if isinstance(record.args, tuple) else ()
        facility, client, text = parts if len(parts) == 3 else ("", "", record.getMessage())  # noqa: PLR2004
        structlog.get_logger(record.name).log(
            record.levelno, "librdkafka", facility=facility, client=client, text=text
        )


def _add_worker(number: int | None) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        if number is not None:
            event.setdefault("worker", number)
        return event

    return add


def _make_printable(_logger: object, _method: str, event: EventDict) -> EventDict:
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

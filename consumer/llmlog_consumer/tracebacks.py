"""Owns how an error that is not caught is printed: as Python does it, without what is secret."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

from llmlog_common.credentials import hide

if TYPE_CHECKING:
    from types import TracebackType


def hide_secrets() -> None:
    """Print tracebacks of this process without secrets, from every thread."""
    sys.excepthook = _print
    sys.unraisablehook = lambda args: _print(args.exc_type, args.exc_value, args.exc_traceback)
    threading.excepthook = lambda args: _print(args.exc_type, args.exc_value, args.exc_traceback)


def _print(
    kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> None:
    if sys.stderr is not None and not issubclass(kind, SystemExit):  # a thread may end so
        sys.stderr.write(hide("".join(traceback.format_exception(kind, error, where))))

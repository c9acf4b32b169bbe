"""Owns the entry point of `pipeline`: its exit code, and its silence when a reader goes away."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from llmlog_common.credentials import hide
from llmlog_common.errors import ConfigurationError, PipelineError, Unreachable
from llmlog_common.texts import cut
from llmlog_consumer import tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import typer

_LIBRARIES = (
    "elastic_transport", "prometheus_client", "rich", "setproctitle", "structlog", "typer",
)  # fmt: skip

# The codes that a shell reports for a program that a signal ended.
_SIGINT_CODE = 128 + signal.SIGINT
_SIGPIPE_CODE = 128 + signal.SIGPIPE


def main(run: Callable[[], None] | None = None) -> None:
    """Run the command line and exit.

    Args:
        run: the command line; by default that of `pipeline`.
    """
    tracebacks.hide_secrets()
    code: str | int | None = 0
    is_pipe_closed = False
    try:
        (run or run_command)()
    except KeyboardInterrupt:  # while the libraries load; later the command line handles it
        code = _SIGINT_CODE
    except SystemExit as error:
        # Typer notices a closed pipe first, and exits with 1.
        is_pipe_closed = isinstance(error.__context__, BrokenPipeError)
        code = 0 if is_pipe_closed else error.code
    try:
        if sys.stdout is not None:  # it is None where the shell has closed it (`>&-`)
            sys.stdout.flush()
    except BrokenPipeError:
        is_pipe_closed = True
    if is_pipe_closed:
        # Nothing may be flushed into the pipe any more: Python would report it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _SIGPIPE_CODE
    sys.exit(code)


def run_command() -> None:
    """Run the command of `sys.argv`, with this project's errors as one line and an exit code."""
    try:
        from llmlog_consumer import gc_tuning  # noqa: PLC0415

        require_text(sys.argv[1:])
        if sys.argv[1:2] == ["consume"] and not {"-h", "--help"} & set(sys.argv):
            from llmlog_consumer.service import template  # noqa: PLC0415

            template.start()  # it loads what workers need while this process loads the rest
        app = load_app(sys.argv[1:])
        gc_tuning.tune()
        app()
    except ModuleNotFoundError as error:  # a command may load more than the command line does
        if error.name not in _LIBRARIES:
            raise
        sys.stderr.write("pipeline needs more: install the wheel with its extra, `[consumer]`\n")
        sys.exit(2)
    except (PipelineError, Unreachable) as error:
        sys.stderr.write(f"error: {' '.join(cut(hide(str(error))).split())}\n")
        sys.exit(error.exit_code)


def require_text(arguments: Sequence[str]) -> None:
    """Check that each argument is text: no server takes another, and no id or field is named so.

    Raises:
        ConfigurationError: one holds bytes that are none; Python has them as halves of characters.
    """
    for number, argument in enumerate(arguments, start=1):
        if not argument.isascii() and argument.encode("utf-8", "ignore").decode() != argument:
            shown = argument.encode("utf-8", "backslashreplace").decode()
            raise ConfigurationError(
                f"argument {number} ({shown}): it holds bytes that are no text in UTF-8; write it "
                "again, or give a file another name"
            )


def load_app(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line: of `pipeline consume` alone, which runs for long, or the whole."""
    from llmlog_consumer import lean_imports  # noqa: PLC0415

    lean_imports.load_structlog()
    if arguments[:1] != ["consume"]:
        from llmlog_consumer.cli.app import app  # noqa: PLC0415

        return app
    from llmlog_consumer.cli.consume import consume  # noqa: PLC0415
    from llmlog_consumer.cli.options import new_app  # noqa: PLC0415

    app = new_app()
    app.command("consume")(consume)
    return app


if __name__ == "__main__":
    main()

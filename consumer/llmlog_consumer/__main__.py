"""Entry point of `pipeline`: errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys

from llmlog_common.errors import PipelineError, Unreachable

_NEEDED = ("elasticsearch", "prometheus_client", "rich", "setproctitle", "structlog", "typer")

# As a shell says it of a program that a signal ends.
_INTERRUPTED = 128 + signal.SIGINT
_CUT_OFF = 128 + signal.SIGPIPE


def main() -> None:
    """Run the command line and exit."""
    code: str | int | None = 0
    cut_off = False
    try:
        _run()
    except KeyboardInterrupt:  # while the libraries load; later the command line says it
        code = _INTERRUPTED
    except SystemExit as ended:
        # Typer meets a closed pipe before we do, and makes 1 of it.
        cut_off = isinstance(ended.__context__, BrokenPipeError)
        code = 0 if cut_off else ended.code
    try:
        if sys.stdout is not None:  # else it was closed before we began (`>&-`)
            sys.stdout.flush()
    except BrokenPipeError:
        cut_off = True
    if cut_off:
        # The reader of a pipe has seen enough; let nothing more be flushed into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _CUT_OFF
    sys.exit(code)


def _run() -> None:
    try:
        from llmlog_consumer import gc_tuning  # noqa: PLC0415
        from llmlog_consumer.cli.app import app  # noqa: PLC0415

        gc_tuning.tune()
        app()
    except ModuleNotFoundError as error:  # a command may load more than the command line does
        if error.name not in _NEEDED:
            raise
        sys.stderr.write("pipeline needs more: pip install 'llmlog-pipeline[consumer]'\n")
        sys.exit(2)
    except (PipelineError, Unreachable) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""Entry point of `pipeline`: errors become one line and an exit code."""

from __future__ import annotations

import os
import sys

from llmlog_schemas.errors import PipelineError, Unreachable

_NEEDED = ("elasticsearch", "prometheus_client", "rich", "setproctitle", "structlog", "typer")


_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    try:
        _run()
    except KeyboardInterrupt:  # while the libraries load; later the command line says it
        sys.exit(_INTERRUPTED)


def _run() -> None:
    try:
        from llmlog_consumer.cli.app import app  # noqa: PLC0415
        from llmlog_consumer.collector import tune_collector  # noqa: PLC0415

        tune_collector()
        app()
    except ModuleNotFoundError as error:  # a command may load more than the command line does
        if error.name not in _NEEDED:
            raise
        sys.stderr.write("pipeline needs more: pip install 'llmlog-pipeline[consumer]'\n")
        sys.exit(2)
    except (PipelineError, Unreachable) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; let nothing more be flushed into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

"""The options that commands share, the parsing of their values, and what `pipeline` itself is."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from llmlog_common.settings import Settings, load
from llmlog_common.units import parse_duration

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; default pipeline.toml here."),
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="`24 hours`, `7d`, or an ISO 8601 time."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Like --since.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def new_app() -> typer.Typer:
    """Return the command `pipeline`, without a command of its own yet."""
    app = typer.Typer(
        name="pipeline",
        help="Every LiteLLM call as exactly one Elasticsearch document, through Kafka.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(set_up)
    return app


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"pipeline {version('llmlog-pipeline')}")
        raise typer.Exit


def set_up(
    version: Annotated[  # noqa: ARG001 - its callback ends the command
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Send log lines of any command to stderr; stdout is for data alone."""
    from llmlog_consumer import log_setup

    log_setup.configure()


def load_settings(config: Path | None) -> Settings:
    """Return the settings, and give log lines the form that they say.

    Args:
        config: the settings file; None for the default.

    Raises:
        ConfigurationError: one line that names the setting and its place.
    """
    from llmlog_consumer import log_setup

    settings = load(config=config)
    log_setup.configure(form=settings.log_format, level=settings.log_level)
    return settings


def parse_when(text: str, *, clock: Callable[[], float] = time.time) -> int:
    """Return epoch milliseconds of an ISO 8601 time, or of a duration before now.

    A time without a zone is UTC. A time is tried first: `20260131` is a day.

    Args:
        text: `2026-01-31T12:00`, `24h`.
        clock: epoch seconds.

    Raises:
        typer.BadParameter: the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a duration nor a time: {error}") from None
    if not isinstance(duration, timedelta):
        raise typer.BadParameter(f"{text!r} is neither a duration nor a time")
    return int((clock() - duration.total_seconds()) * 1000)


def user_name() -> str:
    """Return who runs the command, for the audit topic: the system's user, and the host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"

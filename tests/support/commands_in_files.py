"""Reads command lines of `pipeline` in files as the command itself would, without running them."""

from __future__ import annotations

from typing import Any

import typer.main

from llmlog_consumer.cli.app import app


def parse(arguments: list[str]) -> None:
    """Parse a command line of `pipeline` as far as its options.

    Raises:
        click.UsageError: there is no such command or option, or a value is wrong.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("pipeline", arguments)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)

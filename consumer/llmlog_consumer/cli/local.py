"""Owns `pipeline local`: real Kafka and Elasticsearch on this machine, without containers."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_local.security import Rights
    from llmlog_local.stack import Environment, LocalStack, ServerStatus

app = typer.Typer(
    no_args_is_help=True,
    help="Real Kafka and Elasticsearch on this machine, without containers.",
)

_FOLLOW_SECONDS = 0.2


class ServerName(StrEnum):
    """The servers of the stack."""

    KAFKA = "kafka"
    ELASTICSEARCH = "elasticsearch"
    REGISTRY = "registry"


Folder = Annotated[
    Path, typer.Option("--dir", help="The stack's folder: its data, logs and state.")
]
DEFAULT_FOLDER = Path(".llmlog-local")
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command(epilog='Example: eval "$(pipeline local up)"')
def up(
    folder: Folder = DEFAULT_FOLDER,
    kafka_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: 9092 if free, else any.")
    ] = None,
    elasticsearch_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: 9200 if free, else any.")
    ] = None,
    elasticsearch_version: Annotated[
        str | None, typer.Option(help="Each version has its own data.", show_default="8.19.21")
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="TLS, logins and access rights on each server.")
    ] = False,
    registry: Annotated[bool, typer.Option("--registry", help="A Schema Registry too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the servers in the background; print the settings that use them.

    Returns when all answer. Servers that run already are left alone.
    """
    announce = _print_json if as_json else _print_exports
    rights = _rights() if secure else None
    with _stack(folder) as stack:
        ports = (kafka_port, elasticsearch_port, elasticsearch_version)
        stack.up(*ports, announce=announce, rights=rights, registry=registry)


def _rights() -> dict[str, Rights]:
    """Return what each of our users may do, with the names of the settings in it."""
    from llmlog_common.settings import load
    from llmlog_consumer.provision.rights import (
        User,
        elasticsearch_role,
        elasticsearch_users,
        kafka_rights,
    )
    from llmlog_local.security import Grant, Rights

    settings = load()
    return {
        str(user): Rights(
            [Grant(one.kind, one.name, one.operations) for one in kafka_rights(user, settings)],
            elasticsearch_role(user, settings) if user in elasticsearch_users() else None,
        )
        for user in User
    }


@app.command(epilog='Example: eval "$(pipeline local env)"')
def env(
    folder: Folder = DEFAULT_FOLDER,
    user: Annotated[
        str,
        typer.Option("--as", help="Of a secure stack: a user of docs/permissions.md, or admin."),
    ] = "admin",
    as_json: JsonOption = False,
) -> None:
    """Print the settings of the running stack again, for another shell or user."""
    with _stack(folder) as stack:
        (_print_json if as_json else _print_exports)(stack.environment(user))


@app.command(epilog="Example: pipeline local down")
def down(folder: Folder = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """End the servers. Their data stays; nothing running is fine too."""
    with _stack(folder) as stack:
        ended = stack.down()
    if as_json:
        typer.echo(json.dumps({"ended": ended}))
    else:
        typer.echo(f"ended {' and '.join(ended)}" if ended else "nothing was running", err=True)


@app.command(epilog="Example: pipeline local status --json")
def status(
    folder: Folder = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show the servers; exit code 0 if all run, else 1."""
    with _stack(folder) as stack:
        rows = stack.status()
    if as_json:
        typer.echo(json.dumps({"servers": [asdict(row) for row in rows]}))
    else:
        _print_table(rows)
    raise typer.Exit(0 if all(row.running for row in rows) else 1)


@app.command(epilog="Example: pipeline local logs elasticsearch --lines 50 --follow")
def logs(
    server: Annotated[ServerName | None, typer.Argument(help="Default: all that run.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the end of the servers' logs."""
    from llmlog_local.server import tail

    with _stack(folder) as stack:
        names = [server] if server else [row.name for row in stack.status()]
        paths = [stack.log_path(name) for name in names]
    for path in paths:
        if len(paths) > 1:
            typer.echo(f"==> {path} <==", err=True)
        for line in tail(path, lines):
            typer.echo(line)
    if follow:
        follow_files([path for path in paths if path.exists()])


def follow_files(paths: list[Path], *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print the lines that are appended to some files, until Ctrl-C.

    Args:
        paths: of files that exist; their present content is left out.
        sleep: takes seconds.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(path.open(errors="replace")) for path in paths]
        for file in files:
            file.seek(0, 2)
        while files:
            for file in files:
                sys.stdout.write(file.read())
            sys.stdout.flush()
            sleep(_FOLLOW_SECONDS)


@contextmanager
def _stack(folder: Path) -> Iterator[LocalStack]:
    """Give the folder's stack; turn its errors into one line and their exit code."""
    from llmlog_local.errors import LocalStackError
    from llmlog_local.stack import LocalStack

    try:
        yield LocalStack(folder)
    except LocalStackError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _print_json(environment: Environment) -> None:
    typer.echo(json.dumps(dict(environment)))
    sys.stdout.flush()


def _print_exports(environment: Environment) -> None:
    from llmlog_local.stack import export_lines

    typer.echo(export_lines(environment))
    sys.stdout.flush()


def _print_table(rows: list[ServerStatus]) -> None:
    columns = ("name", "state", "port", "pid", "version", "log")
    cells = [
        (
            row.name,
            "running" if row.running else "stopped",
            str(row.port or "-"),
            str(row.pid or "-"),
            row.version or "-",
            row.log,
        )
        for row in rows
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row_cells in cells:
            table.add_row(*row_cells)
        console.print(table)
        return
    for row_cells in (columns, *cells):
        typer.echo("\t".join(row_cells))

"""What commands share: the option `--config`, consoles, tables that are plain when piped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; default pipeline.toml here."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def complain(message: str) -> None:
    """Write one line to stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(message))


def say(message: str) -> None:
    """Write text to stdout as it is."""
    sys.stdout.write(message + "\n")


def write_json(value: Any) -> None:
    """Write one JSON document on one line of stdout."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def write_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table: drawn on a terminal, tab-separated when piped."""
    if not sys.stdout.isatty():
        for row in (headings, *rows):
            say("\t".join(_cell(cell) for cell in row))
        return
    table = Table(*headings, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split())

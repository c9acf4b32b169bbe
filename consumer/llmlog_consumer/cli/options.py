"""What commands share: the option `--config`, consoles, tables that are plain when piped."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from llmlog_common.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def moment(text: str) -> int:
    """Return epoch milliseconds of an ISO 8601 time (UTC where it names no zone) or of `24h` ago.

    A time first: `20260131` is a day, and no number of seconds.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    try:
        ago = parse_duration(text)
    except ValueError:
        ago = None
    if not isinstance(ago, timedelta):
        raise typer.BadParameter(f"{text!r} is neither a duration nor a time")
    return int((time.time() - ago.total_seconds()) * 1000)


_LEAST_CUT = 12


class Progress:
    """Progress bars on stderr, on a terminal alone.

    Call it with a step's name, how much of it is done and its total (0: unknown).
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Bars(console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total or None)
        self._bars.update(self._tasks[step], completed=done, total=total or None)


def complain(message: str) -> None:
    """Write one line to stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(message))


def say(message: str) -> None:
    """Write text to stdout as it is."""
    sys.stdout.write(message + "\n")


def write_json(value: Any) -> None:
    """Write one JSON document on one line of stdout."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def write_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, cut: str | None = None
) -> None:
    """Write a table: drawn on a terminal, tab-separated when piped.

    Args:
        headings: of the columns.
        rows: of as many cells.
        cut: heading of the column that is cut to fit the terminal, while others stay whole.
    """
    if not sys.stdout.isatty():
        for row in chain((headings,), rows):
            say("\t".join(_cell(cell) for cell in row))
        return
    console = Console()
    console.print(drawn_table(headings, rows, cut=cut, columns=console.width))


def drawn_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    cut: str | None = None,
    columns: int = 80,
) -> Table:
    """Return a table as a terminal of so many columns shows it; see `write_table`."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    lines = [[_cell(cell) for cell in row] for row in rows]
    widths = [
        max(cell_len(text) for text in (heading, *(line[number] for line in lines)))
        for number, heading in enumerate(headings)
    ]
    for heading in headings:
        table.add_column(heading, no_wrap=cut is not None)
    # rich takes from every column alike, until those that name things name nothing.
    at = list(headings).index(cut) if cut else None
    room = columns - sum(widths) - 2 * (len(widths) - 1) + (widths[at] if at is not None else 0)
    for line in lines:
        cells = [Text(text) for text in line]
        if at is not None:
            cells[at].truncate(max(room, _LEAST_CUT), overflow="ellipsis")
        table.add_row(*cells)
    return table


def printable(text: str) -> str:
    """Return text that does nothing to a terminal: letters hold what anybody wrote."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(" ".join(str(value).split()))

"""What commands print: lines, JSON, tables that are plain when piped, progress bars."""

from __future__ import annotations

import sys
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import orjson
from rich.bar import Bar
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_MIN_COLUMN_CHARACTERS = 12
_COLUMN_GAP_CHARACTERS = 2
_WIDEST_BARS_CHARACTERS = 100
_DEFAULT_WIDTH_CHARACTERS = 80


class Progress:
    """Progress bars on stderr; nothing is drawn where stderr is no terminal.

    Call it with a step's name, how much of it is done, and its total (0: unknown).
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


def paint(text: str, style: str) -> str:
    """Return text in a colour, where stdout is a terminal that shows colours.

    Args:
        text: one line.
        style: as `rich` names it.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal or console.no_color:
        return text
    with console.capture() as captured:
        console.print(Text(text, style=style), end="")
    return captured.get()


def write_json(value: Any) -> None:
    """Write one JSON document on one line of stdout."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def write_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, shorten: str | None = None
) -> None:
    """Write a table: drawn on a terminal, tab-separated when piped.

    Args:
        headings: of the columns.
        rows: of as many cells each.
        shorten: heading of the column that is shortened to fit the terminal; the other columns
            stay whole.
    """
    if not sys.stdout.isatty():
        for row in chain((headings,), rows):
            say("\t".join(_cell(cell) for cell in row))
        return
    console = Console()
    table = draw_table(headings, rows, shorten=shorten, columns=console.width)
    # A terminal wraps longer lines, and they are copied whole; rich would cut ids and coordinates.
    Console(width=max(console.width, table.width or 0)).print(table)


def draw_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    shorten: str | None = None,
    columns: int = _DEFAULT_WIDTH_CHARACTERS,
) -> Table:
    """Return a table as a terminal of so many columns shows it; see `write_table`.

    Its `width` is that of its longest line. Columns of numbers are aligned right.
    """
    table = Table(header_style="bold", box=None, pad_edge=False)
    cells = [list(row) for row in rows]
    lines = [[_cell(cell) for cell in row] for row in cells]
    widths = [
        max(cell_len(text) for text in (heading, *(line[number] for line in lines)))
        for number, heading in enumerate(headings)
    ]
    for column, heading in enumerate(headings):
        is_numbers = _are_numbers(row[column] for row in cells)
        table.add_column(heading, no_wrap=True, justify="right" if is_numbers else "left")
    # rich shortens every column alike, until coordinates and names are unreadable.
    number = list(headings).index(shorten) if shorten else None
    used = sum(widths) + _COLUMN_GAP_CHARACTERS * (len(widths) - 1)
    room = 0 if number is None else max(columns - used + widths[number], _MIN_COLUMN_CHARACTERS)
    for line in lines:
        texts = [Text(text) for text in line]
        if number is not None:
            texts[number].truncate(room, overflow="ellipsis")
        table.add_row(*texts)
    table.width = used if number is None else used - max(0, widths[number] - room)
    return table


def write_bars(rows: Sequence[tuple[str, float]]) -> None:
    """Draw a bar for each row on a terminal; nothing where stdout is none.

    Args:
        rows: label and value, of which none is negative.
    """
    most = max((value for _, value in rows), default=0.0)
    if not (sys.stdout.isatty() and most > 0):
        return
    console = Console()
    bars = Table.grid(padding=(0, 1))
    room = min(console.width, _WIDEST_BARS_CHARACTERS)
    labels = [Text(_cell(label)) for label, _ in rows]
    for label in labels:
        label.truncate(room // 3, overflow="ellipsis")
    numbers = [f"{value:.4g}" for _, value in rows]
    used = max(map(len, labels)) + max(map(len, numbers)) + 2
    for label, number, (_, value) in zip(labels, numbers, rows, strict=True):
        bar = Bar(most, 0, value, width=max(_MIN_COLUMN_CHARACTERS, room - used))
        bars.add_row(label, bar, Text(number))
    console.print(bars)


def _are_numbers(column: Iterable[object]) -> bool:
    found = [cell for cell in column if cell is not None]
    return bool(found) and all(isinstance(cell, (int, float)) for cell in found)


def printable(text: str) -> str:
    """Return text without control characters: dead letters hold what clients sent."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def repeat(
    step: Callable[[], bool],
    interval_seconds: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run a step again and again until it returns False, or Ctrl-C ends the command.

    What each step has written is seen at once, through a pipe as well.

    Args:
        step: returns whether to go on.
        interval_seconds: between the begins of two steps; one that takes longer is followed at
            once, because a server that is slow to answer is what a person waits to read about.
        sleep: takes seconds.
        clock: monotonic seconds.
    """
    while True:
        began = clock()
        if not step():
            return
        sys.stdout.flush()
        sleep(max(0.0, began + interval_seconds - clock()))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(" ".join(str(value).split()))

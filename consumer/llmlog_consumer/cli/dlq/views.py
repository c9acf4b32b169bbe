"""Letters as a person sees them: tables, histograms and pages, for a width of characters."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.cli.options import printable
from llmlog_consumer.dead_letters.cause import cut
from llmlog_consumer.dead_letters.contents import hex_dump

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDE: Final = 120
"""Characters from which on a table has all its columns."""
MOST_BARS: Final = 24
MOST_ROWS: Final = 10
MOST_LISTED: Final = 1000
CONTENTS_HIDDEN: Final = "contents are hidden; --show-content prints them"


class View(NamedTuple):
    """A table, and the column that is cut to fit."""

    headings: Sequence[str]
    rows: Iterable[Sequence[object]]
    cut: str | None = None


def width() -> int | None:
    """Return the terminal's; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def listed(letters: Iterable[dict[str, Any]], columns: int | None) -> Iterator[View]:
    """Yield `pipeline dlq list`; columns is the width, None for everything.

    A terminal has a table for each thousand letters: its columns are as wide as they need.
    """
    wide = columns is None or columns >= WIDE
    headings = _LISTED_WIDE if wide else _LISTED
    rows = (_listed_wide(letter) if wide else _listed(letter) for letter in letters)
    if columns is None:
        yield View(headings, rows, "cause")
        return
    page = list(islice(rows, MOST_LISTED))
    yield View(headings, page, "cause")
    while page := list(islice(rows, MOST_LISTED)):
        yield View(headings, page, "cause")


_LISTED = ("coordinates", "failed at", "fingerprint", "cause")
_LISTED_WIDE = ("coordinates", "failed at", "stage", "cause", "fingerprint", "replays", "recovered")


def _listed(letter: dict[str, Any]) -> tuple[object, ...]:
    at, cause = (letter["last_failed_at"] or "")[5:16].replace("T", " "), _short(_cause(letter))
    if letter["recovered"]:
        cause = f"(recovered) {cause}"
    return letter["coordinates"], at or None, letter["fingerprint"], cause


def _listed_wide(letter: dict[str, Any]) -> tuple[object, ...]:
    at = (letter["last_failed_at"] or "")[:19]
    recovered = {True: "yes", False: "no", None: "?"}[letter["recovered"]]
    return (letter["coordinates"], at or None, letter["stage"], _cause(letter),
            letter["fingerprint"], letter["replay_count"], recovered)  # fmt: skip


def counted(stats: dict[str, Any], columns: int | None) -> Iterator[str | View]:
    """Yield `pipeline dlq stats`, lines and tables; columns is the width, None for everything."""
    letters, kinds = stats["total"], len(stats["fingerprints"])
    yield f"{_number(letters, 'dead letter')}, {_number(kinds, 'cause')}"
    if not stats["total"]:
        return
    yield ""
    yield causes(stats, columns)
    for name, plural in (("stage", "stages"), ("index", "indices"), ("model", "models")):
        yield ""
        yield breakdown(stats, name, plural)
    yield ""
    yield from histogram(stats, columns or 80)
    yield f"\nLook at the largest: pipeline dlq show {stats['fingerprints'][0]['example']}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def causes(stats: dict[str, Any], columns: int | None) -> View:
    """Return the first table of `pipeline dlq stats`."""
    wide = columns is None or columns >= WIDE
    rows: list[tuple[object, ...]] = []
    for row in stats["fingerprints"]:
        first, last = row["first_seen"] or "-", row["last_seen"] or "-"
        said = cut(": ".join(filter(None, (row["type"], row["reason"])))) or "-"
        if wide:
            rows.append((row["count"], row["fingerprint"], row["stage"], first[:19], last[:19],
                         row["example"], said))  # fmt: skip
        else:
            at = last[5:16].replace("T", " ")
            rows.append((row["count"], row["fingerprint"], row["stage"], at, _short(said)))
    if wide:
        headings = ("letters", "fingerprint", "stage", "first seen", "last seen", "example",
                    "cause")  # fmt: skip
        return View(headings, rows, "cause")
    return View(("letters", "fingerprint", "stage", "last seen", "cause"), rows, "cause")


def breakdown(stats: dict[str, Any], name: str, plural: str) -> View:
    """Return the counts by stage, index or model, the largest first."""
    rows = [(row["count"], row[name]) for row in stats[plural]]
    if len(rows) > MOST_ROWS:
        left = sum(int(count) for count, _ in rows[MOST_ROWS:])
        rows = [*rows[:MOST_ROWS], (left, f"({len(rows) - MOST_ROWS} others)")]
    return View(("letters", name), rows)


def histogram(stats: dict[str, Any], columns: int) -> list[str]:
    """Return a bar for each of the newest hours that have letters."""
    hours = stats["hours"][-MOST_BARS:]
    most = max((row["count"] for row in hours), default=0)
    digits = len(str(most))
    room = max(10, min(columns, 100) - 19 - digits)
    lines = []
    for row in hours:
        bar = "█" * max(1, round(room * row["count"] / most))
        lines.append(f"{(row['hour'] or '-')[:16]}  {row['count']:>{digits}} {bar}")
    if len(stats["hours"]) > len(hours):
        lines.insert(0, f"({len(stats['hours']) - len(hours)} earlier hours: --json has them)")
    return lines


def page(shown: dict[str, Any], columns: int | None) -> list[str]:
    """Return `pipeline dlq show`: a line for each thing that is known."""
    lines: list[str] = []
    for key, value in shown.items():
        if key == "value_hex":
            lines += ["value:", *(f"  {line}" for line in hex_dump(value))] if value else []
        elif isinstance(value, dict):
            lines.append(f"{key}:")
            for inner, item in value.items():
                lines += _wrapped(f"  {inner}: ", _readable(item), columns)
        else:
            lines += _wrapped(f"{key}: ", _readable(value), columns)
    return lines


def _wrapped(label: str, text: str, columns: int | None) -> list[str]:
    if columns is None:
        return [label + text]
    return textwrap.wrap(
        text, columns, initial_indent=label, subsequent_indent=" " * 4, break_on_hyphens=False
    ) or [label]


def _readable(value: Any) -> str:
    if isinstance(value, (dict, list)):
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
        return printable(json.dumps(value, ensure_ascii=ascii_only))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else printable(" ".join(str(value).split()))


def _short(cause: str) -> str:
    """Return a cause without its type and its place in the document: what is left tells most."""
    return re.sub(r"^\w+: (\[\d+:\d+\] )?", "", cause)


def _cause(letter: dict[str, Any]) -> str:
    es = letter["es"] or {}
    said = ": ".join(filter(None, (es.get("type"), es.get("reason"))))
    return cut(said or letter["exception"] or "-")

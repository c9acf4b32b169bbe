"""Owns the tables, histograms and pages of `pipeline dlq` for a terminal of some width."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.texts import cut
from llmlog_consumer.cli.output import printable
from llmlog_consumer.dead_letters.contents import format_hex_dump
from llmlog_consumer.dead_letters.headers import shorten
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.replay.plan import ReplayOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDE_COLUMNS: Final = 120
"""Characters from which on a table has all its columns."""
MAX_BARS: Final = 24
MAX_ROWS: Final = 10
TABLE_ROWS: Final = 1000
"""Rows of one table of `pipeline dlq list` on a terminal."""
CONTENTS_HIDDEN: Final = "contents are hidden; --show-content prints them"

_LEGEND: Final[dict[ReplayOutcome, str]] = {
    ReplayOutcome.REPLAY: "would be indexed or sent",
    ReplayOutcome.ALREADY_INDEXED: "has its document already",
    ReplayOutcome.WOULD_FAIL: "would become a letter again",
    ReplayOutcome.EXPIRED: "too old for an index: would become a letter again",
    ReplayOutcome.TOO_MANY_REPLAYS: "failed again after three replays (--force)",
    ReplayOutcome.ORIGINAL_MISSING: "truncated, and the source topic no longer has the original",
    ReplayOutcome.CANNOT_MEND: "a change does not fit it",
}
_COUNTS: Final = (
    *(Outcome.INDEXED, Outcome.DUPLICATE, Outcome.DEAD, Outcome.DROPPED),
    "sent",
    *(
        ReplayOutcome.TOO_MANY_REPLAYS,
        ReplayOutcome.ORIGINAL_MISSING,
        ReplayOutcome.CANNOT_MEND,
    ),
)
"""What a replay counts, in the order in which it is printed."""


class View(NamedTuple):
    """A table.

    Attributes:
        headings: of the columns.
        rows: of as many cells.
        cut: heading of the column that is shortened to fit the terminal.
    """

    headings: Sequence[str]
    rows: Iterable[Sequence[object]]
    cut: str | None = None


def terminal_width() -> int | None:
    """Return the terminal's width in characters; None where stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def list_views(letters: Iterable[dict[str, Any]], columns: int | None) -> Iterator[View]:
    """Yield the tables of `pipeline dlq list`.

    A terminal gets one for each thousand letters, whose columns are as wide as these need; a pipe
    gets one that is never held in memory.

    Args:
        letters: as their JSON.
        columns: width in characters; None for a pipe.
    """
    wide = columns is None or columns >= WIDE_COLUMNS
    headings = _WIDE_HEADINGS if wide else _HEADINGS
    rows = (_wide_row(letter) if wide else _row(letter) for letter in letters)
    if columns is None:
        yield View(headings, rows, "cause")
        return
    page = list(islice(rows, TABLE_ROWS))
    yield View(headings, page, "cause")
    while page := list(islice(rows, TABLE_ROWS)):
        yield View(headings, page, "cause")


_TYPE_AND_PLACE: Final = re.compile(r"^\w+: (\[\d+:\d+\] )?")
_HEADINGS: Final = ("coordinates", "failed at", "fingerprint", "cause")
_WIDE_HEADINGS: Final = (
    "coordinates",
    "failed at",
    "stage",
    "cause",
    "fingerprint",
    "replays",
    "recovered",
)


def _row(letter: dict[str, Any]) -> tuple[object, ...]:
    at, cause = (letter["last_failed_at"] or "")[5:16].replace("T", " "), _short(_cause(letter))
    if letter["recovered"]:
        cause = f"(recovered) {cause}"
    return letter["coordinates"], at or None, letter["fingerprint"], cause


def _wide_row(letter: dict[str, Any]) -> tuple[object, ...]:
    at = (letter["last_failed_at"] or "")[:19]
    recovered = {True: "yes", False: "no", None: "?"}[letter["recovered"]]
    return (
        letter["coordinates"],
        at or None,
        letter["stage"],
        _cause(letter),
        letter["fingerprint"],
        letter["replay_count"],
        recovered,
    )


def stats_views(stats: dict[str, Any], columns: int | None) -> Iterator[str | View]:
    """Yield the lines and tables of `pipeline dlq stats`.

    Args:
        stats: as their JSON.
        columns: width in characters; None for a pipe.
    """
    letters, causes = stats["total"], len(stats["fingerprints"])
    recovered = f", {stats['recovered']} recovered" if stats["recovered"] else ""
    yield f"{_count(letters, 'dead letter')}, {_count(causes, 'cause')}{recovered}"
    if not stats["total"]:
        return
    yield ""
    yield cause_table(stats, columns)
    for name, plural in (("stage", "stages"), ("index", "indices"), ("model", "models")):
        yield ""
        yield breakdown_table(stats, name, plural)
    yield ""
    yield from histogram(stats, columns or 80)
    yield f"\nLook at the largest: pipeline dlq show {stats['fingerprints'][0]['example']}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def cause_table(stats: dict[str, Any], columns: int | None) -> View:
    """Return the first table of `pipeline dlq stats`."""
    wide = columns is None or columns >= WIDE_COLUMNS
    rows: list[tuple[object, ...]] = []
    for row in stats["fingerprints"]:
        first, last = row["first_seen"] or "-", row["last_seen"] or "-"
        cause = shorten(": ".join(filter(None, (row["type"], row["reason"])))) or "-"
        if wide:
            times = (first[:19], last[:19])
            rows.append(
                (row["count"], row["fingerprint"], row["stage"], *times, row["example"], cause)
            )
        else:
            at = last[5:16].replace("T", " ")
            rows.append((row["count"], row["fingerprint"], row["stage"], at, _short(cause)))
    headings = ("first seen", "last seen", "example") if wide else ("last seen",)
    return View(("letters", "fingerprint", "stage", *headings, "cause"), rows, "cause")


def breakdown_table(stats: dict[str, Any], name: str, plural: str) -> View:
    """Return the counts by stage, index or model, the largest first."""
    rows = [(row["count"], row[name]) for row in stats[plural]]
    if len(rows) > MAX_ROWS:
        left = sum(int(count) for count, _ in rows[MAX_ROWS:])
        rows = [*rows[:MAX_ROWS], (left, f"({len(rows) - MAX_ROWS} others)")]
    return View(("letters", name), rows)


def histogram(stats: dict[str, Any], columns: int) -> list[str]:
    """Return a bar for each of the newest hours that have letters."""
    hours = stats["hours"][-MAX_BARS:]
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


def letter_page(letter: dict[str, Any], columns: int | None) -> list[str]:
    """Return the lines of `pipeline dlq show`: one for each thing that is known.

    Args:
        letter: as its JSON.
        columns: width in characters; None for a pipe.
    """
    lines: list[str] = []
    for key, value in letter.items():
        if key == "value_hex":
            lines += ["value:", *(f"  {line}" for line in format_hex_dump(value))] if value else []
        elif isinstance(value, dict):
            lines.append(f"{key}:")
            for inner, item in value.items():
                lines += _wrap(f"  {inner}: ", _readable(item), columns)
        else:
            lines += _wrap(f"{key}: ", _readable(value), columns)
    return lines


def dry_run_table(rows: list[dict[str, Any]]) -> View:
    """Return the table of `pipeline dlq replay --dry-run`.

    Args:
        rows: of `DryRun.report`.
    """
    headings = ("letters", "fingerprint", "stage", *map(str, ReplayOutcome))
    return View(headings, [[row[name] for name in headings] for row in rows])


def dry_run_summary(rows: list[dict[str, Any]]) -> str:
    """Return the line below a dry run: the total, and the meaning of each outcome."""
    total = sum(row["letters"] for row in rows)
    legend = "".join(f"; {outcome}: {meaning}" for outcome, meaning in _LEGEND.items())
    return f"{total} letters" + (legend if total else "")


def mending_lines(mending: Mapping[str, Any] | None) -> list[str]:
    """Return what a dry run says of changes: a line for each, and for each kind of problem.

    Args:
        mending: of `DryRun.report_changes`.
    """
    if mending is None:
        return []
    lines = []
    for row in mending["changes"]:
        line = f"{row['change']} {row['field']}: {_count(row['letters'], 'letter')}"
        if row["absent"]:
            line += f", {row['absent']} without this field"
        if row["example"]:
            line += f"; for example {row['example']}"
        if row["before"] or row["after"]:
            line += f": {row['before'] or 'nothing'} -> {row['after'] or 'nothing'}"
        lines.append(printable(line))
    problems = {row["why"]: row["letters"] for row in mending["problems"]}
    return lines + problem_lines(problems)


def problem_lines(problems: Mapping[str, int]) -> list[str]:
    """Return why letters could not be mended, a line for each.

    Args:
        problems: of `Mending`.
    """
    return [
        printable(f"cannot mend {_count(number, 'letter')}: {why}")
        for why, number in problems.items()
    ]


def plan_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return what a replay prints before it asks: a line for each cause."""
    lines = []
    for row in rows:
        counts = ", ".join(f"{row[name]} {name}" for name in ReplayOutcome if row[name])
        lines.append(f"{row['fingerprint']} {row['stage'] or '-'}: {counts}")
    return lines


def count_outcomes(counts: Mapping[str, int]) -> dict[str, int]:
    """Return what `pipeline dlq replay --json` prints: the letters of every outcome, 0 too."""
    return {str(name): counts.get(name, 0) for name in _COUNTS}


def run_summary(row: Mapping[str, int]) -> str:
    """Return what a replay prints at its end.

    Args:
        row: of `count_outcomes`.
    """
    return ", ".join(f"{count} {name}" for name, count in row.items() if count) or "no letters"


def _wrap(label: str, text: str, columns: int | None) -> list[str]:
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
    """Return a cause without its type and its place in the document, for a narrow table."""
    return _TYPE_AND_PLACE.sub("", cut(cause))


def _cause(letter: dict[str, Any]) -> str:
    es = letter["es"] or {}
    text = ": ".join(filter(None, (es.get("type"), es.get("reason"))))
    return shorten(text or letter["exception"] or "-")

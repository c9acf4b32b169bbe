"""The command `pipeline report`."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any

import typer

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.checks.breakdown import QUESTIONS, RANKINGS, describe_coverage
from llmlog_consumer.checks.report import Reporter
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    load_settings,
    parse_when,
)
from llmlog_consumer.cli.output import complain, say, write_bars, write_json, write_table
from llmlog_consumer.elasticsearch.patience import PatientElastic

_TIMEOUT_SECONDS = 30.0
_ERROR_CHARACTERS = 80


ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="WHAT", help=f"Group by one of {', '.join(QUESTIONS)}; "
                 f"or list single calls: {', '.join(RANKINGS)}."),
]  # fmt: skip
TopOption = Annotated[
    int, typer.Option("--top", min=1, max=10_000, help="With --by: so many rows at most.")
]
CsvOption = Annotated[bool, typer.Option("--csv", help="With --by: print CSV, all columns.")]


def report(
    since: SinceOption = None,
    by: ByOption = None,
    top: TopOption = 20,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    config: ConfigOption = None,
) -> None:
    """Show cost by model, response times and recent errors; or, with --by, one question's answer.

    A report that leaves something out says so, and the exit code is 4.

    Example: pipeline report --by team --since 24h
    """
    if by is not None and by not in (*QUESTIONS, *RANKINGS):
        known = ", ".join((*QUESTIONS, *RANKINGS))
        raise typer.BadParameter(f"--by {by}: it has to be one of {known}")
    if as_csv and (by is None or as_json):
        raise typer.BadParameter("--csv goes with --by, and not with --json")
    settings = load_settings(config)
    since_ms = None if since is None else parse_when(since)
    elastic = PatientElastic(settings, timeout=_TIMEOUT_SECONDS, announce=complain)
    reporter = Reporter(
        elastic,
        settings.index,
        complain,
        groups=settings.groups,
        period=settings.index_period,
    )
    if by is None:
        result = reporter.report(since_ms)
    else:
        result = reporter.report_by(by, top, since_ms)
        if coverage := describe_coverage(result):
            complain(coverage)
    if as_json:
        write_json(result)
    elif by is None:
        _print(result)
    elif as_csv:
        _write_csv(result["rows"])
    else:
        _print_rows(result)
    if result["left_out"]:
        raise ElasticsearchError(f"not everything is counted: {'; '.join(result['left_out'])}")


def _write_csv(rows: list[dict[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _print_rows(result: dict[str, Any]) -> None:
    """Print the columns in which any row has something."""
    rows = result["rows"]
    say(f"{result['events']} events")
    if rows:
        names = [name for name in rows[0] if any(row[name] not in {None, 0} for row in rows)]
        write_table(tuple(names), [tuple(row[name] for name in names) for row in rows])
        if result["by"] in QUESTIONS and len(rows) > 1:
            _draw(result["by"], rows)
    if result.get("others"):
        say(f"{result['others']} more events are in groups that --top leaves out")


def _draw(by: str, rows: list[dict[str, Any]]) -> None:
    """Draw the cost of each row; the events of each where nothing has a cost."""
    what = "total_cost" if any(row["total_cost"] for row in rows) else "events"
    if sys.stdout.isatty():
        say(f"\n{what} by {by}{' (USD)' if what == 'total_cost' else ''}")
    write_bars([(str(row.get("name") or row[by]), row[what] or 0) for row in rows])


def _print(result: dict[str, Any]) -> None:
    say(f"{result['events']} events\n\nCost by model (USD)")
    write_table(
        ("model", "events", "failures", "total_cost", "total_tokens", "avg_response_time"),
        [tuple(row.values()) for row in result["models"]],
    )
    if result["others"]:
        say(f"{result['others']} more events are of models that cost less than these")
    say("\nResponse time (seconds)")
    write_table(tuple(result["response_time"]), [tuple(result["response_time"].values())])
    say("\nRecent errors")
    write_table(
        ("at", "model", "class", "error", "litellm_call_id"),
        [
            (
                e["at"],
                e["model"],
                e["error_class"],
                (e["error"] or "")[:_ERROR_CHARACTERS],
                e["litellm_call_id"],
            )
            for e in result["errors"]
        ],
    )

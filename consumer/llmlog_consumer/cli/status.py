"""`pipeline status`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from llmlog_common.errors import Unreachable
from llmlog_consumer.checks.status import Health
from llmlog_consumer.checks.status_reader import read_status
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import draw_table, paint, repeat, say, write_json, write_table
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from rich.table import Table

    from llmlog_consumer.checks.status import PartitionStatus, Status

_WATCH_SECONDS = 2.0
_WORST = 10
"""Partitions that the live screen shows, however many there are."""
_BAR_CHARACTERS = 20
_COLOURS = {
    Health.CURRENT: "bold green",
    Health.BEHIND: "bold yellow",
    Health.UNHEALTHY: "bold red",
    Health.STOPPED: "bold red",
    Health.STUCK: "bold red",
}
_HEADINGS = (
    "partition",
    "committed",
    "log start",
    "log end",
    "lag",
    "behind s",
    "in flight",
    "worker",
)


def status(
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Again every two seconds; on a terminal, a live screen."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say whether the dashboards are current, and how far behind; then the numbers.

    Asks Kafka alone: workers commit a note on their state beside their offsets. The exit code is 0
    where the dashboards are current, 10 behind, 11 unhealthy, 12 stopped or stuck.

    Example: pipeline status --watch
    """
    settings = load_settings(config)
    admin = KafkaAdmin(settings)
    offsets = KafkaOffsets(admin)
    code = 0
    is_live = watch and not as_json and sys.stdout.isatty()
    screen = Live(auto_refresh=False, transient=False) if is_live else None

    def show() -> bool:
        nonlocal code
        try:
            current = read_status(settings, admin, offsets)
        except Unreachable as error:
            if not watch:
                raise
            # Whoever watches wants to see the end of it too.
            code = error.exit_code
            if screen is not None:
                screen.update(Text(f"error: {error}", style="bold red"), refresh=True)
            else:
                typer.echo(f"error: {error}", err=True)
            return True
        code = current.health.exit_code
        if as_json:
            write_json(current.as_json())
        elif screen is not None:
            columns = Console().width
            screen.update(draw_screen(current, columns), refresh=True)
        else:
            _print(current)
        return watch

    with screen or nullcontext():
        repeat(show, _WATCH_SECONDS)
    raise typer.Exit(code)


def draw_screen(status: Status, columns: int) -> Group:
    """Return the live screen: verdict, problems, the flow, and the partitions that are worst.

    Args:
        status: of this moment.
        columns: of the terminal.
    """
    parts: list[Text | Table] = [Text(status.verdict, style=_COLOURS[status.health])]
    parts += [Text(f"  also: {problem.text}") for problem in status.problems[1:]]
    parts += [Text(""), Text(_summary(status)), Text("")]
    worst = sorted(status.partitions, key=_badness, reverse=True)[:_WORST]
    most = max((p.place.lag for p in worst), default=0)
    rows = [
        (p.number, p.place.lag, _bar(p.place.lag, most), _behind(p), p.in_flight, p.worker or None)
        for p in worst
    ]
    headings = ("partition", "lag", "", "behind s", "in flight", "worker")
    parts.append(draw_table(headings, rows, shorten="worker", columns=columns))
    if left := len(status.partitions) - len(worst):
        parts.append(Text(f"and {left} partitions that are no worse", style="dim"))
    return Group(*parts)


def _badness(partition: PartitionStatus) -> tuple[bool, int, int]:
    place = partition.place
    return place.state.is_out_of_range, place.lag, partition.behind_ms or 0


def _bar(lag: int, most: int) -> str:
    return "█" * max(1, round(_BAR_CHARACTERS * lag / most)) if lag else "·"


def _behind(partition: PartitionStatus) -> int | None:
    return None if partition.behind_ms is None else round(partition.behind_ms / 1000)


def _summary(status: Status) -> str:
    letters = "no dead-letter topic" if status.letters is None else f"{status.letters} dead letters"
    return (
        f"{status.group} on {status.topic}: {status.members} workers, {status.state}; "
        f"{status.rate:g} records/s, {status.in_flight} in flight, {status.lag} waiting; {letters}"
    )


def _print(status: Status) -> None:
    say(paint(status.verdict, _COLOURS[status.health]))
    for problem in status.problems[1:]:
        say(f"  also: {problem.text}")
    say(f"\n{_summary(status)}\n")
    rows = [
        (
            p.number,
            p.place.committed,
            p.place.log and p.place.log.start,
            p.place.log and p.place.log.end,
            "OUT OF RANGE" if p.place.state.is_out_of_range else p.place.lag,
            _behind(p),
            p.in_flight,
            p.worker or None,
        )
        for p in status.partitions
    ]
    write_table(_HEADINGS, rows)

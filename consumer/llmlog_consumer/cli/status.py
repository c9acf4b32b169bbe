"""`pipeline status`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from llmlog_common.errors import Unreachable
from llmlog_consumer.checks.status import Status
from llmlog_consumer.checks.status_reader import read_status
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import repeat, say, write_json, write_table
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

_WATCH_SECONDS = 2.0
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
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
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

    def show() -> bool:
        nonlocal code
        try:
            current = read_status(settings, admin, offsets)
        except Unreachable as error:
            if not watch:
                raise
            # Whoever watches wants to see the end of it too.
            code = error.exit_code
            typer.echo(f"error: {error}", err=True)
            return True
        code = current.health.exit_code
        if as_json:
            write_json(current.as_json())
        else:
            _print(current, clear=watch)
        return watch

    repeat(show, _WATCH_SECONDS)
    raise typer.Exit(code)


def _print(status: Status, *, clear: bool) -> None:
    if clear:
        Console().clear()
    say(status.verdict)
    for problem in status.problems[1:]:
        say(f"  also: {problem.text}")
    letters = "no dead-letter topic" if status.letters is None else f"{status.letters} dead letters"
    say(
        f"\n{status.group} on {status.topic}: {status.members} workers, {status.state}; "
        f"{status.rate:g} records/s, {status.in_flight} in flight, {status.lag} waiting; "
        f"{letters}\n"
    )
    rows = [
        (
            p.number,
            p.place.committed,
            p.place.log and p.place.log.start,
            p.place.log and p.place.log.end,
            "OUT OF RANGE" if p.place.state.is_out_of_range else p.place.lag,
            None if p.behind_ms is None else round(p.behind_ms / 1000),
            p.in_flight,
            p.worker or None,
        )
        for p in status.partitions
    ]
    write_table(_HEADINGS, rows)

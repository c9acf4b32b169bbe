"""`pipeline status`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from llmlog_common.settings import load
from llmlog_consumer.checks import status as current
from llmlog_consumer.cli.options import ConfigOption, JsonOption, say, write_json, write_table
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

_EVERY = 2.0


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say whether the dashboards are current, and how far behind; then the numbers.

    Asks Kafka alone: workers leave a note on their state beside the offsets they commit.

    Example: pipeline status --watch
    """
    settings = load(config=config)
    admin = KafkaAdmin(settings)
    offsets = KafkaOffsets(admin)
    while True:
        found = current.look(settings, admin, offsets)
        if as_json:
            write_json(found.as_json())
        else:
            _print(found, clear=watch)
        if not watch:
            return
        time.sleep(_EVERY)


def _print(found: current.Status, *, clear: bool) -> None:
    if clear:
        Console().clear()
    say(found.verdict)
    for more in found.unhealthy[1:]:
        say(f"  also: {more}")
    letters = "no dead-letter topic" if found.letters is None else f"{found.letters} dead letters"
    say(
        f"\n{found.group} on {found.topic}: {found.members} workers, {found.state}; "
        f"{found.rate:g} records/s, {found.in_flight} in flight, {found.lag} waiting; "
        f"{letters}\n"
    )
    write_table(
        (
            "partition", "committed", "log start", "log end", "lag", "behind s", "in flight",
            "worker",
        ),
        [
            (
                p.number, p.committed, p.start, p.end, "OUT OF RANGE" if p.out_of_range else p.lag,
                None if p.behind_ms is None else round(p.behind_ms / 1000), p.in_flight,
                p.worker or None,
            )
            for p in found.partitions
        ],
    )  # fmt: skip

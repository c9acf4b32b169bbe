"""`pipeline offsets show | accept-gap`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.cli.options import ConfigOption, JsonOption, say, write_json, write_table
from llmlog_consumer.kafka.admin import Gap, KafkaAdmin

app = typer.Typer(help="Where the group stands, and what retention took.", no_args_is_help=True)


@app.command("show")
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show committed offset, log start and log end of each partition, and accepted gaps.

    Example: pipeline offsets show
    """
    settings = load(config=config)
    admin = KafkaAdmin(settings)
    partitions = range(admin.require(settings.topic).partitions)
    # The ends come last: what is written and committed meanwhile does not lie behind them.
    committed = admin.committed(settings.topic, partitions)
    marks = admin.watermarks(settings.topic, partitions)
    gaps = admin.gaps(settings.topic)
    rows = [
        (f"{settings.topic}/{p}", committed.get(p), start, end,
         _state(committed.get(p), start, end), gaps.get(p, []))
        for p, (start, end) in marks.items()
    ]  # fmt: skip
    if as_json:
        names = ("partition", "committed", "log_start", "log_end", "state")
        for row in rows:
            accepted = [{"first": g.first, "next": g.next, "accepted_at": g.at} for g in row[-1]]
            write_json(dict(zip(names, row, strict=False)) | {"gaps": accepted})
        return
    write_table(
        ("partition", "committed", "log start", "log end", "state", "accepted gaps"),
        [(*row[:-1], " ".join(f"{g.first}..{g.next}" for g in row[-1]) or None) for row in rows],
    )


@app.command("accept-gap")
def accept_gap(
    partition: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION", help="As `offsets show` prints it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Accept that retention took records before they were indexed, and move on behind them.

    The gap is recorded, and `pipeline verify` reports it. Running workers move on by themselves;
    otherwise the next start does.

    Example: pipeline offsets accept-gap litellm-logs/3
    """
    settings = load(config=config)
    admin = KafkaAdmin(settings)
    topic, _, text = partition.rpartition("/")
    partitions = admin.require(settings.topic).partitions
    if topic != settings.topic or not text.isdigit() or int(text) >= partitions:
        raise ConfigurationError(
            f"{partition!r} is not a partition of {settings.topic}: "
            f"{settings.topic}/0 to {settings.topic}/{partitions - 1}"
        )
    number = int(text)
    # The end comes last: what is written and committed meanwhile does not lie behind it.
    place = admin.committed(settings.topic, [number]).get(number)
    start, end = admin.watermarks(settings.topic, [number])[number]
    if place is None or start <= place <= end:
        raise ConfigurationError(
            f"{partition} has no gap: committed {place}, log {start} to {end}; nothing was changed"
        )
    say(f"{partition}: {_gap(place, start, end)}")
    if not yes:
        typer.confirm("Record this gap and move on?", abort=True)
    admin.accept_gap(settings.topic, number, Gap(place, start, int(time.time() * 1000)))
    say(f"accepted: reading goes on at {start}")


def _gap(place: int, start: int, end: int) -> str:
    if place > end:
        return (
            f"the log ends at offset {end}, before the committed {place}: the topic was cut off or "
            f"made anew; everything it has now, from {start} on, is read"
        )
    return f"offsets {place} to {start} ({start - place} records at most) are no longer there"


def _state(committed: int | None, start: int, end: int) -> str:
    if committed is None:
        return "not begun"
    if committed < start:
        return "out of range: retention has deleted what comes next"
    if committed > end:
        return "out of range: the log ends before it"
    return "current" if committed == end else "behind"

"""The commands `pipeline offsets show`, `accept-gap` and `reset`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings, parse_when
from llmlog_consumer.cli.output import say, write_json, write_table
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_consumer.kafka.reset import apply_moves, plan_moves, require_stopped
from llmlog_consumer.kafka.watch.damage import Damage, DamageSearch
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from llmlog_consumer.kafka.places import Log, Place
    from llmlog_consumer.kafka.reset import Move

app = typer.Typer(help="Where the group stands, and where it goes on.", no_args_is_help=True)

_EARLIEST: Final = "earliest"
_LATEST: Final = "latest"


def describe_gap(log: Log, committed: int) -> str:
    """Return what is missing between a committed offset and the log, for the operator."""
    if committed > log.end:
        return (
            f"the log ends at offset {log.end}, before the committed {committed}: the topic was "
            f"truncated or recreated; all of its records, from {log.start} on, are read"
        )
    number = log.start - committed
    return f"offsets {committed} to {log.start} ({number} records at most) are deleted"


def require_gap(place: Place) -> tuple[Gap, str]:
    """Return the gap of a partition that has one, accepted now, and what is missing.

    Raises:
        ConfigurationError: the log has the group's next offset, or no leader tells.
    """
    log, committed = place.log, place.committed
    if log is None or committed is None or not place.state.is_out_of_range:
        bounds = "without a leader" if log is None else f"{log.start} to {log.end}"
        raise ConfigurationError(
            f"{place.name} has no gap: committed {committed}, log {bounds}; nothing was changed"
        )
    return Gap(committed, log.start, int(time.time() * 1000)), describe_gap(log, committed)


@app.command("show")
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show committed offset, log start and log end of each partition, and accepted gaps.

    Example: pipeline offsets show
    """
    settings = load_settings(config)
    admin = KafkaAdmin(settings)
    rows = KafkaOffsets(admin).places(settings.topic)
    gaps = AcceptedGaps(admin).of_topic(settings.topic)
    if as_json:
        for p, row in rows.items():
            write_json(_as_json(row, gaps.get(p, [])))
        return
    write_table(
        ("partition", "committed", "log start", "log end", "state", "accepted gaps"),
        [
            (
                row.name,
                row.committed,
                row.log and row.log.start,
                row.log and row.log.end,
                row.state,
                " ".join(f"{g.first}..{g.next}" for g in gaps.get(p, ())) or None,
            )
            for p, row in rows.items()
        ],
    )


@app.command("accept-gap")
def accept_gap(
    partition: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION", help="As `offsets show` prints it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Accept that records cannot be read any more, and move on behind them.

    Retention deleted them before they were indexed, a batch is damaged on its broker's disk, or the
    log was truncated.

    The gap is recorded, and `pipeline verify` reports it. Running workers move on by themselves;
    otherwise the next start does.

    Example: pipeline offsets accept-gap litellm-logs/3
    """
    settings = load_settings(config)
    admin = KafkaAdmin(settings)
    number = _parse_partition(partition, settings.topic, admin.require(settings.topic).partitions)
    place = KafkaOffsets(admin).places(settings.topic, [number])[number]
    damage = None if place.state.is_out_of_range else find_damage(admin, place, number)
    why = describe_damage(damage) if damage else require_gap(place)[1]
    if not as_json:
        say(f"{partition}: {why}")
    if not yes:
        typer.confirm("Record this gap and move on?", abort=True, err=as_json)
    # The question may have stood for a while: the gap is accepted now.
    if damage is not None:
        gap = Gap(damage.first, damage.next, int(time.time() * 1000))
    else:
        gap, _ = require_gap(KafkaOffsets(admin).places(settings.topic, [number])[number])
    AcceptedGaps(admin).accept(settings.topic, number, gap)
    if as_json:
        row = {"partition": partition, "first": gap.first, "next": gap.next, "why": why}
        write_json({**row, "accepted_at": iso(gap.at)})
    else:
        say(f"accepted: reading goes on at {gap.next}")


@app.command("reset")
def reset(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHEN|earliest|latest",
            help="Where to go on: `24 hours` ago, an ISO 8601 time, or one side of the log.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the moves alone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Move a group whose workers are stopped to another place of the topic.

    What is read again lands on the documents that are there. What is skipped is recorded as an
    accepted gap, which `pipeline verify` reports. Shows the moves, then asks.

    Example: pipeline offsets reset --to "2 hours"
    """
    since_ms = None if to in (_EARLIEST, _LATEST) else parse_when(to)
    if not (dry_run or yes or sys.stdin.isatty()):
        raise ConfigurationError(
            "there is no terminal to ask for confirmation on: give --yes, or --dry-run to see first"
        )
    settings = load_settings(config)
    admin = KafkaAdmin(settings)
    offsets = KafkaOffsets(admin)
    require_stopped(admin)
    places = offsets.places(settings.topic)
    first = {} if since_ms is None else offsets.offsets_at(settings.topic, places, since_ms)

    def target_of(partition: int, log: Log) -> int:
        if since_ms is None:
            return log.start if to == _EARLIEST else log.stable_end
        return first.get(partition, log.stable_end)

    moves = plan_moves(places, target_of)
    _print_moves(moves, as_json=as_json)
    if dry_run:
        return
    if not yes:
        typer.confirm("Move the group?", abort=True, err=True)
    apply_moves(admin, moves, int(time.time() * 1000))
    if not as_json:
        say(f"group {settings.group} goes on there: start the workers again")


def _print_moves(moves: list[Move], *, as_json: bool) -> None:
    if as_json:
        for move in moves:
            write_json(_move_as_json(move))
        return
    rows = [(m.place.name, m.place.committed, m.target, m.read_again, m.skipped) for m in moves]
    write_table(("partition", "from", "to", "read again", "skipped"), rows)
    if again := sum(move.read_again for move in moves):
        say(f"{again} records at most are read again, and make no second document")
    if skipped := sum(move.skipped for move in moves):
        say(f"{skipped} records at most are never read: accepted gaps, which `verify` reports")


def find_damage(admin: KafkaAdmin, place: Place, partition: int) -> Damage | None:
    """Return what the broker cannot give behind the group's place; None where all can be read."""
    settings = admin.settings
    places = admin.list_group_offsets(settings.group, settings.topic)
    epochs = {p.partition: p.leader_epoch for p in places if p.leader_epoch is not None}
    log, committed = place.log, place.committed
    if log is None or committed is None or committed >= log.end:
        return None
    with DamageSearch(settings, settings.topic, partition) as search:
        return search.find(committed, epochs.get(partition, -1), log.start, log.end)


def describe_damage(damage: Damage) -> str:
    """Return what cannot be read, for the operator."""
    if damage.next <= damage.first:
        return f"{damage.why}; the log is read again from offset {damage.next} on"
    number = damage.next - damage.first
    return (
        f"offsets {damage.first} to {damage.next} ({number} records at most) are damaged: "
        f"{damage.why}"
    )


def _parse_partition(text: str, topic: str, partitions: int) -> int:
    name, _, number = text.rpartition("/")
    if name != topic or not number.isdigit() or int(number) >= partitions:
        raise ConfigurationError(
            f"{text!r} is not a partition of {topic}: {topic}/0 to {topic}/{partitions - 1}"
        )
    return int(number)


def _as_json(row: Place, gaps: list[Gap]) -> dict[str, Any]:
    return {
        "partition": row.name,
        "committed": row.committed,
        "log_start": row.log and row.log.start,
        "log_end": row.log and row.log.end,
        "last_stable": row.log and row.log.stable_end,
        "state": row.state,
        "gaps": [{"first": g.first, "next": g.next, "accepted_at": iso(g.at)} for g in gaps],
    }


def _move_as_json(move: Move) -> dict[str, Any]:
    return {
        "partition": move.place.name,
        "from": move.place.committed,
        "to": move.target,
        "read_again": move.read_again,
        "skipped": move.skipped,
    }

"""The commands `pipeline offsets show` and `pipeline offsets accept-gap`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.cli.options import ConfigOption, JsonOption
from llmlog_consumer.cli.output import say, write_json, write_table
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(help="Where the group stands, and what retention deleted.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """The group's place in one partition.

    Attributes:
        name: `topic/partition`.
        committed: next offset of the group; None where it has none.
        log_start: first offset that the log has.
        log_end: next offset of the log.
    """

    name: str
    committed: int | None
    log_start: int
    log_end: int

    @property
    def has_gap(self) -> bool:
        """Tell whether the log does not have the group's next offset."""
        return self.committed is not None and not self.log_start <= self.committed <= self.log_end

    @property
    def state(self) -> str:
        """Return the state as a word, with the reason where it is out of range."""
        if self.committed is None:
            return "not begun"
        if self.committed < self.log_start:
            return "out of range: retention has deleted the next record"
        if self.committed > self.log_end:
            return "out of range: the log ends before the committed offset"
        return "current" if self.committed == self.log_end else "behind"

    @property
    def gap_description(self) -> str:
        """Return what is missing between the committed offset and the log, for the operator."""
        committed, start, end = self.committed or 0, self.log_start, self.log_end
        if committed > end:
            return (
                f"the log ends at offset {end}, before the committed {committed}: the topic was "
                f"truncated or recreated; all of its records, from {start} on, are read"
            )
        return f"offsets {committed} to {start} ({start - committed} records at most) are deleted"


def read_offsets(
    offsets: KafkaOffsets, topic: str, partitions: Iterable[int]
) -> dict[int, PartitionOffsets]:
    """Return the group's place in each of these partitions.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    # The log ends are read last: otherwise records that are written and committed meanwhile would
    # look as if the log ended before the committed offset.
    committed = offsets.committed(topic, partitions)
    marks = offsets.watermarks(topic, partitions)
    return {
        p: PartitionOffsets(f"{topic}/{p}", committed.get(p), start, end)
        for p, (start, end) in marks.items()
    }


def require_gap(place: PartitionOffsets) -> Gap:
    """Return the gap of a partition that has one; accepted now.

    Raises:
        ConfigurationError: the log has the group's next offset.
    """
    if place.committed is None or not place.has_gap:
        raise ConfigurationError(
            f"{place.name} has no gap: committed {place.committed}, log {place.log_start} to "
            f"{place.log_end}; nothing was changed"
        )
    return Gap(place.committed, place.log_start, int(time.time() * 1000))


@app.command("show")
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show committed offset, log start and log end of each partition, and accepted gaps.

    Example: pipeline offsets show
    """
    settings = load(config=config)
    admin = KafkaAdmin(settings)
    partitions = range(admin.require(settings.topic).partitions)
    rows = read_offsets(KafkaOffsets(admin), settings.topic, partitions)
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
                row.log_start,
                row.log_end,
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
    config: ConfigOption = None,
) -> None:
    """Accept that retention deleted records before they were indexed, and move on behind them.

    The gap is recorded, and `pipeline verify` reports it. Running workers move on by themselves;
    otherwise the next start does.

    Example: pipeline offsets accept-gap litellm-logs/3
    """
    settings = load(config=config)
    admin = KafkaAdmin(settings)
    number = _parse_partition(partition, settings.topic, admin.require(settings.topic).partitions)
    row = read_offsets(KafkaOffsets(admin), settings.topic, [number])[number]
    require_gap(row)
    say(f"{partition}: {row.gap_description}")
    if not yes:
        typer.confirm("Record this gap and move on?", abort=True)
    # The question may have stood for a while: the gap is accepted now.
    gap = require_gap(row)
    AcceptedGaps(admin).accept(settings.topic, number, gap)
    say(f"accepted: reading goes on at {gap.next}")


def _parse_partition(text: str, topic: str, partitions: int) -> int:
    name, _, number = text.rpartition("/")
    if name != topic or not number.isdigit() or int(number) >= partitions:
        raise ConfigurationError(
            f"{text!r} is not a partition of {topic}: {topic}/0 to {topic}/{partitions - 1}"
        )
    return int(number)


def _as_json(row: PartitionOffsets, gaps: list[Gap]) -> dict[str, Any]:
    return {
        "partition": row.name,
        "committed": row.committed,
        "log_start": row.log_start,
        "log_end": row.log_end,
        "state": row.state,
        "gaps": [{"first": g.first, "next": g.next, "accepted_at": g.at} for g in gaps],
    }

"""`pipeline dlq replay`."""

from __future__ import annotations

import signal
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from llmlog_common.errors import ConfigurationError, PipelineError
from llmlog_common.settings import Settings, load
from llmlog_consumer import provision
from llmlog_consumer.cli.dlq.options import (
    FingerprintOption,
    IndexOption,
    LimitOption,
    ModelOption,
    PartitionOption,
    ReasonOption,
    StageOption,
    chosen,
)
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    Progress,
    SinceOption,
    UntilOption,
    complain,
    say,
    write_json,
    write_table,
)
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.dead_letters.record import record_of
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.replay.plan import DryRun, ReplayPolicy
from llmlog_consumer.replay.scan import ReplayScan
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_consumer.delivery.pipeline import Delivery
    from llmlog_consumer.replay import replay

_SOURCE = "@source"
_FATES = ("send", "there", "dies", "expired", "looped", "gone")


class OptionalTopic(TyperCommand):
    """`--to-topic` without a name is each letter's source topic."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fill the name in."""
        filled = [
            f"{word}={_SOURCE}"
            if word == "--to-topic" and (following is None or following.startswith("-"))
            else word
            for word, following in zip(args, [*args[1:], None], strict=True)
        ]
        return super().parse_args(ctx, filled)


def replay_letters(
    since: SinceOption = None,
    until: UntilOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    index: IndexOption = None,
    partition: PartitionOption = None,
    model: ModelOption = None,
    limit: LimitOption = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", min=0.01, help="At most N a second.")
    ] = None,
    to_topic: Annotated[
        str | None,
        typer.Option(
            "--to-topic",
            metavar="[TOPIC]",
            help="Send the records to a topic instead of indexing; default each one's source.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also letters that died again after three replays.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Index dead letters again, once what they died of is mended.

    What has a document already stays as it is, so that a run that was cut off is run again. What
    dies again is a letter again, and is not read twice. Ctrl-C stops after what is in flight.

    Example: pipeline dlq replay --fingerprint 2f6c1b9d04aa --dry-run
    """
    from llmlog_consumer import log_setup as logs

    wanted = chosen(since, until, stage, reason, fingerprint, index, partition, model)
    if not (dry_run or yes or sys.stdin.isatty()):
        raise ConfigurationError("nobody can be asked here: say --yes, or --dry-run to see first")
    settings = load(config=config)
    logs.configure()
    gate = ReplayPolicy(settings, force)
    elastic = None
    if to_topic is None:
        elastic = Elastic(settings)
        provision.require_template(elastic, settings.index)
    else:
        _require_target(settings, to_topic)
    rows: list[dict[str, Any]] = []
    with Progress() as progress:
        there = DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        # Nobody who has said yes waits until everything was read.
        sweep = (
            ReplayScan(settings, there.topic, there.ranges, wanted) if yes and not dry_run else None
        )
        if suspicion := (sweep or there).suspicion:
            raise ConfigurationError(suspicion)
        if sweep is None:
            plan = DryRun(gate, elastic, Registry.from_settings(settings))
            rows = plan.of(islice(there.newest(wanted, content=True), limit))
    _say_plan(rows, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    if not yes and not (rows and typer.confirm("Replay?", err=True)):
        return
    stop = _Stop()
    with Progress() as progress:
        total = sum(row["letters"] for row in rows)
        there.progress = None
        if sweep is not None:
            sweep.progress, sweep.stopping = progress, stop
        runner = _runner(
            settings, gate, elastic, to_topic,
            stopping=stop, rate=rate, progress=lambda done: progress("replaying", done, total),
        )  # fmt: skip
        finished = False
        try:
            records = sweep or map(record_of, there.newest(wanted, content=True))
            finished = runner.run(islice(records, limit))
        finally:
            _say_counts(runner.counts, as_json=as_json)
    if not finished:
        raise PipelineError("stopped before the end: run it again, nothing is done twice")


def _require_target(settings: Settings, to_topic: str) -> None:
    if to_topic == settings.dlq_topic:
        raise ConfigurationError(
            f"--to-topic {to_topic} is the dead-letter topic: each record would be one more letter "
            "there, of another name; leave the name out to send each to its source"
        )
    if to_topic != _SOURCE:
        KafkaAdmin(settings).require(to_topic)


class _Stop:
    """The first signal stops after what is in flight; the second ends the process at once."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def __call__(self) -> bool:
        return self._asked

    def _signalled(self, number: int, _frame: object) -> None:
        self._asked = True
        signal.signal(number, signal.SIG_DFL)


def _runner(
    settings: Settings, gate: ReplayPolicy, elastic: Elastic | None, to_topic: str | None,
    *, stopping: Callable[[], bool], rate: float | None, progress: Callable[[int], None],
) -> replay.Indexing | replay.ToTopic:  # fmt: skip
    from llmlog_consumer.delivery.pipeline import Delivery
    from llmlog_consumer.kafka.producer import KafkaProducer
    from llmlog_consumer.replay import replay

    if elastic is None:
        topic = None if to_topic == _SOURCE else to_topic
        producer: KafkaProducer[None] = KafkaProducer(settings)
        return replay.ToTopic(
            gate, topic, producer, stopping=stopping, rate=rate, progress=progress
        )
    partitions = KafkaAdmin(settings).require(settings.dlq_topic).partitions

    def delivery(settle: Any) -> Delivery:
        return Delivery.from_settings(settings, elastic, partitions, settle)

    return replay.Indexing(gate, delivery, stopping=stopping, rate=rate, progress=progress)


def _say_plan(rows: list[dict[str, Any]], *, dry_run: bool, as_json: bool) -> None:
    if not (rows or dry_run):
        return
    total = sum(row["letters"] for row in rows)
    if as_json and dry_run:
        write_json({"total": total, "fingerprints": rows})
        return
    tell: Callable[[str], None] = say if dry_run else complain
    if dry_run:
        headings = ("letters", "fingerprint", "stage", *_FATES)
        write_table(headings, [[row[name] for name in headings] for row in rows])
    else:
        for row in rows:
            fates = ", ".join(f"{row[fate]} {fate}" for fate in _FATES if row[fate])
            complain(f"{row['fingerprint']} {row['stage'] or '-'}: {fates}")
    tell(f"{total} letters" + (_LEGEND if total else ""))


_LEGEND = (
    "; send: would be indexed or sent; there: has its document already; dies: would be a letter "
    "again; expired: too old for an index; looped: died again after three replays (--force); "
    "gone: truncated, and the source has the original no more"
)


def _say_counts(counts: Any, *, as_json: bool) -> None:
    names = ("indexed", "duplicate", "dead", "expired", "sent", "looped", "gone")
    found = {name: counts[name] for name in names}
    if as_json:
        write_json(found)
        return
    done = ", ".join(f"{count} {name}" for name, count in found.items() if count)
    say(done or "no letters")

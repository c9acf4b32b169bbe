"""Owns the command `pipeline dlq replay`."""

from __future__ import annotations

import signal
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from llmlog_common.errors import ConfigurationError, PipelineError
from llmlog_common.settings import Settings
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.cli.dlq.options import LimitOption, with_filter_options
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings, user_name
from llmlog_consumer.cli.output import Progress, complain, say, write_json, write_table
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.mending.changes import parse_changes
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.dead_letters.record import build_record
from llmlog_consumer.elasticsearch.patience import PatientElastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.provision.requirements import require_template
from llmlog_consumer.replay.plan import SOURCE_TOPIC
from llmlog_consumer.replay.scan import ReplayScan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.filters import GroupFilter
    from llmlog_consumer.dead_letters.mending.changes import Change
    from llmlog_consumer.kafka.audit import AuditLog
    from llmlog_consumer.replay.replay import ReplayRun


class OptionalTopic(TyperCommand):
    """A command whose `--to-topic` may stand without a name: each record's source topic."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fill the missing name in."""
        completed = [
            f"{word}={SOURCE_TOPIC}"
            if word == "--to-topic" and (following is None or following.startswith("-"))
            else word
            for word, following in zip(args, [*args[1:], None], strict=True)
        ]
        return super().parse_args(ctx, completed)


@with_filter_options
def replay_letters(
    wanted: Filter,
    limit: LimitOption = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", min=0.01, help="At most N a second.")
    ] = None,
    to_set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Mend: give a field this value; again."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="FIELD", help="Mend: take a field away; again."),
    ] = None,
    coerce: Annotated[
        list[str] | None,
        typer.Option(
            "--coerce", metavar="FIELD=TYPE", help="Mend: make its value one of a type; again."
        ),
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
        bool, typer.Option("--force", help="Also letters that failed again after three replays.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    show_content: Annotated[
        bool,
        typer.Option("--show-content", help="Of changes, print a value before and after."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Index dead letters again, once their cause is fixed.

    A document that exists stays as it is, so an interrupted run is simply run again. A record that
    fails again becomes a letter again, which this run does not read. Changes mend the records on
    their way: drops first, then types, then values. Ctrl-C stops after what is in flight.

    Example: pipeline dlq replay --fingerprint 2f6c1b9d04aa --dry-run
    """
    if not (dry_run or yes or sys.stdin.isatty()):
        raise ConfigurationError(
            "there is no terminal to ask for confirmation on: give --yes, or --dry-run to see first"
        )
    from llmlog_consumer.kafka.audit import AuditLog
    from llmlog_consumer.replay.replay import ReplayRun
    from llmlog_consumer.replay.wiring import new_dry_run, new_policy, new_replay

    changes = parse_changes(drop=drop or (), coerce=coerce or (), to_set=to_set or ())
    settings = load_settings(config)
    audit = AuditLog(settings, "dlq replay")
    if show_content and changes:
        audit.write(user_name(), "contents", wanted.describe())
    elastic = _require_target(settings, to_topic)
    rows: list[dict[str, Any]] = []
    mending = None
    with Progress() as progress:
        dead_letters = DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        scan = None
        if yes and not dry_run:  # without a dry run, replaying begins before everything was read
            scan = ReplayScan(settings, dead_letters, wanted)
        if warning := (scan or dead_letters).topic_warning:
            raise ConfigurationError(warning)
        if scan is None:
            plan = new_dry_run(new_policy(settings, changes, force=force), elastic)
            rows = plan.report(islice(dead_letters.read_newest(wanted, content=True), limit))
            mending = plan.report_changes(show_content=show_content)
    _print_plan(rows, mending, dry_run=dry_run, as_json=as_json)
    _complain_of_others(dead_letters.groups)
    if dry_run or not (yes or (rows and typer.confirm("Replay?", err=True))):
        return
    _write_down(audit, wanted, changes, to_topic=to_topic, limit=limit, force=force)
    stop = StopOnSignal()
    dead_letters.progress = None
    policy = new_policy(settings, changes, by=user_name(), force=force)
    with Progress() as progress:
        total = sum(row["letters"] for row in rows)
        if scan is not None:
            scan.progress, scan.stopping = progress, stop
        run = ReplayRun(policy, stop, rate, lambda done: progress("replaying", done, total))
        replay = new_replay(settings, run, to_topic)
        is_finished = False
        try:
            records = scan or map(build_record, dead_letters.read_newest(wanted, content=True))
            is_finished = replay.run(islice(records, limit))
        finally:
            _print_run(run, as_json=as_json)
    _complain_of_others(dead_letters.groups)
    if not is_finished:
        raise PipelineError("stopped before the end: run it again, nothing is replayed twice")


def _complain_of_others(groups: GroupFilter) -> None:
    if others := groups.describe_others():
        complain(f"{others}; replay them with LLMLOG_GROUP and LLMLOG_INDEX of that group")


def _write_down(
    audit: AuditLog, wanted: Filter, changes: Sequence[Change], **details: object
) -> None:
    """Write down who replays, before it happens."""
    action = "mend" if changes else "replay"
    if changes:
        details["changes"] = [change.describe() for change in changes]
    audit.write(user_name(), action, wanted.describe(), **details)


def _require_target(settings: Settings, to_topic: str | None) -> PatientElastic | None:
    """Check that letters can be replayed; return Elasticsearch where they go into the index."""
    if to_topic is None:
        elastic = PatientElastic(settings, announce=complain)
        require_template(elastic, settings.index)
        return elastic
    if to_topic == settings.dlq_topic:
        raise ConfigurationError(
            f"--to-topic {to_topic} is the dead-letter topic: each record would become a second "
            "letter there; leave the name out to send each record to its source topic"
        )
    if to_topic != SOURCE_TOPIC:
        KafkaAdmin(settings).require(to_topic)
    return None


class StopOnSignal:
    """The request to stop, made by a signal; calling it tells whether it was made.

    The first signal stops after what is in flight, the second ends the process at once. The signal
    handler writes `_requested`, the main thread reads it.
    """

    def __init__(self) -> None:
        self._requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        """Tell whether a signal came."""
        return self._requested

    def _on_signal(self, number: int, _frame: object) -> None:
        self._requested = True
        signal.signal(number, signal.SIG_DFL)


def _print_plan(
    rows: list[dict[str, Any]],
    mending: dict[str, Any] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json and dry_run:
        total = sum(row["letters"] for row in rows)
        write_json({"total": total, "fingerprints": rows, "mending": mending})
    elif dry_run:
        table = views.dry_run_table(rows)
        write_table(table.headings, table.rows)
        for line in views.mending_lines(mending):
            say(line)
        say(views.dry_run_summary(rows))
    elif rows:
        for line in [*views.plan_lines(rows), *views.mending_lines(mending)]:
            complain(line)
        complain(views.dry_run_summary(rows))


def _print_run(run: ReplayRun, *, as_json: bool) -> None:
    row = views.count_outcomes(run.counts)
    if as_json:
        write_json(row)
    else:
        say(views.run_summary(row))
    mending = run.policy.mending
    for line in views.problem_lines(mending.problems if mending else {}):
        complain(line)

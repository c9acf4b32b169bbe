"""`pipeline verify`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlog_common.errors import BehindError, DifferenceError, ElasticsearchError
from llmlog_consumer.checks.sources import Sources
from llmlog_consumer.checks.verify import Verifier
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    UntilOption,
    load_settings,
    parse_when,
)
from llmlog_consumer.cli.output import Progress, complain, say, write_json, write_table

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.proof import Proof
    from llmlog_consumer.checks.verify import Scope
    from llmlog_consumer.checks.verify_metrics import VerifyMetrics

_WATCH_SECONDS = 30.0
_MAX_ROWS = 20
_HEADINGS = (
    "events",
    "documents",
    "dead letters",
    "recovered",
    "dropped",
    "retired",
    "skipped",
    "lost",
    "doubled",
    "conflict",
    "unknown",
)


def verify(
    since: SinceOption = None,
    until: UntilOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with records committed meanwhile.")
    ] = False,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics",
            min=1,
            max=65_535,
            metavar="PORT",
            help="With --watch: serve counts to Prometheus, and go on after a difference.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Prove that every event on the topic is one document or one dead letter.

    Reads the topic from its start to the committed offsets, and looks every event up behind the
    alias. The exit code is 7 when something is lost or doubled, 4 when events cannot be looked up.

    Example: pipeline verify --since 24h --json
    """
    if watch and until:
        raise typer.BadParameter("--until cannot be combined with --watch, which has no end")
    if metrics and not watch:
        raise typer.BadParameter("--metrics goes with --watch: there is nothing to scrape else")
    settings = load_settings(config)
    told = _serve(metrics) if metrics else None
    with Progress() as progress, _probe(settings, told):
        verifier = Verifier(Sources.connect(settings, progress, announce=complain))
        scope = verifier.scope(
            parse_when(since) if since else None, parse_when(until) if until else None
        )
        proof = (
            _watch(verifier, scope, settings.topic, told, as_json=as_json)
            if watch
            else verifier.verify(scope)
        )
    if as_json and not watch:
        write_json(proof.as_json())
    elif not as_json:
        _print(proof, settings.index)
    for note in proof.notes:
        complain(note)
    if proof.has_difference:
        raise DifferenceError(_summary(proof))
    if proof.unknown_count:
        raise ElasticsearchError(
            f"{_count_events(proof.unknown_count)} could not be looked up, and nothing is said of "
            f"them: {'; '.join(proof.unreadable)}"
        )
    if proof.held_back:
        raise BehindError(_describe_held_back(proof))


def _serve(port: int) -> VerifyMetrics:
    from llmlog_consumer.checks.verify_metrics import VerifyMetrics

    told = VerifyMetrics()
    told.serve(port)
    return told


def _probe(settings: Settings, told: VerifyMetrics | None) -> AbstractContextManager[object]:
    """Return what measures, while metrics are told, how long a search takes to find events."""
    if told is None:
        return nullcontext()
    from llmlog_consumer.checks.searchable import probe_of

    return probe_of(settings, told.add_search)


def _watch(
    verifier: Verifier, scope: Scope, topic: str, told: VerifyMetrics | None, *, as_json: bool
) -> Proof:
    """Verify round by round; return the proof of the first round with a difference.

    Where metrics are told, a difference is printed and counted, and the next round follows.
    """
    while True:
        proof = verifier.verify(scope)
        _print_line(proof, as_json=as_json)
        if told is not None:
            told.add(proof)
        if proof.has_difference or proof.unknown_count:
            if told is None:
                return proof
            complain(_summary(proof))
        if proof.held_back:
            complain(_describe_held_back(proof))
        for note in proof.notes:
            complain(note)
        time.sleep(_WATCH_SECONDS)
        scope = verifier.next_scope(scope)
        for partition in scope.restarted:
            complain(
                f"{topic}/{partition}: the group has settled less than the round before verified, "
                "because the topic was recreated or the group was moved back: it is verified again "
                f"from offset {scope.ranges[partition][0]} on"
            )


def _print(proof: Proof, alias: str) -> None:
    unknown = "event was looked up" if proof.unknown_count else "record can be checked yet"
    verdict = "DIFFERENCE" if proof.has_difference else f"UNKNOWN: not every {unknown}"
    say("OK: nothing lost, nothing doubled" if proof.ok else verdict)
    say("")
    counts = (
        proof.events,
        proof.documents,
        proof.dead_letters,
        proof.recovered,
        proof.dropped,
        proof.retired,
        proof.skipped,
        proof.lost_count,
        proof.doubled_count,
        proof.conflict_count,
        proof.unknown_count,
    )
    write_table(_HEADINGS, [counts])
    for row in proof.accepted_gaps:
        say(f"gap accepted: {row['partition']} from {row['first']} to {row['next']}")
    if proof.deleted_while_reading:
        say(
            f"retention deleted {proof.deleted_while_reading} offsets while the topic was read: "
            "records of them that were not read yet are not verified"
        )
    for row in proof.unaccepted_gaps:
        say(_describe_gap(row))
    for row in proof.lost[:_MAX_ROWS]:
        say(f"lost: {row['event_id'] or 'unreadable record'} {' '.join(row['coordinates'])}")
    for row in proof.doubled[:_MAX_ROWS]:
        say(f"doubled: {row['event_id']} in {' '.join(row['indices'])}")
    for row in proof.conflict[:_MAX_ROWS]:
        places = " ".join(row["coordinates"])
        say(f"conflict: {row['event_id']} has different documents in {places}")
    for row in proof.not_behind_alias:
        say(
            f"{_count_events(row['events'])} found in {row['index']}, which is not behind {alias}: "
            "users do not find them; run `pipeline setup`"
        )
    for row in proof.unknown:
        say(f"unknown: {_count_events(row['events'])}, {row['why']}")
    if proof.lost_count + proof.doubled_count + proof.conflict_count > _MAX_ROWS:
        say("--json names them all")


def _summary(proof: Proof) -> str:
    """Return what is wrong, in one line; what may be there is named, what is not is left out."""
    more = {
        "in conflict": proof.conflict_count,
        "not behind the alias": proof.hidden.total(),
        "gaps not accepted": len(proof.unaccepted_gaps),
        "unknown": proof.unknown_count,
    }
    parts = [f"{proof.lost_count} lost", f"{proof.doubled_count} doubled"]
    return ", ".join(parts + [f"{count} {what}" for what, count in more.items() if count])


def _count_events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _describe_held_back(proof: Proof) -> str:
    total = sum(row["records"] for row in proof.held_back)
    where = ", ".join(
        f"{row['partition']} from {row['first']} to {row['next']}" for row in proof.held_back
    )
    return (
        f"{total} records at most are behind an open transaction and cannot be checked yet: "
        f"{where}; see `pipeline status`"
    )


def _describe_gap(row: dict[str, Any]) -> str:
    recreated = row["next"] < row["first"]
    problem = (
        "topic recreated, and nothing of the new one is read"
        if recreated
        else "gap not accepted, records were deleted before they were read"
    )
    return (
        f"{problem}: {row['partition']} from {row['first']} to {row['next']}: "
        f"run `pipeline offsets accept-gap {row['partition']}`"
    )


def _print_line(proof: Proof, *, as_json: bool) -> None:
    if as_json:
        write_json(proof.as_json())
    elif proof.ok:
        deleted = proof.deleted_while_reading
        note = f", {deleted} offsets deleted by retention while reading" if deleted else ""
        say(
            f"ok: {proof.events} events, {proof.documents} documents, "
            f"{proof.dead_letters} dead letters{note}"
        )

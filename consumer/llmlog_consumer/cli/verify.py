"""`pipeline verify`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from llmlog_common.errors import DifferenceError
from llmlog_common.settings import load
from llmlog_consumer.checks.verify import Verifier
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    Progress,
    SinceOption,
    UntilOption,
    complain,
    moment,
    say,
    write_json,
    write_table,
)
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from llmlog_consumer.checks.verify import Proof

_EVERY = 30.0
_SHOWN = 20


def verify(
    since: SinceOption = None,
    until: UntilOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what is committed meanwhile.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Prove that every event on the topic is one document or one dead letter.

    Reads the topic from its start to the committed offsets, and looks every event up. The exit
    code is 7 when something is lost or doubled.

    Example: pipeline verify --since 24h --json
    """
    if watch and until:
        raise typer.BadParameter("--until ends where --watch goes on")
    settings = load(config=config)
    elastic = Elastic(settings)
    admin = KafkaAdmin(settings)
    with Progress() as progress:
        verifier = Verifier(
            settings,
            KafkaOffsets(admin),
            AcceptedGaps(admin),
            elastic,
            Registry.from_settings(settings),
            progress=progress,
        )
        ranges = verifier.ranges(moment(since) if since else None, moment(until) if until else None)
        while True:
            proof = verifier.prove(ranges)
            if not watch:
                break
            _print_line(proof, as_json=as_json)
            if not proof.ok:
                break
            time.sleep(_EVERY)
            ranges, anew = verifier.onwards(ranges)
            for partition in anew:
                complain(
                    f"{settings.topic}/{partition}: less of it is settled than was proved: the "
                    "topic was made anew, or the group was moved back; it is proved again from "
                    f"offset {ranges[partition][0]} on"
                )
    if as_json and not watch:
        write_json(proof.as_json())
    elif not as_json:
        _print(proof)
    if not proof.ok:
        gone = f", {len(proof.overtaken)} partitions overtaken" if proof.overtaken else ""
        raise DifferenceError(f"{proof.lost_count} lost, {proof.doubled_count} doubled{gone}")


def _print(proof: Proof) -> None:
    say("OK: nothing lost, nothing doubled" if proof.ok else "DIFFERENCE")
    say("")
    write_table(
        ("events", "documents", "dead letters", "recovered", "expired", "lost", "doubled"),
        [
            (
                proof.events, proof.documents, proof.dead_letters, proof.recovered, proof.expired,
                proof.lost_count, proof.doubled_count,
            )
        ],
    )  # fmt: skip
    for row in proof.gaps:
        say(f"gap accepted: {row['partition']} from {row['first']} to {row['next']}")
    if proof.taken:
        say(f"retention took {proof.taken} offsets meanwhile: unproved where they were not read")
    for row in proof.overtaken:
        anew = row["next"] < row["first"]
        said = "made anew, and nothing of it is read" if anew else "gone before it was read"
        say(
            f"{said}: {row['partition']} from {row['first']} to {row['next']}: "
            f"`pipeline offsets accept-gap {row['partition']}`"
        )
    for row in proof.lost[:_SHOWN]:
        say(f"lost: {row['event_id'] or 'unreadable record'} {' '.join(row['coordinates'])}")
    for row in proof.doubled[:_SHOWN]:
        say(f"doubled: {row['event_id']} in {' '.join(row['indices'])}")
    if proof.lost_count + proof.doubled_count > _SHOWN:
        say("--json names them all")


def _print_line(proof: Proof, *, as_json: bool) -> None:
    if as_json:
        write_json(proof.as_json())
    elif proof.ok:
        taken = f", {proof.taken} offsets taken by retention meanwhile" if proof.taken else ""
        say(f"ok: {proof.events} events, {proof.documents} documents, "
            f"{proof.dead_letters} dead letters{taken}")  # fmt: skip

"""The options that choose letters, shared by the commands of `pipeline dlq`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmlog_consumer.cli.options import moment
from llmlog_consumer.dead_letters.filters import Filter

StageOption = Annotated[
    str | None,
    typer.Option("--stage", metavar="STAGE", help="decode, transform, oversize or index."),
]
ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Only where the error says this, in any case."),
]
FingerprintOption = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="FINGERPRINT", help="Only letters of this cause."),
]
IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="INDEX", help="Only letters for this index; * for anything."),
]
PartitionOption = Annotated[
    int | None,
    typer.Option("--partition", metavar="N", min=0, help="Only of this partition of the source."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Only of this model; * for anything."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")
]
ContentOption = Annotated[
    bool,
    typer.Option("--show-content", help="Print values, prompts, answers and metadata too."),
]


def chosen(
    since: str | None, until: str | None, stage: str | None, reason: str | None,
    fingerprint: str | None, index: str | None, partition: int | None, model: str | None,
) -> Filter:  # fmt: skip
    """Return what these options choose."""
    return Filter(
        None if since is None else moment(since),
        None if until is None else moment(until),
        stage, reason, fingerprint, index, partition, model,
    )  # fmt: skip

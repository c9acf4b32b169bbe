"""Owns the options that choose letters, which the commands of `pipeline dlq` share."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from llmlog_consumer.cli.dlq.completion import complete_fingerprint
from llmlog_consumer.cli.options import SinceOption, UntilOption, parse_when
from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.dead_letters.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Callable

StageOption = Annotated[
    Stage | None,
    typer.Option("--stage", metavar="STAGE", help="decode, transform, expired, oversize or index."),
]
ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Only where the error says this, in any case."),
]
FingerprintOption = Annotated[
    str | None,
    typer.Option(
        "--fingerprint",
        metavar="FINGERPRINT",
        help="Only letters of this cause.",
        autocompletion=complete_fingerprint,
    ),
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
EventIdOption = Annotated[
    str | None,
    typer.Option("--event-id", metavar="ID", help="Only of this event."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")
]
ContentOption = Annotated[
    bool,
    typer.Option("--show-content", help="Print values, prompts, answers and metadata too."),
]
AllGroupsOption = Annotated[
    bool, typer.Option("--all-groups", help="Also letters of other groups than LLMLOG_GROUP.")
]

_FILTER_OPTIONS: Final[dict[str, Any]] = {
    "since": SinceOption,
    "until": UntilOption,
    "stage": StageOption,
    "reason": ReasonOption,
    "fingerprint": FingerprintOption,
    "index": IndexOption,
    "partition": PartitionOption,
    "model": ModelOption,
    "event_id": EventIdOption,
}


def with_filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that choose letters before its own.

    Typer reads the options from the signature, so they are added to it.

    Args:
        command: takes a `Filter`, and its own options after it.
    """
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    options = (
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=of
        )
        for name, of in _FILTER_OPTIONS.items()
    )
    signature = inspect.Signature([*options, *own], return_annotation=None)

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        chosen = {name: bound.arguments.pop(name) for name in _FILTER_OPTIONS}
        since, until = chosen.pop("since"), chosen.pop("until")
        wanted = Filter(
            since_ms=None if since is None else parse_when(since),
            until_ms=None if until is None else parse_when(until),
            **chosen,
        )
        command(wanted, **bound.arguments)

    vars(run)["__signature__"] = signature
    run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    return run

"""`pipeline trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.checks.sources import Sources
from llmlog_consumer.checks.trace import Trace, Tracer
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    load_settings,
    parse_when,
)
from llmlog_consumer.cli.output import Progress, complain, say, write_json, write_table

_TIMEOUT_SECONDS = 30.0


def trace(
    call_id: Annotated[
        str,
        typer.Argument(
            metavar="LITELLM_CALL_ID", help="As LiteLLM's x-litellm-call-id; or an event id."
        ),
    ],
    since: SinceOption = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Read the topics even if the index knows the call.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say where a request is: in the index, on the topic, or among the dead letters.

    The index is searched first. Where it has no document of the request, both topics are read to
    their present end, from --since on. The exit code is 1 when there is no trace of the request.

    Example: pipeline trace 5a0cb3e2-7f55-4d43-b9c7-0a4b1d1b6f10 --since 24h
    """
    if not call_id:
        raise ConfigurationError("an empty litellm_call_id names no request")
    settings = load_settings(config)
    with Progress() as progress:
        sources = Sources.connect(settings, progress, timeout=_TIMEOUT_SECONDS, announce=complain)
        since_ms = None if since is None else parse_when(since)
        result = Tracer(sources).trace(call_id, since_ms=since_ms, scan=scan)
    if as_json:
        write_json(result.as_json())
    else:
        _print(result)
    for note in result.notes:
        complain(note)
    if not result.found:
        raise typer.Exit(1)


def _print(result: Trace) -> None:
    say(result.verdict)
    _print_rows("documents", result.documents)
    _print_rows("records", result.records)
    _print_rows("dead letters", result.dead_letters, shorten="cause")


def _print_rows(title: str, rows: list[dict[str, object]], *, shorten: str | None = None) -> None:
    if rows:
        say(f"\n{title}")
        write_table(list(rows[0]), [list(row.values()) for row in rows], shorten=shorten)

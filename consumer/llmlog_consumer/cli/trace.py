"""`pipeline trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.checks.trace import Tracer
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    Progress,
    SinceOption,
    moment,
    say,
    write_json,
    write_table,
)
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.registry import Registry


def trace(
    call_id: Annotated[
        str, typer.Argument(metavar="LITELLM_CALL_ID", help="As LiteLLM's x-litellm-call-id.")
    ],
    since: SinceOption = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Read the topics even if the index knows the call.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say where a request is: in the index, on the topic, or among the dead letters.

    The index is asked first. Only what it does not know is looked for by reading both topics to
    their present end, from --since on. The exit code is 1 when there is no trace of the request.

    Example: pipeline trace 5a0cb3e2-7f55-4d43-b9c7-0a4b1d1b6f10 --since 24h
    """
    if not call_id:
        raise ConfigurationError("an empty litellm_call_id names no request")
    settings = load(config=config)
    with Progress() as progress:
        tracer = Tracer(
            settings, KafkaOffsets(KafkaAdmin(settings)), Elastic(settings, timeout=30),
            Registry.from_settings(settings), progress,
        )  # fmt: skip
        after = None if since is None else moment(since)
        found = tracer.trace(call_id, since_ms=after, scan=scan)
    if as_json:
        write_json(found.as_json())
    else:
        say(found.verdict)
        for title, rows in (
            ("documents", found.documents),
            ("records", found.records),
            ("letters", found.letters),
        ):
            if rows:
                say(f"\n{title}")
                cut = "cause" if title == "letters" else None
                write_table(list(rows[0]), [list(row.values()) for row in rows], cut=cut)
    if not found.found:
        raise typer.Exit(1)

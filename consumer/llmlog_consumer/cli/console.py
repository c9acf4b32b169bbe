"""Owns `pipeline console`: the web page of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.cli.options import ConfigOption

_LIBRARIES = ("anyio", "itsdangerous", "jinja2", "starlette", "uvicorn")


def console(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="To listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535)] = 8765,
    socket: Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="A Unix socket in the place of an address."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option("--url", metavar="URL", help="Under which people reach it; again for more."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Lines of NAME ROLE,ROLE TOKEN."),
    ] = None,
    proxy_from: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy-from", metavar="ADDRESS", help="Of a proxy that names people; again for more."
        ),
    ] = None,
    proxy_secret_file: Annotated[
        Path | None,
        typer.Option(
            "--proxy-secret-file", metavar="FILE", help="With what that proxy sends as a proof."
        ),
    ] = None,
    grant: Annotated[
        list[str] | None,
        typer.Option(
            "--grant", metavar="GROUP=ROLE,ROLE", help="For a group that a proxy names; again."
        ),
    ] = None,
    allow_replay: Annotated[
        bool, typer.Option("--allow-replay", help="Let people replay dead letters.")
    ] = False,
    runbook: Annotated[
        str,
        typer.Option("--runbook", metavar="URL", help="Of your copy of our docs, for links."),
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Serve the console: flow, usage, calls, dead letters and health on a web page.

    On this machine it prints a link that opens it once. Elsewhere people log in with a token of a
    file, or by a proxy in front. Roles are numbers, contents and replay. Ctrl-C ends it.

    Example: pipeline console --allow-replay
    """
    settings = load(config=config)
    try:
        from llmlog_consumer.console.options import Options
        from llmlog_consumer.console.server import run, say_to_stderr
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        raise ConfigurationError(
            "the console needs more: install the wheel with its extra, `[console]`"
        ) from None
    options = Options(
        host=host,
        port=port,
        socket=socket,
        urls=url or (),
        token_file=token_file,
        proxy_from=proxy_from or (),
        proxy_secret_file=proxy_secret_file,
        grants=grant or (),
        allow_replay=allow_replay,
        runbook=f"{runbook.rstrip('/')}/" if runbook else "",
    )
    run(settings, options, say_to_stderr)

"""The tree of commands."""

from __future__ import annotations

import typer

from llmlog_consumer.cli import (
    consume,
    local,
    offsets,
    produce,
    report,
    setup,
    status,
    trace,
    verify,
    version,
)
from llmlog_consumer.cli.dlq.commands import app as dlq

app = typer.Typer(
    name="pipeline",
    help="Every LiteLLM call as exactly one Elasticsearch document, through Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def set_up() -> None:
    """Send log lines of any command to stderr; stdout is for data alone."""
    from llmlog_consumer import log_setup

    log_setup.configure()


app.command("setup")(setup.setup)
app.command("consume")(consume.consume)
app.command("produce")(produce.produce)
app.command("status")(status.status)
app.command("verify")(verify.verify)
app.command("trace")(trace.trace)
app.add_typer(offsets.app, name="offsets")
app.add_typer(dlq, name="dlq")
app.command("report")(report.report)
app.add_typer(local.app, name="local")
app.command("version")(version.version)

"""The tree of commands."""

from __future__ import annotations

from llmlog_consumer.cli import (
    console,
    consume,
    doctor,
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
from llmlog_consumer.cli.options import new_app
from llmlog_consumer.cli.sizing import commands as sizing

app = new_app()
app.command("setup")(setup.setup)
app.command("doctor")(doctor.doctor)
app.command("consume")(consume.consume)
app.command("produce")(produce.produce)
app.command("status")(status.status)
app.command("verify")(verify.verify)
app.command("trace")(trace.trace)
app.add_typer(offsets.app, name="offsets")
app.add_typer(dlq, name="dlq")
app.command("report")(report.report)
app.command("size")(sizing.size)
app.command("console")(console.console)
app.add_typer(local.app, name="local")
app.command("version")(version.version)

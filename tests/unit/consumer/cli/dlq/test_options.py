"""The options that choose letters: added by one decorator to every command that filters."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.dlq.options import with_filter_options
from llmlog_consumer.dead_letters.cause import Stage
from llmlog_consumer.dead_letters.filters import Filter

FILTER_OPTIONS = [
    "--since",
    "--until",
    "--stage",
    "--reason",
    "--fingerprint",
    "--index",
    "--partition",
    "--model",
]


def options_of(command):
    dlq = get_command(app).commands["dlq"]
    return [name for parameter in dlq.commands[command].params for name in parameter.opts]


@pytest.mark.parametrize("command", ["list", "stats", "export", "replay"])
def test_every_command_that_reads_letters_filters_them_alike(command):
    assert options_of(command)[: len(FILTER_OPTIONS)] == FILTER_OPTIONS


def test_showing_one_letter_takes_no_filter():
    assert not set(FILTER_OPTIONS) & set(options_of("show"))


def run(arguments):
    """Return the filter and the own option that a command was called with."""
    calls = []
    commands = typer.Typer()

    @commands.command()
    @with_filter_options
    def command(wanted: Filter, own: Annotated[int, typer.Option("--own")] = 1) -> None:
        """Do something."""
        calls.append((wanted, own))

    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    return calls[0]


def test_without_options_the_filter_has_no_condition():
    assert run([]) == (Filter(), 1)


def test_each_option_is_one_condition():
    arguments = ["--since", "1970-01-01T00:00:02", "--until", "1970-01-01T00:00:03"]
    arguments += ["--stage", "index", "--reason", "r", "--fingerprint", "f", "--index", "i"]
    arguments += ["--partition", "4", "--model", "m", "--own", "5"]
    wanted, own = run(arguments)
    assert wanted == Filter(2000, 3000, "index", "r", "f", "i", 4, "m")
    assert own == 5


def test_a_command_can_be_called_as_a_function():
    calls = []

    @with_filter_options
    def command(wanted: Filter, own: int = 1) -> None:
        calls.append((wanted, own))

    command(stage="decode", own=2)
    assert calls == [(Filter(stage="decode"), 2)]


@pytest.mark.parametrize("command", ["list", "stats", "export", "replay"])
@pytest.mark.parametrize("typo", ["indx", "INDEX", "", "decode,index"])
def test_a_stage_that_there_is_not_is_refused_with_those_that_there_are(command, typo):
    result = CliRunner().invoke(app, ["dlq", command, "--stage", typo])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert all(f"'{stage}'" in said for stage in Stage)

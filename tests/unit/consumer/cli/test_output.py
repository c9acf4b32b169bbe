"""Tables on a terminal: nothing that people copy is cut, and numbers stand under each other."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.output import draw_table, write_table
from support.commands import leaves

EVENT_ID = "AZtXgOIAPqM4wrx7hCk_"
ROWS = [
    ("litellm-logs-of-production/11/123456789", EVENT_ID, "litellm-logs-2026.01.31", 7, "x" * 90),
    ("litellm-logs/0/1", EVENT_ID, "litellm-logs-2026.01.31", None, "short"),
]
HEADINGS = ("coordinates", "event_id", "index", "attempts", "cause")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(monkeypatch):
    """Return a function that writes a table to a terminal of 80 columns, and returns it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def write(shorten):
        with redirect_stdout(Terminal()) as stream:
            write_table(HEADINGS, ROWS, shorten=shorten)
        return stream.getvalue()

    return write


@pytest.mark.parametrize("shorten", [None, "cause"])
def test_ids_and_coordinates_are_whole_on_a_terminal_of_80_columns(written, shorten):
    lines = written(shorten).splitlines()
    for coordinates, event_id, index, *_ in ROWS:
        (line,) = [one for one in lines if coordinates in one]
        assert event_id in line
        assert index in line


def test_the_column_that_may_be_shortened_is_shortened_alone(written):
    assert "x" * 90 not in written("cause")
    assert "xxx…" in written("cause")


def drawn(table, columns=200):
    console = Console(width=columns, file=io.StringIO(), force_terminal=False)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_a_column_of_numbers_is_aligned_right_and_others_left():
    lines = drawn(draw_table(("number", "text"), [(5, 1), (12345678, "2")]))
    assert lines[1].startswith("       5  1")
    assert lines[2].startswith("12345678  2")


def test_a_column_without_any_number_is_no_column_of_numbers():
    lines = drawn(draw_table(("longer heading", "b"), [(None, "x")]))
    assert lines[1].startswith("-")


@pytest.mark.parametrize("shorten", [None, "cause"])
def test_the_width_is_that_of_the_longest_line(shorten):
    table = draw_table(HEADINGS, ROWS, shorten=shorten, columns=170)
    assert table.width == max(len(line.rstrip()) for line in drawn(table, 300))


def test_every_command_has_json():
    """`dlq export` writes NDJSON alone, `local logs` the logs of others, `console` a page."""
    without = {
        name
        for name, command in leaves(get_command(app), "pipeline")
        if "--json" not in {option for one in command.params for option in one.opts}
    }
    assert without == {"pipeline console", "pipeline dlq export", "pipeline local logs"}


def test_the_version_is_printed_by_an_option_too():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    versions = json.loads(CliRunner().invoke(app, ["version", "--json"]).stdout)
    assert done.stdout == f"pipeline {versions['llmlog-pipeline']}\n"

"""What commands share: `--since` is a duration or a time; piped tables are one row a line."""

import io
from datetime import UTC, datetime

import pytest
import typer

from llmlog_consumer.cli.options import parse_when
from llmlog_consumer.cli.output import draw_table, write_json, write_table

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24 hours", 86_400), ("7d", 604_800), ("90 s", 90), ("1.5h", 5400), ("0", 0)],
)
def test_a_duration_ends_now(text, seconds):
    when = parse_when(text, clock=lambda: 1_767_225_600.5)
    assert when == 1_767_225_600_500 - seconds * 1000


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "20260101",
        "2026-01-01T00:00",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T02:00+02:00",
        "2025-12-31T19:00:00-05:00",
    ],
)
def test_a_time_without_a_zone_is_utc(text):
    assert parse_when(text) == NEW_YEAR


@pytest.mark.parametrize("text", ["", "yesterday", "24 parsecs", "-1h", "2026-13-01", "1e3", "300"])
def test_a_value_that_is_neither_duration_nor_time_is_refused_by_name(text):
    with pytest.raises(typer.BadParameter) as caught:
        parse_when(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59+00:00", "999999999 days"])
def test_times_far_away_do_not_crash(text):
    assert isinstance(parse_when(text), int)


def test_a_piped_table_is_one_row_a_line_whatever_its_cells_hold(capsys):
    write_table(("a", "b"), [("x\ty\nz", None), (0.1 + 0.2, 10**6), ("ü", "[red]no markup[/]")])
    assert capsys.readouterr().out == "a\tb\nx y z\t-\n0.3\t1000000\nü\t[red]no markup[/]\n"


def test_json_is_one_line(capsys):
    write_json({"a": "x\ny", "b": float("nan"), "c": None})
    assert capsys.readouterr().out == '{"a":"x\\ny","b":null,"c":null}\n'


def test_on_a_terminal_one_column_is_shortened_and_the_others_stay_whole():
    from rich.console import Console

    rows = [("topic.with.a.name/3/17", "2f6c1b9d04aa", "word " * 50)]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(draw_table(("where", "print", "cause"), rows, shorten="cause", columns=60))
    _, line = console.export_text().splitlines()
    assert line.startswith("topic.with.a.name/3/17  2f6c1b9d04aa  word")
    assert line.rstrip().endswith("…")

"""What `pipeline report --by` prints: a table, JSON, CSV, and bars on a terminal."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
from typer.testing import CliRunner

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.checks.breakdown import QUESTIONS, RANKINGS
from llmlog_consumer.cli import report
from llmlog_consumer.cli.app import app

NAMES = ("events", "failures", "cache_hits", "total_cost", "saved_cost", "prompt_tokens",
         "duration_p50")  # fmt: skip
COVERED = {"events": 10, "share": 1.0, "since": "2026-01-01T00:00:00+00:00"}


def row(by: str, key: str, cost: float, **more: Any) -> dict[str, Any]:
    return {by: key, **more, **dict.fromkeys(NAMES, 0), "events": 5, "total_cost": cost}


class Reporter:
    """Gives the answer that a test wants, and remembers the question."""

    answer: dict[str, Any]
    asked: list[tuple[Any, ...]]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def report_by(self, *question: Any) -> dict[str, Any]:
        self.asked.append(question)
        return self.answer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(monkeypatch):
    """Return the answer that the command gets; a test may change it."""
    rows = [row("day", f"2026-01-0{n}", cost) for n, cost in ((1, 0.5), (2, 2.0), (3, 0.0))]
    found = {"events": 10, "by": "day", "covered": COVERED, "rows": rows, "others": 0,
             "left_out": []}  # fmt: skip
    monkeypatch.setattr(report, "Reporter", Reporter)
    Reporter.answer, Reporter.asked = found, []
    return found


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


def shown(monkeypatch, columns: int = 60) -> list[str]:
    """Return the lines of the answer on a terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with redirect_stdout(Terminal()) as stream:
        report.report(by=Reporter.answer["by"])
    return stream.getvalue().splitlines()


def test_columns_in_which_no_row_has_anything_are_left_out(answer):
    done = run("--by", "day", "--top", "3")
    assert done.stdout.splitlines() == [
        "10 events",
        "day\tevents\ttotal_cost",
        "2026-01-01\t5\t0.5",
        "2026-01-02\t5\t2",
        "2026-01-03\t5\t0",
    ]
    assert Reporter.asked == [("day", 3, None)]


def test_csv_has_all_columns(answer):
    (first, *_) = csv.DictReader(io.StringIO(run("--by", "day", "--csv").stdout))
    assert tuple(first) == ("day", *NAMES)
    assert first["total_cost"] == "0.5"


def test_csv_of_no_rows_is_empty(answer):
    answer["rows"] = []
    assert run("--by", "day", "--csv").stdout == ""


def test_json_is_the_whole_answer(answer):
    assert json.loads(run("--by", "day", "--json").stdout) == answer


def test_what_top_leaves_out_and_what_is_not_covered_is_said(answer):
    answer |= {"others": 7, "covered": {**COVERED, "events": 8, "share": 0.8}}
    done = run("--by", "day")
    assert "7 more events are in groups that --top leaves out" in done.stdout
    assert "8 of 10 events (80.0%) have derived fields" in done.stderr


def test_what_is_not_counted_ends_the_command(answer):
    answer["left_out"] = ["logs-2026.01.01 is closed"]
    done = run("--by", "day")
    assert isinstance(done.exception, ElasticsearchError)
    assert str(done.exception) == "not everything is counted: logs-2026.01.01 is closed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--by", "moon"), "has to be one of"),
        (("--csv",), "--csv goes with --by"),
        (("--by", "day", "--csv", "--json"), "--csv goes with --by"),
    ],
)
def test_a_question_that_there_is_not_is_refused(answer, arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_the_help_names_every_question():
    text = "".join(run("--help").stdout.split())
    assert all(name in text for name in (*QUESTIONS, *RANKINGS))


def test_a_terminal_shows_a_bar_for_each_group_as_long_as_its_cost(answer, monkeypatch):
    lines = shown(monkeypatch)
    at = lines.index("total_cost by day (USD)")
    first, second, third = lines[at + 1 :]
    assert 0.2 < first.count("█") / second.count("█") < 0.3
    assert "█" not in third
    assert (second.split()[0], second.split()[-1]) == ("2026-01-02", "2")
    assert max(map(len, lines[at:])) <= 60


def test_groups_are_named_where_they_have_a_name_and_long_ones_are_shortened(answer, monkeypatch):
    rows = [row("team", "t-1", 2.0, name="payments"), row("team", "x" * 90, 1.0, name=None)]
    answer |= {"by": "team", "rows": rows}
    lines = shown(monkeypatch)
    bars = lines[lines.index("total_cost by team (USD)") + 1 :]
    assert bars[0].startswith("payments ")
    assert "x…" in bars[1]
    assert max(map(len, bars)) <= 60


def test_events_are_drawn_where_nothing_has_a_cost(answer, monkeypatch):
    for one in answer["rows"]:
        one["total_cost"] = None
    assert "events by day" in shown(monkeypatch)


@pytest.mark.parametrize("rows", [[], [row("day", "2026-01-01", 2.0)]])
def test_one_group_alone_has_no_bar(answer, monkeypatch, rows):
    answer["rows"] = rows
    assert not [line for line in shown(monkeypatch) if "█" in line]


def test_single_calls_have_no_bars(answer, monkeypatch):
    calls = [{"at": "2026-01-01", "model": "m", "response_cost": cost} for cost in (1.0, 2.0)]
    answer |= {"by": "dearest", "rows": calls}
    assert not [line for line in shown(monkeypatch) if "█" in line]

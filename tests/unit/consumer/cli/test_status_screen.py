"""The live screen of `pipeline status --watch`, as a terminal of 80 columns shows it."""

from __future__ import annotations

import pytest
from rich.console import Console

from llmlog_consumer.checks.status import PartitionStatus, Status
from llmlog_consumer.cli.status import draw_screen
from llmlog_consumer.kafka.places import Log, Place

COLUMNS = 80


def partition(number: int, lag: int, behind_ms: int | None = 0, **more: object) -> PartitionStatus:
    place = Place("t", number, 100, Log(0, 100 + lag, 100 + lag))
    return PartitionStatus(place, behind_ms=behind_ms, **more)


def lines(status: Status) -> list[str]:
    console = Console(width=COLUMNS, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(draw_screen(status, COLUMNS))
    return shown.get().splitlines()


def test_of_any_number_of_partitions_the_ten_worst_are_shown_the_worst_first() -> None:
    status = Status("t", "g", "stable", 3, [partition(n, lag=n * 10) for n in range(200)])
    shown = lines(status)
    rows = [line.split() for line in shown if "█" in line]
    assert [int(row[0]) for row in rows] == list(range(199, 189, -1))
    assert rows[0][2] == "█" * 20
    assert "and 190 partitions that are no worse" in shown[-1]
    assert all(len(line) <= COLUMNS for line in shown)


def test_an_offset_that_the_log_does_not_have_comes_before_any_lag() -> None:
    gone = PartitionStatus(Place("t", 7, 500, Log(0, 100, 100)))
    status = Status("t", "g", "stable", 1, [partition(1, lag=10_000), gone])
    rows = [line.split()[0] for line in lines(status) if line.strip()[:1] in {"7", "1"}]
    assert rows[0] == "7"


@pytest.mark.parametrize("lag", [0, 1, 10**12])
def test_every_lag_has_a_bar_that_fits(lag: int) -> None:
    status = Status("t", "g", "stable", 1, [partition(0, lag), partition(1, 5)])
    shown = "\n".join(lines(status))
    assert str(lag) in shown
    assert shown.count("█") <= 40


def test_the_verdict_is_first_and_every_problem_is_named() -> None:
    status = Status("t", "g", "stable", 1, [partition(0, 0)], unhealthy=["one", "two"])
    shown = lines(status)
    assert shown[0] == status.verdict
    assert "also: two" in "\n".join(shown)

"""What `pipeline dlq replay` prints, and how it is confirmed and stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.cli.dlq.replay import StopOnSignal, replay_letters
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.replay.plan import ReplayOutcome

ROW = {
    "fingerprint": "2f6c1b9d04aa",
    "stage": "index",
    "letters": 3,
    "replay": 2,
    "already_indexed": 1,
    "would_fail": 0,
    "expired": 0,
    "too_many_replays": 0,
    "original_missing": 0,
    "cannot_mend": 0,
}


def test_the_table_of_a_dry_run_has_a_column_for_each_outcome():
    table = views.dry_run_table([ROW])
    assert table.headings == ("letters", "fingerprint", "stage", *list(ROW)[3:])
    assert table.rows == [[3, "2f6c1b9d04aa", "index", 2, 1, 0, 0, 0, 0, 0]]


def test_the_summary_of_a_dry_run_explains_every_outcome():
    summary = views.dry_run_summary([ROW, ROW])
    assert summary.startswith("6 letters; replay: ")
    assert all(f"; {outcome}: " in summary for outcome in ReplayOutcome)
    assert views.dry_run_summary([]) == "0 letters"


def test_before_it_asks_a_replay_names_the_outcomes_that_have_letters():
    assert views.plan_lines([ROW, {**ROW, "stage": None}]) == [
        "2f6c1b9d04aa index: 2 replay, 1 already_indexed",
        "2f6c1b9d04aa -: 2 replay, 1 already_indexed",
    ]


def test_a_run_prints_every_outcome_as_json_and_those_with_letters_as_text():
    row = views.count_outcomes({Outcome.INDEXED: 2, ReplayOutcome.TOO_MANY_REPLAYS: 1})
    assert row == {
        "indexed": 2,
        "duplicate": 0,
        "dead": 0,
        "dropped": 0,
        "sent": 0,
        "too_many_replays": 1,
        "original_missing": 0,
        "cannot_mend": 0,
    }
    assert views.run_summary(row) == "2 indexed, 1 too_many_replays"
    assert views.run_summary(views.count_outcomes({})) == "no letters"


def test_a_dry_run_says_what_each_change_would_do_and_what_cannot_be_mended():
    changed = {
        "change": "coerce", "field": "response_cost", "letters": 2, "absent": 1,
        "example": "AZtXgOIAPqM4wrx7hCk_", "before": None, "after": None,
    }  # fmt: skip
    problem = {"why": "response_cost has a text that cannot be of type double", "letters": 1}
    mending = {"changes": [changed], "problems": [problem]}
    said = "coerce response_cost: 2 letters, 1 without this field; for example AZtXgOIAPqM4wrx7hCk_"
    refused = "cannot mend 1 letter: response_cost has a text that cannot be of type double"
    assert views.mending_lines(mending) == [said, refused]
    shown = {**mending, "changes": [{**changed, "before": '"12"', "after": "12.0"}]}
    assert views.mending_lines(shown)[0] == f'{said}: "12" -> 12.0'
    assert views.mending_lines(None) == []


def test_without_a_terminal_a_run_has_to_be_confirmed_by_an_option(monkeypatch):
    with Path(os.devnull).open() as no_terminal:
        monkeypatch.setattr(sys, "stdin", no_terminal)
        with pytest.raises(ConfigurationError, match="--yes"):
            replay_letters()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_the_second_ends_the_process(number):
    former = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = StopOnSignal()
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        for n, handler in former.items():
            signal.signal(n, handler)

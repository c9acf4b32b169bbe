"""What the shell completes of dead letters."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from typer.testing import CliRunner

from llmlog_common.errors import KafkaError, KafkaUnreachable
from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.dlq import completion
from llmlog_consumer.cli.dlq.completion import (
    NEWEST_LETTERS,
    newest_of,
    suggest_coordinates,
    suggest_fingerprints,
    within,
)
from llmlog_consumer.dead_letters.letter import DeadLetter


def letter(offset: int, fingerprint: str, **headers: str) -> DeadLetter:
    given = {"fingerprint": fingerprint, "stage": "index", "es.type": "mapping", **headers}
    return DeadLetter("dlq", offset % 2, offset, None, None, given, timestamp_ms=offset)


LETTERS = [
    letter(1, "aaaaaaaaaaaa"),
    letter(2, "abbbbbbbbbbb", index="logs-1"),
    letter(3, "abbbbbbbbbbb", index="logs-1"),
    letter(4, "cccccccccccc"),
]


def test_fingerprints_are_those_of_most_letters_first_each_once() -> None:
    found = suggest_fingerprints(LETTERS, "")
    assert [name for name, _ in found] == ["abbbbbbbbbbb", "aaaaaaaaaaaa", "cccccccccccc"]
    assert found[0][1] == "2 letters, index mapping logs-1"
    assert suggest_fingerprints(LETTERS, "a")[1:] == [found[1]]
    assert suggest_fingerprints(LETTERS, "b") == []


def test_coordinates_are_the_newest_first() -> None:
    assert [name for name, _ in suggest_coordinates(LETTERS, "dlq/0")] == ["dlq/0/4", "dlq/0/2"]


def test_no_note_quotes_what_an_error_quotes() -> None:
    quoting = letter(1, "a" * 12, **{"es.reason": "failed to parse [secret words]"})
    assert "secret" not in str(
        suggest_coordinates([quoting], "") + suggest_fingerprints([quoting], "")
    )


@pytest.mark.parametrize("name", ["a; rm -rf ~", "$(id)", "a b", "a\nplain,b", "*", "é", "a" * 65])
def test_a_fingerprint_of_another_program_is_completed_only_as_one_plain_word(name: str) -> None:
    assert suggest_fingerprints([letter(1, name), letter(2, "f-1")], "") == [
        ("f-1", "1 letters, index mapping")
    ]


@pytest.mark.parametrize("text", ["a\nplain,b", "a\x1b[2J", "a\r", "x" * 9_000, "a\u202eb"])
def test_a_note_is_one_short_line_that_a_terminal_shows_as_it_is(text: str) -> None:
    odd = letter(1, "a" * 12, index=text)
    for _, note in suggest_coordinates([odd], "") + suggest_fingerprints([odd], ""):
        assert note.isprintable()
        assert len(note) <= 120


def test_the_newest_letters_of_each_partition_are_read() -> None:
    assert newest_of({0: (0, 10), 1: (5, 9_000), 2: (3, 3)}) == {
        0: (0, 10), 1: (9_000 - NEWEST_LETTERS, 9_000), 2: (3, 3)
    }  # fmt: skip


@pytest.mark.parametrize("error", [KafkaError("no right"), KafkaUnreachable("away")])
def test_servers_that_refuse_or_are_away_complete_nothing(error: Exception) -> None:
    def read() -> Any:
        raise error

    assert within(10, read) == []


def test_a_server_that_hangs_is_not_waited_for() -> None:
    hangs = threading.Event()

    def read() -> Any:
        hangs.wait()
        yield from LETTERS

    assert within(0.01, read) == []
    hangs.set()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pipeline dlq list --stage de", ["decode"]),
        ("pipeline dlq replay --fingerprint a", ["abbbbbbbbbbb", "aaaaaaaaaaaa"]),
        ("pipeline consume --accept c", ["cccccccccccc"]),
        ("pipeline dlq show dlq/1", ["dlq/1/3", "dlq/1/1"]),
    ],
)
def test_the_shell_gets_them(
    words: str, completed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "read_newest", lambda _: LETTERS)
    environment = {"_PIPELINE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    done = CliRunner().invoke(app, [], env=environment, prog_name="pipeline")
    assert done.stdout.split() == completed

"""Owns what the shell completes of dead letters: stages, causes, coordinates of the newest."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer  # noqa: TC002 - Typer reads annotations at run time

from llmlog_common.errors import PipelineError, Unreachable
from llmlog_common.settings import load
from llmlog_common.texts import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from llmlog_consumer.dead_letters.letter import DeadLetter

Suggestion = tuple[str, str]
"""What is completed, and the shell's note on it."""

NEWEST_LETTERS: Final = 200
"""So many of each partition are looked at."""
_PATIENCE_SECONDS: Final = 5.0
"""A person waits at the shell: whatever is not there by then is left out."""
_WORD: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""What a shell takes as one word, without a meaning of its own: any program may write letters."""
_MAX_NOTE_CHARACTERS: Final = 100


def complete_fingerprint(ctx: typer.Context, incomplete: str) -> list[Suggestion]:
    """Return the fingerprints that begin so, those of most letters first."""
    return suggest_fingerprints(read_newest(ctx), incomplete)


def complete_coordinates(ctx: typer.Context, incomplete: str) -> list[Suggestion]:
    """Return the coordinates of letters that begin so, the newest first."""
    return suggest_coordinates(read_newest(ctx), incomplete)


def suggest_fingerprints(letters: Iterable[DeadLetter], incomplete: str) -> list[Suggestion]:
    """Return each fingerprint once, with its number of letters and an error."""
    counts: dict[str, int] = {}
    notes: dict[str, str] = {}
    for letter in letters:
        if letter.fingerprint.startswith(incomplete) and _WORD.fullmatch(letter.fingerprint):
            counts[letter.fingerprint] = counts.get(letter.fingerprint, 0) + 1
            notes.setdefault(letter.fingerprint, _note(letter))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return [(name, f"{counts[name]} letters, {notes[name]}") for name in ranked]


def suggest_coordinates(letters: Iterable[DeadLetter], incomplete: str) -> list[Suggestion]:
    """Return the coordinates of each letter, with its error."""
    found = [letter for letter in letters if letter.coordinates.startswith(incomplete)]
    found.sort(key=lambda letter: letter.timestamp_ms, reverse=True)
    return [(letter.coordinates, _note(letter)) for letter in found]


def newest_of(ranges: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Return the ends of ranges of offsets, `NEWEST_LETTERS` of each."""
    return {p: (max(start, end - NEWEST_LETTERS), end) for p, (start, end) in ranges.items()}


def within(seconds: float, read: Callable[[], Iterator[DeadLetter]]) -> list[DeadLetter]:
    """Return what is read in this time; nothing where a server refuses or does not answer.

    Words on stderr would be in the middle of the line that a person types.
    """
    found: list[DeadLetter] = []

    def collect() -> None:
        with suppress(PipelineError, Unreachable):
            found.extend(read())

    thread = threading.Thread(target=collect, name="llmlog-completion", daemon=True)
    thread.start()
    thread.join(seconds)
    return list(found)


def read_newest(ctx: typer.Context) -> list[DeadLetter]:
    """Return the newest letters of each partition, by the settings of the command line."""
    given = ctx.params.get("config")

    def read() -> Iterator[DeadLetter]:
        # Imported here: `consume` completes too, and shall not hold them in memory.
        from llmlog_consumer.dead_letters.letter import read_letter
        from llmlog_consumer.kafka import reader
        from llmlog_consumer.kafka.admin import KafkaAdmin
        from llmlog_consumer.kafka.offsets import KafkaOffsets

        settings = load(config=Path(given) if given else None)
        admin = KafkaAdmin(settings, patience_seconds=_PATIENCE_SECONDS)
        ranges = newest_of(KafkaOffsets(admin).ranges_since(settings.dlq_topic, None))
        for chunk in reader.read(settings, settings.dlq_topic, ranges, small=True):
            yield from (read_letter(record, content=False) for record in chunk)

    return within(_PATIENCE_SECONDS, read)


def _note(letter: DeadLetter) -> str:
    """Return stage, error and index; the error's text may quote contents."""
    words = (letter.headers.get(name, "") for name in ("stage", "es.type", "index"))
    text = " ".join(" ".join(map(cut, words)).split())
    return cut("".join(filter(str.isprintable, text)), _MAX_NOTE_CHARACTERS)

"""`pipeline dlq list | show | stats | export`."""

from __future__ import annotations

import base64
import sys
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer

from llmlog_common.errors import ConfigurationError, ElasticsearchError, Unreachable
from llmlog_common.settings import Settings, load
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.cli.dlq.options import (
    ContentOption,
    FingerprintOption,
    IndexOption,
    LimitOption,
    ModelOption,
    PartitionOption,
    ReasonOption,
    StageOption,
    chosen,
)
from llmlog_consumer.cli.dlq.replay import OptionalTopic, replay_letters
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    Progress,
    SinceOption,
    UntilOption,
    complain,
    say,
    write_json,
    write_table,
)
from llmlog_consumer.dead_letters import reader
from llmlog_consumer.dead_letters.contents import Contents
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_consumer.elasticsearch.connection import Elastic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_consumer.dead_letters.letter import DeadLetter

app = typer.Typer(help="Inspect dead letters and replay them.", no_args_is_help=True)
app.command("replay", cls=OptionalTopic)(replay_letters)


@app.command("list")
def list_letters(
    since: SinceOption = None,
    until: UntilOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    index: IndexOption = None,
    partition: PartitionOption = None,
    model: ModelOption = None,
    limit: LimitOption = None,
    show_content: ContentOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List dead letters, newest first, one for each source record.

    Example: pipeline dlq list --since 24h --stage index --limit 20
    """
    wanted = chosen(since, until, stage, reason, fingerprint, index, partition, model)
    settings = load(config=config)
    with Progress() as progress:
        there = reader.DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        found = there.newest_first(wanted, limit)
    rows = (
        letter.as_json(recovered=known, show_content=show_content)
        for letter, known in _Recovered(settings).of(found)
    )
    if as_json:
        for row in rows:
            write_json(row)
    else:
        for view in views.listed(rows, views.width()):
            write_table(view.headings, view.rows, cut=view.cut)
    if there.suspicion:
        complain(there.suspicion)


@app.command("stats")
def stats(
    since: SinceOption = None,
    until: UntilOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    index: IndexOption = None,
    partition: PartitionOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Count dead letters by cause, stage, index, model and hour.

    Letters of one source record count once. Times are those of the letters, in UTC.

    Example: pipeline dlq stats --since 24h
    """
    wanted = chosen(since, until, stage, reason, fingerprint, index, partition, model)
    settings = load(config=config)
    counted = Stats(wanted)
    with Progress() as progress:
        there = reader.DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        for chunk in there.messages():
            counted.add(chunk)
    result = counted.as_json()
    if as_json:
        write_json(result)
    else:
        _print_stats(result)
    if suspicion := reader.suspicion(there.topic, counted.read, counted.foreign):
        complain(suspicion)


@app.command("show")
def show(
    coordinates: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As `dlq list` prints them.")
    ],
    show_content: ContentOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one letter: why it died, and the event it holds, or the bytes where it is none.

    Of a letter that was truncated the original is read from the source topic, while that has it.

    Example: pipeline dlq show litellm-logs.dlq/3/17 --show-content
    """
    settings = load(config=config)
    letter = reader.letter_at(settings, coordinates)
    ((_, recovered),) = _Recovered(settings).of(iter([letter]))
    shown = letter.as_json(recovered=recovered, show_content=show_content)
    shown |= Contents(settings, show=show_content).of(letter)
    if as_json:
        write_json(shown)
        return
    for line in views.page(shown, views.width()):
        say(line)
    if not show_content:
        complain(views.CONTENTS_HIDDEN)
    if not letter.writer:
        complain("nothing that we know wrote this letter: it says neither cause nor source")


@app.command("export")
def export(
    since: SinceOption = None,
    until: UntilOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    index: IndexOption = None,
    partition: PartitionOption = None,
    model: ModelOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Instead of stdout.")
    ] = None,
    show_content: ContentOption = False,
    config: ConfigOption = None,
) -> None:
    """Write dead letters as NDJSON, each with the event it holds, as they lie on the topic.

    With --show-content each has its key and value too, in base64, byte for byte.

    Example: pipeline dlq export --fingerprint 2f6c1b9d04aa --output letters.ndjson
    """
    wanted = chosen(since, until, stage, reason, fingerprint, index, partition, model)
    settings = load(config=config)
    contents = Contents(settings, show=show_content)
    written = 0
    with Progress() as progress, _opened(output) as file:
        there = reader.DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        found = islice(there.newest(wanted, content=True), limit)
        for letter, recovered in _Recovered(settings).of(found):
            row = letter.as_json(recovered=recovered, show_content=show_content)
            row |= contents.of(letter)
            if show_content:
                row |= {"key_base64": _base64(letter.key), "value_base64": _base64(letter.value)}
            file.write(_json_line(row))
            written += 1
        file.flush()
    complain(f"{written} letters written to {output or 'stdout'}")
    if there.suspicion:
        complain(there.suspicion)


class _Recovered:
    """Asks which letters have a document; an index that is away costs that answer alone."""

    def __init__(self, settings: Settings) -> None:
        self._elastic: Elastic | None = Elastic(settings, timeout=30)

    def of(self, letters: Iterator[DeadLetter]) -> Iterator[tuple[DeadLetter, bool | None]]:
        for chunk in reader.chunks(letters):
            names = self._ask(chunk)
            for letter in chunk:
                yield letter, None if names is None else letter.name in names

    def _ask(self, chunk: list[DeadLetter]) -> set[str] | None:
        if self._elastic is None:
            return None
        try:
            return reader.recovered(self._elastic, chunk)
        except (Unreachable, ElasticsearchError) as error:
            complain(f"cannot tell which letters are recovered: {error}")
            self._elastic = None
            return None


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        file = output.open("wb")
    except OSError as error:
        raise ConfigurationError(f"{output}: {error.strerror}") from None
    with file:
        yield file


def _json_line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


def _print_stats(result: dict[str, Any]) -> None:
    for part in views.counted(result, views.width()):
        if isinstance(part, str):
            say(part)
        else:
            write_table(part.headings, part.rows, cut=part.cut)

"""Owns the commands `pipeline dlq list`, `show`, `stats` and `export`."""

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
from llmlog_common.settings import Settings
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.cli.dlq.completion import complete_coordinates
from llmlog_consumer.cli.dlq.options import (
    AllGroupsOption,
    ContentOption,
    LimitOption,
    with_filter_options,
)
from llmlog_consumer.cli.dlq.replay import OptionalTopic, replay_letters
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings, user_name
from llmlog_consumer.cli.output import Progress, complain, say, write_json, write_table
from llmlog_consumer.dead_letters.contents import Contents
from llmlog_consumer.dead_letters.filters import Filter, GroupFilter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_LETTERS,
    DeadLetters,
    read_letter_at,
    split_chunks,
    warn_of_topic,
)
from llmlog_consumer.dead_letters.recovered import Recovered, find_recovered
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_consumer.elasticsearch.lookup import DocumentLookup
from llmlog_consumer.elasticsearch.patience import PatientElastic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.kafka_record import KafkaRecord

app = typer.Typer(help="Inspect dead letters and replay them.", no_args_is_help=True)
app.command("replay", cls=OptionalTopic)(replay_letters)


@app.command("list")
@with_filter_options
def list_letters(
    wanted: Filter,
    limit: LimitOption = None,
    all_groups: AllGroupsOption = False,
    show_content: ContentOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List dead letters, newest first, one for each event.

    Example: pipeline dlq list --since 24h --stage index --limit 20
    """
    settings = load_settings(config)
    if show_content:
        _audit(settings, "dlq list", wanted.describe())
    with Progress() as progress:
        dead_letters = DeadLetters(
            settings, since_ms=wanted.since_ms, all_groups=all_groups, progress=progress
        )
        newest = dead_letters.read_newest_first(wanted, limit)
    rows = (
        letter.as_json(recovered=recovered, show_content=show_content)
        for letter, recovered in _RecoveredLookup(settings).annotate(newest)
    )
    if as_json:
        for row in rows:
            write_json(row)
    else:
        for view in views.list_views(rows, views.terminal_width()):
            write_table(view.headings, view.rows, shorten=view.cut)
    _complain_of(dead_letters.topic_warning, dead_letters.groups)


@app.command("stats")
@with_filter_options
def stats(
    wanted: Filter,
    all_groups: AllGroupsOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Count dead letters by cause, stage, index, model and hour.

    Letters of one event count once. Times are those of the letters, in UTC.

    Example: pipeline dlq stats --since 24h
    """
    settings = load_settings(config)
    groups = GroupFilter(None if all_groups else settings.group)
    counts = Stats(wanted, groups=groups)
    lookup = _RecoveredLookup(settings)
    with Progress() as progress:
        dead_letters = DeadLetters(settings, since_ms=wanted.since_ms, progress=progress)
        for chunk in _join_chunks(dead_letters.read_all()):
            recovered = lookup.find(read_letter(record, content=False) for record in chunk)
            counts.add(chunk, None if recovered is None else recovered.ids)
    result = counts.as_json()
    if as_json:
        write_json(result)
    else:
        _print_stats(result)
    warning = warn_of_topic(
        dead_letters.topic, counts.letters, has_our_headers=counts.has_our_headers
    )
    _complain_of(warning, groups)


@app.command("show")
def show(
    coordinates: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC/PARTITION/OFFSET",
            help="As `dlq list` prints them.",
            autocompletion=complete_coordinates,
        ),
    ],
    show_content: ContentOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one letter: why its record failed, and the event it holds, or the undecodable bytes.

    The original of a truncated letter is read from the source topic, as long as it is retained.

    Example: pipeline dlq show litellm-logs.dlq/3/17 --show-content
    """
    settings = load_settings(config)
    if show_content:
        _audit(settings, "dlq show", coordinates)
    letter = read_letter_at(settings, coordinates)
    ((_, recovered),) = _RecoveredLookup(settings).annotate(iter([letter]))
    row = letter.as_json(recovered=recovered, show_content=show_content)
    row |= Contents(settings, show=show_content).describe(letter)
    if as_json:
        write_json(row)
        return
    for line in views.letter_page(row, views.terminal_width()):
        say(line)
    if not show_content:
        complain(views.CONTENTS_HIDDEN)
    if not letter.writer:
        complain("an unknown writer wrote this letter: it has no cause and no source")


@app.command("export")
@with_filter_options
def export(
    wanted: Filter,
    limit: LimitOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Instead of stdout.")
    ] = None,
    all_groups: AllGroupsOption = False,
    show_content: ContentOption = False,
    config: ConfigOption = None,
) -> None:
    """Write dead letters as NDJSON, each with the event it holds, in the order of the topic.

    With --show-content each has its key and value too, in base64, byte for byte.

    Example: pipeline dlq export --fingerprint 2f6c1b9d04aa --output letters.ndjson
    """
    settings = load_settings(config)
    if show_content:
        _audit(settings, "dlq export", wanted.describe())
    contents = Contents(settings, show=show_content)
    written = 0
    with Progress() as progress, _open_output(output) as file:
        dead_letters = DeadLetters(
            settings, since_ms=wanted.since_ms, all_groups=all_groups, progress=progress
        )
        letters = islice(dead_letters.read_newest(wanted, content=True), limit)
        for letter, recovered in _RecoveredLookup(settings).annotate(letters):
            row = letter.as_json(recovered=recovered, show_content=show_content)
            row |= contents.describe(letter)
            if show_content:
                row |= {"key_base64": _base64(letter.key), "value_base64": _base64(letter.value)}
            file.write(_json_line(row))
            written += 1
        file.flush()
    complain(f"{written} letters written to {output or 'stdout'}")
    _complain_of(dead_letters.topic_warning, dead_letters.groups)


def _audit(settings: Settings, command: str, what: str) -> None:
    """Write down who opens contents, before they are shown."""
    from llmlog_consumer.kafka.audit import AuditLog

    AuditLog(settings, command).write(user_name(), "contents", what)


class _RecoveredLookup:
    """The lookup which letters have a document; once Elasticsearch fails, it answers None."""

    def __init__(self, settings: Settings) -> None:
        elastic = PatientElastic(settings, timeout=30, announce=complain)
        self._lookup: DocumentLookup | None = DocumentLookup(elastic, settings.index)

    def annotate(self, letters: Iterator[DeadLetter]) -> Iterator[tuple[DeadLetter, bool | None]]:
        """Yield each letter, and whether its document exists; None where that is not known."""
        for chunk in split_chunks(letters):
            recovered = self.find(chunk)
            for letter in chunk:
                yield letter, None if recovered is None else recovered.tell(letter.event_id)

    def find(self, letters: Iterable[DeadLetter]) -> Recovered | None:
        """Return which letters are recovered; None where that is not known."""
        if self._lookup is None:
            return None
        try:
            return find_recovered(self._lookup, letters)
        except (Unreachable, ElasticsearchError) as error:
            complain(f"cannot tell which letters are recovered: {error}")
            self._lookup = None
            return None


def _join_chunks(chunks: Iterable[Sequence[KafkaRecord]]) -> Iterator[list[KafkaRecord]]:
    """Yield chunks that are large enough for one look-up of their documents."""
    joined: list[KafkaRecord] = []
    size = 0
    for chunk in chunks:
        joined += chunk
        size += sum(map(len, chunk))
        if len(joined) >= MAX_CHUNK_LETTERS or size >= MAX_CHUNK_BYTES:
            yield joined
            joined, size = [], 0
    if joined:
        yield joined


def _complain_of(warning: str, groups: GroupFilter) -> None:
    if warning:
        complain(warning)
    if others := groups.describe_others():
        complain(f"{others}; --all-groups includes them")


@contextmanager
def _open_output(output: Path | None) -> Iterator[BinaryIO]:
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
    for part in views.stats_views(result, views.terminal_width()):
        if isinstance(part, str):
            say(part)
        else:
            write_table(part.headings, part.rows, shorten=part.cut)

"""`pipeline dlq list | show`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from llmlog_consumer.cli.common import ConfigOption, JsonOption, complain, say, write_json
from llmlog_consumer.cli.common import write_table as table
from llmlog_consumer.dead_letters import reader
from llmlog_consumer.elastic import Elastic
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.errors import ConfigurationError, ElasticsearchError, Unreachable
from llmlog_schemas.records import JSON_PARTS
from llmlog_schemas.registry import Registry
from llmlog_schemas.settings import Settings, load

app = typer.Typer(help="Inspect dead letters.", no_args_is_help=True)

_HEX_BYTES = 256


@app.command("list")
def list_letters(
    stage: Annotated[
        str | None, typer.Option("--stage", help="decode, transform, oversize or index.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="Only letters of this cause.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many, the newest.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List dead letters, newest first, one for each source record.

    Example: pipeline dlq list --stage index --json
    """
    settings = load(config=config)
    found = [
        letter
        for letter in reader.newest_of_each(reader.letters(settings))
        if (stage is None or letter.headers.get("stage") == stage)
        and (fingerprint is None or letter.headers.get("fingerprint") == fingerprint)
    ][:limit]
    recovered = _recovered(settings, found)
    letters = [letter.as_json(recovered=letter.name in recovered) for letter in found]
    if as_json:
        for letter in letters:
            write_json(letter)
        return
    table(
        ("coordinates", "failed at", "stage", "cause", "fingerprint", "recovered"),
        [
            (
                letter["coordinates"],
                (letter["last_failed_at"] or "")[:19],
                letter["stage"],
                _cause(letter)[:100],
                letter["fingerprint"],
                "yes" if letter["recovered"] else "no",
            )
            for letter in letters
        ],
    )


@app.command("show")
def show(
    coordinates: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As `dlq list` prints them.")
    ],
    show_content: Annotated[
        bool, typer.Option("--show-content", help="Print prompts, answers and metadata too.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one letter: why it died, and the record decoded, or in hex where it cannot be.

    Example: pipeline dlq show litellm-logs.dlq/3/17 --show-content
    """
    settings = load(config=config)
    letter = reader.letter_at(settings, coordinates)
    recovered = letter.name in _recovered(settings, [letter])
    shown = letter.as_json(recovered=recovered) | _content(settings, letter, show_content)
    if as_json:
        write_json(shown)
        return
    for key, value in shown.items():
        if isinstance(value, dict):
            say(f"{key}:")
            for inner, item in value.items():
                say(f"  {inner}: {_readable(item)}")
        else:
            say(f"{key}: {_readable(value)}")
    if not show_content:
        complain("contents are hidden; --show-content prints them")


def _recovered(settings: Settings, letters: list[reader.Found]) -> set[str]:
    """Ask which letters have a document; an index that is away costs that column alone."""
    try:
        return reader.recovered(Elastic(settings, timeout=30), letters)
    except (Unreachable, ElasticsearchError) as error:
        complain(f"cannot tell which letters are recovered: {error}")
        return set()


def _content(settings: Settings, letter: reader.Found, show_content: bool) -> dict[str, Any]:
    value = letter.value
    try:
        event: dict[str, Any] = dict(Decoder(Registry.of_settings(settings)).decode(value))
    except (DecodeError, ConfigurationError, Unreachable) as error:
        size = None if value is None else len(value)
        return {
            "value_bytes": size,
            "decode_error": str(error),
            "value_hex": value[:_HEX_BYTES].hex(" ") if value and show_content else None,
        }
    for part in JSON_PARTS:
        raw: bytes = event[part]
        event[part] = _json_or_text(raw) if show_content else f"<{len(raw)} bytes>"
    return {"event": {key: None if value != value else value for key, value in event.items()}}


def _json_or_text(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode("utf-8", "replace")


def _readable(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf"))
    return "-" if value is None else str(value)


def _cause(letter: dict[str, Any]) -> str:
    es = letter["es"]
    return f"{es['type']}: {es['reason']}" if es else letter["exception"] or "-"

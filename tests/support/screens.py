"""Draws the screens in docs/dead-letters.md: `python -m support.screens` writes the page."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from llmlog_common.settings import load
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.cli.output import draw_table
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.contents import Contents
from llmlog_consumer.dead_letters.headers import build_headers
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import sort_newest_first
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_schemas.codec import Encoder
from support.golden_events import FULL
from support.messages import Message

PAGE = Path(__file__).parents[2] / "docs/dead-letters.md"
WIDTHS = (80, 160)

_START = datetime(2026, 1, 31, 1, 58, tzinfo=UTC)
_INDEX = "litellm-logs-2026.01.31"
_CAUSES = (
    Cause(
        Stage.INDEX,
        Ending.PERMANENT,
        reason="[1:311] failed to parse field [model] of type "
        "[long] in document with id 'AZtXgOIAPqM4wrx7hCk_'. Preview of field's value: "
        "'gpt-4o-mini'",
        es_status=400,
        es_type="document_parsing_exception",
        es_caused_by='illegal_argument_exception: For input string: "gpt-4o-mini"',
        index=_INDEX,
        document_id="AZtXgOIAPqM4wrx7hCk_",
        model="gpt-4o-mini",
        attempts=1,
    ),
    Cause(
        Stage.DECODE,
        Ending.POISON,
        "DecodeError: no Avro framing: 9 bytes that begin with "
        "67 61 72 62 61 67 65 20 (expected c3 01, or 00 of a Schema Registry)",
    ),
    Cause(
        Stage.TRANSFORM,
        Ending.POISON,
        "TransformError: document is no valid JSON: Expecting value: line 1 column 24 (char 23)",
        model="claude-sonnet",
    ),
)


def letters() -> list[Message]:
    """Return the letters of one night: a wrong mapping, garbage, broken JSON."""
    some = []
    for number in range(60):
        cause = _CAUSES[0 if number % 10 < 7 else 1 if number % 10 < 9 else 2]
        at = _START + timedelta(minutes=3 * number)
        source = Message(partition_=number % 4, offset_=1000 + number)
        event = {**FULL, "event_id": f"{FULL['event_id'][:18]}{number:02}"} if number else FULL
        value = b"garbage 0" if cause.stage is Stage.DECODE else Encoder().encode(event)  # type: ignore[arg-type]
        headers = build_headers(source, cause, group="llmlog-pipeline", now=at)
        ms = int(at.timestamp() * 1000)
        some.append(
            Message("litellm-logs.dlq", number % 4, number // 4, b"key", value, headers, (1, ms))
        )
    return some


def screen(name: str, columns: int) -> str:
    """Return a screen as lines without a blank at their ends."""
    out = Console(width=columns, file=io.StringIO(), force_terminal=False, soft_wrap=False)

    def table(view: views.View) -> None:
        out.print(draw_table(view.headings, view.rows, shorten=view.cut, columns=columns))

    def line(text: str) -> None:
        out.file.write(f"{text}\n")

    some = letters()
    if name == "list":
        newest = sort_newest_first(map(read_letter, some), 8)
        for view in views.list_views(
            [letter.as_json(recovered=False) for letter in newest], columns
        ):
            table(view)
    elif name == "stats":
        stats = Stats()
        stats.add(some)
        for part in views.stats_views(stats.as_json(), columns):
            if isinstance(part, str):
                line(part)
            else:
                table(part)
    else:
        letter = read_letter(some[0])
        row = letter.as_json(recovered=False)
        row |= Contents(load(environ={}), show=False).describe(letter)
        for text in (*views.letter_page(row, columns), views.CONTENTS_HIDDEN):
            line(text)
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(text.rstrip() for text in drawn.rstrip().splitlines())


def page_with_screens(page: str) -> str:
    """Return the page with every marked screen drawn again."""

    def drawn(match: re.Match[str]) -> str:
        name, columns = match[1], int(match[2])
        return f"<!-- screen {name} {columns} -->\n```text\n{screen(name, columns)}\n```"

    return re.sub(r"<!-- screen (\w+) (\d+) -->\n```text\n.*?```", drawn, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page_with_screens(PAGE.read_text()))

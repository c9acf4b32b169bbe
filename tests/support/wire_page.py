"""Writes the event in docs/wire-format.md: `python -m support.wire_page` makes it of the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

from llmlog_schemas.codec import CURRENT_VERSION, current_fingerprint, schema_text

PAGE = Path(__file__).parents[2] / "docs/wire-format.md"


def event_section() -> str:
    """Return what stands between the marks: file, fingerprint and fields of the present schema."""
    name = f"llm_event.v{CURRENT_VERSION}.avsc"
    link = f"[{name}](../schemas/llmlog_schemas/avro/{name})"
    fields = json.loads(schema_text())["fields"]
    rows = [f"| `{one['name']}` | {one['type']} | {one['doc']} |" for one in fields]
    return "\n".join(
        [
            f"{link}, fingerprint `{current_fingerprint()}`.",
            "",
            "| field | type | content |",
            "|---|---|---|",
            *rows,
        ]
    )


def page_with_event(page: str) -> str:
    """Return the page with the event written again."""
    return re.sub(
        r"(<!-- event -->\n\n).*?(\n\n<!-- end -->)",
        lambda found: found[1] + event_section() + found[2],
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(page_with_event(PAGE.read_text()))

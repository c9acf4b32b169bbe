"""Writes docs/fields.md of the tables of fields: `python tests/support/fields_page.py`."""

from __future__ import annotations

from pathlib import Path

from llmlog_schemas.derived.aliases import ECS, GEN_AI, OWN
from llmlog_schemas.derived.table import CALL_FACTS, GROUPS
from llmlog_schemas.fields import SEARCH_TEXTS, TYPED, UNTYPED
from llmlog_schemas.kinds import Kind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fields.md"

_TYPES = {
    Kind.KEYWORD: "keyword",
    Kind.KEYWORDS: "keyword, a list",
    Kind.TEXT: "text",
    Kind.BOOLEAN: "boolean",
    Kind.LONG: "long",
    Kind.DOUBLE: "double",
    Kind.COUNT: "long",
    Kind.MEASURE: "double",
    Kind.SECONDS: "date",
    Kind.FLATTENED: "flattened",
    Kind.STORED: "kept, not indexed",
}

_TOP = f"""# Fields of a document

This page is made of the tables in
[`derived/`](../schemas/llmlog_schemas/derived/table.py) and
[`fields.py`](../schemas/llmlog_schemas/fields.py) by `python tests/support/fields_page.py`.

A document has LiteLLM's own fields under LiteLLM's own names. Beside them, at the top level, stand
derived fields: single values out of LiteLLM's objects, with types that can be added up, sorted and
used in dashboards. They are made in the gateway, **after redaction**: where a source is redacted,
masked or dropped there is no derived value, and a derived name in `LLMLOG_REDACT_FIELDS` or
`LLMLOG_REDACT_KEYS` removes that field alone.

- A field is absent where LiteLLM has no value. Nothing is guessed: a text for a number, NaN, a list
  in the place of an object leave the field absent, and the original is kept under
  `extra.mistyped`, by its path; a number that JSON cannot write is a text there, however
  deep it is.
- Lists hold 64 entries, texts 8,192 characters (the index searches 1,024 of them).
- Costs are USD, times seconds, `startTime`, `endTime` and `completionStartTime` dates.
- Derived numbers are kept as doc values alone: sums, averages, percentiles and sorting are as fast
  as ever, and a range over them reads the values of all documents that the rest of a query leaves.
- Sources are those of LiteLLM 1.106.2, 1.109.3 and 1.110.2, which have the same ones.
- `{CALL_FACTS}` is what the gateway notes beside LiteLLM's payload: host, version, and a closed
  list of values that LiteLLM tells a callback outside of the payload.
- `[]` is every entry of a list, `{{}}` every key of an object. Of several sources the first counts;
  of lists, those that are there.
"""

_MONEY = """
The parts add up, which a test shows for what each LiteLLM version writes:

    original_cost = input_cost + cache_read_cost + cache_write_cost + output_cost
                    + tool_cost + additional_cost
    response_cost = original_cost - discount_amount + margin_amount + guardrail_cost

LiteLLM's own `cost_breakdown.input_cost` has the two cache costs in it, whatever its documentation
says; `input_cost` has not.
"""

_TEXTS = """
## Text for search

| field | holds |
|---|---|
{rows}

Each has 32,768 characters at most (`tool_text` 8,192); what is left out is the oldest. Thinking,
transcripts, tool results, the bodies of pass-through requests and answers, and calls of MCP tools
are in them. Words are cut by Elasticsearch's standard analyzer: German words are found as they are
written, Chinese by `match_phrase`, identifiers such as `get_weather` as a whole.
"""

_ALIASES = """
## Other names

An alias answers queries, aggregations and sorting under another name. It does not stand in a
document's `_source`, and nothing can be written to it.

`prompt_text` is an alias of `messages_text`, and not the other way round: documents of all versions
are written to `messages_text`, so that each fits into each index, and both names find all of them.

| alias | field |
|---|---|
{rows}

Values are LiteLLM's own: `gen_ai.operation.name` is `acompletion`, not `chat`.
"""

_REST = """
## Of our own

| field | type | meaning |
|---|---|---|
| `@timestamp` | date | the time in the event id |
| `indexed_at` | date | when the consumer sent the document, at a replay again |
| `document_version` | long | 2; absent in documents without derived fields |
| `extra` | kept, not indexed | what has no other place; `mistyped`: originals of another type |

## LiteLLM's own

| field | type |
|---|---|
{rows}
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_TOP]
    for heading, fields in GROUPS.items():
        parts.append(f"\n## {heading}\n")
        if heading == "Money":
            parts.append(_MONEY)
        parts.append("\n| field | type | meaning | source |\n|---|---|---|---|\n")
        parts += [
            f"| `{name}` | {_TYPES[field.kind]} | {field.meaning} | "
            f"{', '.join(f'`{path}`' for path in field.paths)} |\n"
            for name, field in fields.items()
        ]
    texts = (f"| `{name}` | {meaning} |" for name, meaning in SEARCH_TEXTS.items())
    parts.append(_TEXTS.format(rows="\n".join(texts)))
    aliases = (f"| `{name}` | `{field}` |" for name, field in {**OWN, **GEN_AI, **ECS}.items())
    parts.append(_ALIASES.format(rows="\n".join(aliases)))
    own = (f"| `{name}` | {_TYPES[kind]} |" for name, kind in sorted({**TYPED, **UNTYPED}.items()))
    parts.append(_REST.format(rows="\n".join(own)))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

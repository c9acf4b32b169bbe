"""Owns the questions about single calls: the search, one call, the legs of a trace. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.console.fields import CONTENT_SOURCES, DIMENSIONS, ERROR_CLASS, TEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.console.queries.period import Period

PAGE_CALLS: Final = 50
COUNTED_CALLS: Final = 10_000
"""Calls that are counted; of more it is said that there are more."""
MAX_LEGS: Final = 100
MAX_TEXT_CHARACTERS: Final = 500
MAX_CURSOR_CHARACTERS: Final = 4000

SORT: Final[list[dict[str, Any]]] = [
    {"@timestamp": {"order": "desc"}},
    {"litellm_call_id": {"order": "desc", "missing": "_last"}},
    {"endTime": {"order": "desc", "missing": "_last", "unmapped_type": "date"}},
    {"status": {"order": "desc", "missing": "_last"}},
]
"""Newest first. Calls that are equal in all four are one event by its id's making."""

CONTENT_FILTERS: Final = frozenset(("text", "user", "end_user"))
"""Filters whose very counts would tell of contents or people."""

_NEVER_PEOPLE: Final = frozenset(("model", "provider", "status"))
"""Filters in which an `@` is a version's: `claude-sonnet-4@20250514`."""

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (indexed,) for name, (_, indexed) in DIMENSIONS.items()},
    "status": ("status",),
    "error_class": (ERROR_CLASS, "error_class"),
    "tool": ("tool_names_called",),
    "guardrail": ("guardrail_names",),
    "call_id": ("litellm_call_id", "trace_id", "session_id", "id"),
    "end_user": ("end_user",),
}
"""Filters that compare a word with a field: it is in any one of these."""
_RANGES: Final[dict[str, tuple[str, str]]] = {
    "min_cost": ("response_cost", "gte"),
    "max_cost": ("response_cost", "lte"),
    "min_seconds": ("response_time", "gte"),
    "max_seconds": ("response_time", "lte"),
}
FILTERS: Final = ("text", *_WORDS, *_RANGES)


@dataclass(frozen=True)
class CallFilter:
    """What an address asks for.

    Attributes:
        values: of each filter that is given.
        problems: what of it cannot be used, in a line each.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def needs_contents(self) -> bool:
        """Tell whether only those who may see contents may ask this.

        A name with an `@` may be an e-mail address: who may not see one may not guess it either.
        """
        named = [value for name, value in self.values.items() if name not in _NEVER_PEOPLE]
        return not CONTENT_FILTERS.isdisjoint(self.values) or any("@" in word for word in named)

    def clauses(self) -> list[dict[str, Any]]:
        """Return the clauses of the query."""
        found: list[dict[str, Any]] = []
        if text := self.values.get("text"):
            found.append(_match_text(text))
        for name, fields in _WORDS.items():
            if word := self.values.get(name):
                found.append(_match_word(word, fields))
        for name, (of, bound) in _RANGES.items():
            if number := self.values.get(name):
                found.append({"range": {of: {bound: float(number)}}})
        return found


def read_filter(params: Mapping[str, str]) -> CallFilter:
    """Return the filter that an address names."""
    values: dict[str, str] = {}
    problems: list[str] = []
    for name in FILTERS:
        value = params.get(name, "").strip()[:MAX_TEXT_CHARACTERS]
        if not value:
            continue
        if name in _RANGES and not _is_number(value):
            problems.append(f"{name.replace('_', ' ')}: {value[:40]} is no number")
            continue
        values[name] = value
    return CallFilter(values, problems)


def list_calls(
    wanted: CallFilter, period: Period, after: Sequence[Any] | None = None
) -> dict[str, Any]:
    """Return the search for a page of calls, the newest first.

    Args:
        wanted: the filter.
        period: in which they began.
        after: the last call of the page before; None for the first page.
    """
    body: dict[str, Any] = {
        "size": PAGE_CALLS,
        # Counted with the first page alone: the others show the same number.
        "track_total_hits": COUNTED_CALLS if after is None else False,
        "query": {"bool": {"filter": [period.as_filter(), *wanted.clauses()]}},
        "sort": SORT,
        "_source": {
            "includes": [
                "litellm_call_id",
                "status",
                "model",
                "custom_llm_provider",
                "response_cost",
                "total_tokens",
                "response_time",
                "stream",
                "startTime",
                "endTime",
                "cache_hit",
                "team_alias",
                "metadata.user_api_key_team_alias",
                "error_class",
                "error_information.error_class",
            ]
        },
    }
    if after is not None:
        body["search_after"] = list(after)
    return body


def find_call(event_id: str, *, with_contents: bool) -> dict[str, Any]:
    """Return the search for one document.

    Args:
        event_id: its id.
        with_contents: messages, answer, error texts and all else too.
    """
    body: dict[str, Any] = {"size": 2, "query": {"ids": {"values": [event_id]}}}
    if not with_contents:
        # What the numbers of older documents are read from stays.
        excluded = [name for name in CONTENT_SOURCES if name not in _READ_FOR_NUMBERS]
        body["_source"] = {"excludes": excluded}
    return body


_READ_FOR_NUMBERS: Final = ("metadata", "error_information", "hidden_params")


def list_legs(trace_id: str, at_ms: int) -> dict[str, Any]:
    """Return the search for all calls of a trace, the first one first.

    Args:
        trace_id: of the trace.
        at_ms: when one of them began: others are looked for a day before and after.
    """
    day_ms = 86_400_000
    window = {"gte": at_ms - day_ms, "lt": at_ms + day_ms, "format": "epoch_millis"}
    return {
        "size": MAX_LEGS,
        "track_total_hits": COUNTED_CALLS,
        "query": {
            "bool": {
                "filter": [{"term": {"trace_id": trace_id}}, {"range": {"@timestamp": window}}]
            }
        },
        "sort": [{"@timestamp": {"order": "asc"}}],
        "_source": {
            "includes": [
                "litellm_call_id",
                "status",
                "model",
                "custom_llm_provider",
                "startTime",
                "endTime",
                "completionStartTime",
                "stream",
                "response_cost",
            ]
        },
    }


def write_cursor(sort: Sequence[Any]) -> str:
    """Return the place after a call, as an address has it."""
    return base64.urlsafe_b64encode(json.dumps(list(sort)).encode()).decode().rstrip("=")


def read_cursor(text: str) -> list[Any] | None:
    """Return the place that an address names; None where it names none that can be used."""
    if not text or len(text) > MAX_CURSOR_CHARACTERS:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != len(SORT):
        return None
    is_usable = all(item is None or isinstance(item, int | str) for item in found)
    return found if is_usable else None


def _match_text(text: str) -> dict[str, Any]:
    return {
        "simple_query_string": {
            "query": text,
            "fields": list(TEXT_FIELDS),
            "default_operator": "and",
            # What makes a query expensive is left out: prefixes, fuzziness, slop.
            "flags": "AND|OR|NOT|PHRASE|PRECEDENCE|ESCAPE|WHITESPACE",
        }
    }


def _match_word(word: str, fields: Sequence[str]) -> dict[str, Any]:
    if word.endswith("*") and word.strip("*"):
        clauses: list[dict[str, Any]] = [{"prefix": {of: word.rstrip("*")}} for of in fields]
    else:
        clauses = [{"term": {of: word}} for of in fields]
    return clauses[0] if len(clauses) == 1 else {"bool": {"should": clauses}}


def _is_number(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return abs(number) < 1e15  # noqa: PLR2004 - and so no NaN and no infinity

"""Owns the header that says how a letter's record was mended, by whom and when. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.mending.changes import Change

MAX_BYTES: Final = 1024
"""Bound of the header: of more entries the newest stay."""
_SHOWN_CHARACTERS: Final = 100
_KEYS: Final = ("change", "field", "to", "by", "at")


def write_history(earlier: str, changes: Sequence[Change], *, by: str, at: str) -> bytes:
    """Return the header: a JSON list, the newest entry last.

    Args:
        earlier: what the letter had before.
        changes: that were made now.
        by: who has made them.
        at: ISO 8601 time.
    """
    entries = read_history_of_mending(earlier, show_content=True)
    for change in changes:
        entry = {"change": str(change.kind), "field": change.field}
        if change.value is not None:
            text = change.value if isinstance(change.value, str) else json.dumps(change.value)
            entry["to"] = text[:_SHOWN_CHARACTERS]
        entries.append({**entry, "by": by[:_SHOWN_CHARACTERS], "at": at})
    while len(written := json.dumps(entries).encode()) > MAX_BYTES and entries:
        del entries[0]
    return written


def read_history_of_mending(text: str, *, show_content: bool) -> list[dict[str, Any]]:
    """Return the entries of the header; none where it is none of ours.

    Args:
        text: of the header.
        show_content: leave what fields were set to.
    """
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    keys = [key for key in _KEYS if show_content or key != "to"]
    return [
        {key: str(entry[key]) for key in keys if key in entry}
        for entry in (found if isinstance(found, list) else [])
        if isinstance(entry, dict) and "change" in entry
    ]

"""The text of a prompt or an answer, for full-text search. Pure and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.json_form import to_text
from llmlog_schemas.limits import MAX_SEARCH_TEXT_CHARACTERS, MAX_SEARCH_TEXT_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable

_SCALARS: Final = frozenset((int, float, bool, type(None)))

# These keys hold what people and models wrote, in every request and response format.
_TEXT_KEYS: Final = frozenset(
    (
        "content",
        "text",
        "input",
        "prompt",
        "output",
        "output_text",
        "arguments",
        "refusal",
        "reasoning_content",
        "query",
        "instructions",
    )
)


def searchable_text(part: Any) -> str:
    """Return the texts in messages or a response, one a line, up to the bound."""
    pieces: list[str] = []
    _collect_text(part, pieces, MAX_SEARCH_TEXT_CHARACTERS, is_text=True, depth=0)
    return "\n".join(pieces)


def _collect_text(value: Any, pieces: list[str], room: int, *, is_text: bool, depth: int) -> int:
    """Append the texts in a value; return the characters that are left, 0 or less for none."""
    if room <= 0:
        return room
    if isinstance(value, str):
        return _append_text(value, pieces, room) if is_text else room
    if depth >= MAX_SEARCH_TEXT_DEPTH:
        return room
    if isinstance(value, dict):
        for key, item in value.items():
            if type(item) not in _SCALARS:
                room = _collect_text(item, pieces, room, is_text=key in _TEXT_KEYS, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            room = _collect_text(item, pieces, room, is_text=is_text, depth=depth + 1)
    elif callable(dump := getattr(value, "model_dump", None)):
        room = _collect_text(_dump_model(dump), pieces, room, is_text=is_text, depth=depth + 1)
    return room


def _append_text(value: str, pieces: list[str], room: int) -> int:
    if not value or value.startswith("data:"):
        return room
    pieces.append(to_text(value[:room]))
    return room - len(value) - 1


def _dump_model(dump: Callable[[], Any]) -> Any:
    try:
        return dump()
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return None

"""The words in a prompt or an answer, for full-text search. Pure and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.json_form import text

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHARACTERS: Final = 32_768
"""Characters of text that are extracted from one part."""

_MAX_DEPTH: Final = 12
_SILENT: Final = frozenset((int, float, bool, type(None)))

# Under these keys stands what people and models said, in every request and response format.
_SPOKEN: Final = frozenset(
    ("content", "text", "input", "prompt", "output", "output_text", "arguments", "refusal",
     "reasoning_content", "query", "instructions")
)  # fmt: skip


def searchable_text(part: Any) -> str:
    """Return the spoken strings of messages or a response, one a line, cut at the bound."""
    pieces: list[str] = []
    _gather(part, pieces, MAX_CHARACTERS, spoken=True, depth=0)
    return "\n".join(pieces)


def _gather(value: Any, pieces: list[str], room: int, *, spoken: bool, depth: int) -> int:
    """Append what is spoken in a value; return the room that is left, none where it is full."""
    if room <= 0:
        return room
    if isinstance(value, str):
        return _say(value, pieces, room) if spoken else room
    if depth >= _MAX_DEPTH:
        return room
    if isinstance(value, dict):
        for key, item in value.items():
            if type(item) not in _SILENT:
                room = _gather(item, pieces, room, spoken=key in _SPOKEN, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            room = _gather(item, pieces, room, spoken=spoken, depth=depth + 1)
    elif callable(dump := getattr(value, "model_dump", None)):
        room = _gather(_dumped(dump), pieces, room, spoken=spoken, depth=depth + 1)
    return room


def _say(value: str, pieces: list[str], room: int) -> int:
    if not value or value.startswith("data:"):
        return room
    pieces.append(text(value[:room]))
    return room - len(value) - 1


def _dumped(dump: Callable[[], Any]) -> Any:
    try:
        return dump()
    except Exception:  # noqa: BLE001 - foreign objects raise what they like
        return None

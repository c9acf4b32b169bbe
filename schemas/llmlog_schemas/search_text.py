"""The words in a prompt or an answer, for full-text search. Pure and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.json_form import text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHARACTERS: Final = 32_768
"""Characters of text that are extracted from one part."""

_MAX_DEPTH: Final = 12

# Under these keys stands what people and models said, in every request and response format.
_SPOKEN: Final = frozenset(
    ("content", "text", "input", "prompt", "output", "output_text", "arguments", "refusal",
     "reasoning_content", "query", "instructions")
)  # fmt: skip


def searchable_text(part: Any) -> str:
    """Return the spoken strings of messages or a response, one a line, cut at the bound."""
    pieces: list[str] = []
    room = MAX_CHARACTERS
    for piece in _spoken(part, spoken=True, depth=0):
        pieces.append(text(piece[:room]))
        room -= len(piece) + 1
        if room <= 0:
            break
    return "\n".join(pieces)


def _spoken(value: Any, *, spoken: bool, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if spoken and value and not value.startswith("data:"):
            yield value
    elif depth >= _MAX_DEPTH:
        return
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _spoken(item, spoken=key in _SPOKEN, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _spoken(item, spoken=spoken, depth=depth + 1)
    elif callable(dump := getattr(value, "model_dump", None)):
        try:
            dumped = dump()
        except Exception:  # noqa: BLE001 - foreign objects raise what they like
            return
        yield from _spoken(dumped, spoken=spoken, depth=depth + 1)

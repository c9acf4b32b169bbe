"""Owns the bound of texts that came from outside. Pure.

Servers, libraries and other people's programs write texts of any length. They are cut before a
pattern, a cache or a log line sees them.
"""

from __future__ import annotations

from typing import Final

MAX_CHARACTERS: Final = 4096
"""Bound of a text from outside: four times what a dead letter's header keeps of it."""
ELLIPSIS: Final = "…"


def cut(text: str, characters: int = MAX_CHARACTERS) -> str:
    """Return a text of at most so many characters; an ellipsis marks what is missing.

    Args:
        text: of any length.
        characters: the bound, the ellipsis included.
    """
    return text if len(text) <= characters else text[: characters - 1] + ELLIPSIS


def is_cut(text: str) -> bool:
    """Tell whether the end of a text may be missing."""
    return text.endswith(ELLIPSIS)

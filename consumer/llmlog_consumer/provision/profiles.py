"""Owns the index profiles: what `LLMLOG_INDEX_PROFILE` means for settings and mapping. Pure.

The figures behind them are in docs/performance.md, from `make bench ONLY=profiles` and
`make bench ONLY=freshness`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Profile(NamedTuple):
    """One profile.

    Attributes:
        refresh_interval: after which a document is searchable, at most.
        codec: of stored fields.
        text: how fields with text are indexed. Norms give hits a score, positions let phrases be
            found.
    """

    refresh_interval: str
    codec: str
    text: Mapping[str, Any]


# Every parameter is named: what a profile left out would stay as the one before had it.
_WITH_SCORE: Final = {"type": "text", "norms": True, "index_options": "positions"}
_WITH_PHRASES: Final = {"type": "text", "norms": False, "index_options": "positions"}
_WORDS_ALONE: Final = {"type": "text", "norms": False, "index_options": "docs"}

PROFILES: Final[dict[str, Profile]] = {
    "balanced": Profile("2s", "default", _WITH_PHRASES),
    "search": Profile("1s", "default", _WITH_SCORE),
    "storage": Profile("15s", "best_compression", _WORDS_ALONE),
}

"""Owns the forms of a secret: names of keys that hold one, and texts that are one. Pure."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from llmlog_schemas.limits import REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable

    _Hidden = tuple[str, int] | None


# The last word of a name that holds a secret: `x-api-key`, `clientSecret`, `aws_session_token`.
# Not `user_api_key_hash` or `total_tokens`: they end differently.
_NAME: Final = re.compile(
    r"(?:^|[_.\- ])(?:"
    r"api[_\- ]?key|apikey|subscription[_\- ]?key|access[_\- ]?key(?:[_\- ]?id)?|private[_\- ]?key|"
    r"secret[_\- ]?key|account[_\- ]?key|master[_\- ]?key|encryption[_\- ]?key|signing[_\- ]?key|"
    r"salt[_\- ]?key|auth[_\- ]?key|function[_\- ]?key|"
    r"secret|client[_\- ]?secret|password|passwd|passphrase|pwd|token|authorization|auth|"
    r"cookie|credentials?|connection[_\- ]?string|jwt|bearer"
    r")(?:[_\- ]?(?:value|header))?$",
    re.IGNORECASE | re.ASCII,
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# Pairs within a text: `api_key=…`, `'token': '…'`, `"password": "…"` and the same escaped. What
# is not in quotes needs a digit or some length: prose and code are full of `token: text`. What is
# in quotes ends at the next quote like the first, with as many backslashes before it.
_WORD: Final = (
    r"(?:api[_\-]?key|subscription[_\-]?key|access[_\-]?key(?:[_\-]?id)?|private[_\-]?key|"
    r"secret[_\-]?key|account[_\-]?key|master[_\-]?key|secret|password|passwd|passphrase|pwd|"
    r"token|authorization|cookie|credentials?|signature|sig|jwt)"
)
_PAIR_START: Final = re.compile(_WORD, re.IGNORECASE | re.ASCII)
_PAIR_HINTS: Final = (
    "key", "secret", "passw", "passphrase", "pwd", "token", "authorization", "cookie", "credential",
    "sig", "jwt",
)  # fmt: skip
_PAIR: Final = re.compile(
    rf"(?P<name>{_WORD}\\*+[\"']?\s*+(?::|=|%3[Dd])\s*+)"
    r"(?:(?P<quote>\\*+[\"'])"
    r"|(?P<scheme>(?:Bearer|Basic|Token|Digest|Negotiate)\s+)?"
    r"(?P<bare>(?=[^\s\"'&,;<>(]{0,19}\d|[^\s\"'&,;<>(]{20})[^\s\"'&,;<>{}\[\]()\\]{4,}))",
    re.IGNORECASE | re.ASCII,
)
_MAX_QUOTED: Final = 8192
_MAX_QUOTE: Final = 64
"""Characters of a quote with its backslashes: six levels of escapes, and more. What is behind a
longer one is hidden up to `_MAX_QUOTED`."""

_SCHEME_START: Final = re.compile(r"\b(?:bearer|basic)", re.IGNORECASE)
_SCHEME_HINTS: Final = ("bearer", "basic")
_SCHEME: Final = re.compile(
    r"\b(?P<name>(?:bearer|basic)(?:\s|%20|\+|\\+[nrt])+)(?=\S{0,15}\d|\S{16})[^\s\"'\\,;<>]{8,}",
    re.IGNORECASE,
)

# Texts that are a secret by their form: a word that stands in each, how many characters of the
# form precede it, and the whole of it. `str.find` finds the word at next to no cost.
_FORMS: Final = tuple(
    (word, before, re.compile(form, re.DOTALL))
    for word, before, form in (
        ("sk-", 0, r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_\-]{8,}"),
        ("k_live_", 1, r"(?<![A-Za-z0-9])[srp]k_live_[A-Za-z0-9]{8,}"),
        ("k_test_", 1, r"(?<![A-Za-z0-9])[srp]k_test_[A-Za-z0-9]{8,}"),
        ("AKIA", 0, r"AKIA[A-Z0-9]{16}"),
        ("ASIA", 0, r"ASIA[A-Z0-9]{16}"),
        ("AIza", 0, r"AIza[A-Za-z0-9_\-]{30,}"),
        ("ya29.", 0, r"ya29\.[A-Za-z0-9_\-.]{10,}"),
        *((f"gh{kind}_", 0, rf"gh{kind}_[A-Za-z0-9]{{20,}}") for kind in "opusr"),
        ("github_pat_", 0, r"github_pat_[A-Za-z0-9_]{20,}"),
        ("glpat-", 0, r"glpat-[A-Za-z0-9_\-]{16,}"),
        ("hf_", 0, r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}"),
        ("gsk_", 0, r"(?<![A-Za-z0-9])gsk_[A-Za-z0-9]{16,}"),
        ("xai-", 0, r"(?<![A-Za-z0-9])xai-[A-Za-z0-9]{16,}"),
        ("pplx-", 0, r"(?<![A-Za-z0-9])pplx-[A-Za-z0-9]{16,}"),
        ("r8_", 0, r"(?<![A-Za-z0-9])r8_[A-Za-z0-9]{16,}"),
        ("xox", 0, r"xox[abeoprs]-[A-Za-z0-9\-]{10,}"),
        ("npm_", 0, r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{30,}"),
        ("pypi-", 0, r"pypi-[A-Za-z0-9_\-]{30,}"),
        ("SG.", 0, r"SG\.[A-Za-z0-9_\-]{16,}+\.[A-Za-z0-9_\-]{16,}"),
        ("dapi", 0, r"(?<![A-Za-z0-9])dapi[a-f0-9]{32}"),
        (
            "eyJ", 0,
            r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{4,}+\.[A-Za-z0-9_\-]{4,}+(?:\.[A-Za-z0-9_\-]*+)*+",
        ),
        # A key that has no end within 16 KB: the whole rest is hidden.
        (
            "-----BEGIN ", 0,
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.{0,16384}?-----END [A-Z ]*PRIVATE KEY-----|.*)",
        ),
        ("://", -3, r"(?<=://)[^/\s:@\"']*+:[^/\s@\"']++(?=@)"),
    )
)  # fmt: skip
MAX_LOOKS: Final = 200_000
"""Places of one payload: one for every 40 characters of 8 MB."""
_WINDOW: Final = 1 << 16
_LONGEST_START: Final = 32
"""Characters of the longest match of `_PAIR_START` or `_SCHEME_START`, or more."""


def is_secret_name(name: str) -> bool:
    """Tell whether the value under a key or header of this name is a secret."""
    return _ends_as_secret(name[-64:])


@lru_cache(4096)
def _ends_as_secret(name: str) -> bool:
    return _NAME.search(_HUMP.sub("_", name)) is not None


class Looks:
    """How many places of one payload are looked at, where a secret may begin.

    Each takes a microsecond or two, and a hostile payload has a million. What is behind the last
    one is cut, not left in: it was not searched.
    """

    def __init__(self, number: int = MAX_LOOKS) -> None:
        self.left = number


def hide_secrets(text: str, looks: Looks | None = None) -> str:
    """Return the text with everything that looks like a secret replaced by `REDACTED`.

    Its time grows as the text does, whatever that is; and it holds the interpreter for no longer
    than one look at a bounded part, so that other threads of the gateway go on meanwhile.

    Args:
        text: of any length.
        looks: those that are left of the payload; by default as many as a payload has.
    """
    if len(text) < 8:  # noqa: PLR2004 - no form is shorter
        return text
    looks = looks or Looks()
    find: Callable[[int], int]
    for word, before, form in _FORMS:
        if word in text:
            find = partial(_find_word, text, word, before)
            text = _replace(text, find, form, _hide_all, looks)
    find = _Starts(text, _SCHEME_START, _SCHEME_HINTS).find
    text = _replace(text, find, _SCHEME, _hide_rest, looks)
    if "=" in text or ":" in text or "%3" in text:
        closing = _ClosingQuotes(text)
        find = _Starts(text, _PAIR_START, _PAIR_HINTS).find
        text = _replace(text, find, _PAIR, partial(_hide_value, closing), looks)
    return text


def _replace(
    text: str,
    find: Callable[[int], int],
    form: re.Pattern[str],
    hide: Callable[..., _Hidden],
    looks: Looks,
) -> str:
    """Hide each match of a form in a text.

    Args:
        text: of any length.
        find: tells where the form may begin, from a position on; -1 for nowhere.
        form: the whole of it.
        hide: returns a match's replacement, and where what it replaces ends; None to keep it.
        looks: counted down; without any the rest is cut.
    """
    parts: list[str] = []
    done, at = 0, find(0)
    while at >= 0:
        looks.left -= 1
        if looks.left < 0:
            cut = f"<cut: {len(text) - at} characters, not searched for secrets>"
            return "".join((*parts, text[done:at], cut))
        match = form.match(text, at)
        if match is None or (hidden := hide(match)) is None:
            at = find(at + 1)
            continue
        replacement, end = hidden
        parts += (text[done:at], replacement)
        done, at = end, find(end)
    return "".join((*parts, text[done:])) if parts else text


def _find_word(text: str, word: str, before: int, start: int) -> int:
    at = text.find(word, max(0, start + before))
    return at - before if at >= 0 else -1


def _hide_all(match: re.Match[str]) -> _Hidden:
    return REDACTED, match.end()


def _hide_rest(match: re.Match[str]) -> _Hidden:
    return f"{match['name']}{REDACTED}", match.end()


def _hide_value(closing: _ClosingQuotes, match: re.Match[str]) -> _Hidden:
    name, quote = match["name"], match["quote"]
    if quote is None:
        return f"{name}{match['scheme'] or ''}{REDACTED}", match.end()
    end = closing.find(quote, match.end())
    return None if end < 0 else (f"{name}{quote}{REDACTED}{quote}", end)


class _Starts:
    """The places in a text where a form may begin, found window by window.

    Args:
        text: of any length.
        pattern: matches the form's first word, of `_LONGEST_START` characters at most.
        hints: lower-case words, one of which is in each match: without them no window is searched.
    """

    def __init__(self, text: str, pattern: re.Pattern[str], hints: tuple[str, ...]) -> None:
        self._text = text
        self._pattern = pattern
        self._hints = hints
        self._window = -1
        self._has_hint = False

    def find(self, start: int) -> int:
        """Return the next place from `start` on; -1 for none."""
        while start < len(self._text):
            window = start // _WINDOW
            last = (window + 1) * _WINDOW + _LONGEST_START
            if window != self._window:
                folded = self._text[window * _WINDOW : last].lower()
                self._window, self._has_hint = window, any(one in folded for one in self._hints)
            if self._has_hint and (match := self._pattern.search(self._text, start, last)):
                return match.start()
            start = last - _LONGEST_START
        return -1


class _ClosingQuotes:
    """The ends of what is in quotes in a text.

    A quote that is not closed is looked for once, and not again for each quote like it.

    Args:
        text: of any length.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._next: dict[str, int] = {}  # where the next one may begin

    def find(self, quote: str, start: int) -> int:
        """Return where a quote ends that closes one like it before `start`; -1 for none.

        It is within `_MAX_QUOTED` characters.
        """
        last = start + _MAX_QUOTED
        if len(quote) > _MAX_QUOTE:
            return min(last, len(self._text))
        begin = max(start, self._next.get(quote, 0))
        at = self._text.find(quote, begin, last + len(quote)) if begin <= last else -1
        self._next[quote] = at if at >= 0 else max(begin, last + 1)
        return at + len(quote) if at >= 0 else -1

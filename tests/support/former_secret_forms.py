"""The forms of a secret as they were when one pattern was used over a whole text.

Their time was not bounded, which is why they are here and not in the gateway: what they hide, the
present forms have to hide.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "<redacted>"

_WORD: Final = (
    r"(?:api[_\-]?key|subscription[_\-]?key|access[_\-]?key(?:[_\-]?id)?|private[_\-]?key|"
    r"secret[_\-]?key|account[_\-]?key|master[_\-]?key|secret|password|passwd|passphrase|pwd|"
    r"token|authorization|cookie|credentials?|signature|sig|jwt)"
)
_PAIR: Final = re.compile(
    rf"(?P<name>{_WORD}\\*[\"']?\s*(?::|=|%3[Dd])\s*)"
    r"(?:(?P<quote>\\*[\"'])(?P<quoted>(?:(?!(?P=quote)).){0,8192})(?P=quote)"
    r"|(?P<scheme>(?:Bearer|Basic|Token|Digest|Negotiate)\s+)?"
    r"(?P<bare>(?=[^\s\"'&,;<>(]{0,19}\d|[^\s\"'&,;<>(]{20})[^\s\"'&,;<>{}\[\]()\\]{4,}))",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_PAIR_HINTS: Final = (
    "key", "secret", "passw", "passphrase", "pwd", "token", "authorization", "cookie", "credential",
    "sig", "jwt",
)  # fmt: skip

# Texts that are a secret by their form: what must stand in them, and the whole of it.
_FORMS: Final = tuple(
    (hint, re.compile(form))
    for hint, form in (
        ("sk-", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_\-]{8,}"),
        ("k_", r"(?<![A-Za-z0-9])[srp]k_(?:live|test)_[A-Za-z0-9]{8,}"),
        ("AKIA", r"AKIA[A-Z0-9]{16}"),
        ("ASIA", r"ASIA[A-Z0-9]{16}"),
        ("AIza", r"AIza[A-Za-z0-9_\-]{30,}"),
        ("ya29.", r"ya29\.[A-Za-z0-9_\-.]{10,}"),
        ("gh", r"gh[opusr]_[A-Za-z0-9]{20,}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{20,}"),
        ("glpat-", r"glpat-[A-Za-z0-9_\-]{16,}"),
        ("hf_", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}"),
        ("gsk_", r"(?<![A-Za-z0-9])gsk_[A-Za-z0-9]{16,}"),
        ("xai-", r"(?<![A-Za-z0-9])xai-[A-Za-z0-9]{16,}"),
        ("pplx-", r"(?<![A-Za-z0-9])pplx-[A-Za-z0-9]{16,}"),
        ("r8_", r"(?<![A-Za-z0-9])r8_[A-Za-z0-9]{16,}"),
        ("xox", r"xox[abeoprs]-[A-Za-z0-9\-]{10,}"),
        ("npm_", r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{30,}"),
        ("pypi-", r"pypi-[A-Za-z0-9_\-]{30,}"),
        ("SG.", r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}"),
        ("dapi", r"(?<![A-Za-z0-9])dapi[a-f0-9]{32}"),
        (
            "eyJ",
            r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)*",
        ),
        (
            "PRIVATE KEY",
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
        ),
        ("://", r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"),
    )
)
_SCHEME: Final = re.compile(
    r"(?i)\b(bearer|basic)((?:\s|%20|\+|\\+[nrt])+)(?=\S{0,15}\d|\S{16})[^\s\"'\\,;<>]{8,}"
)


def hide_secrets(text: str) -> str:
    """Return the text with everything that looks like a secret replaced by `REDACTED`."""
    if len(text) < 8:
        return text
    for hint, form in _FORMS:
        if hint in text:
            text = form.sub(REDACTED, text)
    folded = text.lower()
    if "bearer" in folded or "basic" in folded:
        text = _SCHEME.sub(rf"\1\2{REDACTED}", text)
    if ("=" in text or ":" in text or "%3" in text) and any(h in folded for h in _PAIR_HINTS):
        text = _PAIR.sub(_hide_value, text)
    return text


def _hide_value(match: re.Match[str]) -> str:
    name, quote = match["name"], match["quote"]
    if quote is not None:
        return f"{name}{quote}{REDACTED}{quote}"
    return f"{name}{match['scheme'] or ''}{REDACTED}"

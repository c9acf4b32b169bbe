"""Knows what a secret looks like: names that hold one, and texts that are one. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

REDACTED: Final = "<redacted>"

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
# is not in quotes needs a digit or some length: prose and code are full of `token: text`.
_WORD: Final = (
    r"(?:api[_\-]?key|subscription[_\-]?key|access[_\-]?key(?:[_\-]?id)?|private[_\-]?key|"
    r"secret[_\-]?key|account[_\-]?key|master[_\-]?key|secret|password|passwd|passphrase|pwd|"
    r"token|authorization|cookie|credentials?|signature|sig|jwt)"
)
_PAIR: Final = re.compile(
    rf"(?P<name>{_WORD}\\*[\"']?\s*(?::|=|%3[Dd])\s*)"
    r"(?:(?P<quote>\\*[\"'])(?P<quoted>(?:(?!(?P=quote)).){0,8192})(?P=quote)"
    r"|(?P<scheme>(?:Bearer|Basic|Token|Digest|Negotiate)\s+)?"
    r"(?P<bare>(?=[^\s\"'&,;<>(]*\d|[^\s\"'&,;<>(]{20})[^\s\"'&,;<>{}\[\]()\\]{4,}))",
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
    r"(?i)\b(bearer|basic)((?:\s|%20|\+|\\+[nrt])+)(?=[^\s]*\d|[^\s]{16})[^\s\"'\\,;<>]{8,}"
)


# For `may_hold`, over the JSON of a whole event: broader than the above. Each begins with a
# literal, which `re` finds fast, and looks back from there; the number of passes is the cost.
_FORMS_IN_JSON: Final = tuple(
    re.compile(form)
    for form in (
        (
            rb"_(?:(?<=[srp]k_)|(?<=gh[opusr]_)|(?<=github_pat_)|(?<=hf_)|(?<=r8_)|(?<=npm_))"
            rb"[A-Za-z0-9_]{8}"
        ),
        (
            rb"-(?:(?<=sk-)|(?<=glpat-)|(?<=xai-)|(?<=pplx-)|(?<=xox[abeoprs]-)|(?<=pypi-))"
            rb"[A-Za-z0-9_\-]{8}"
        ),
        rb"A(?:KIA|SIA|Iza)[A-Za-z0-9_\-]{16}",
        rb"ya29\.",
        rb"SG\.",
        rb"dapi[a-f0-9]{32}",
        rb"eyJ",
        rb"PRIVATE KEY-",
        rb"://[^/\s:@\"']*:[^/\s@\"']+@",
    )
)
# Over the same in lower case and without `_`, `-`, `.` and blanks.
_END: Final = rb"(?:value|header)?[\"'\\=:%]"
_NAMES_IN_JSON: Final = tuple(
    re.compile(name + _END)
    for name in (
        (rb"key(?:(?<=apikey)|(?<=subscriptionkey)|(?<=accesskey)|(?<=privatekey)|(?<=secretkey)|"
        rb"(?<=accountkey)|(?<=masterkey)|(?<=encryptionkey)|(?<=signingkey)|(?<=saltkey)|"
        rb"(?<=authkey)|(?<=functionkey))(?:id)?"),
        rb"secret", rb"pass(?:word|wd|phrase)", rb"pwd", rb"token", rb"auth(?:orization)?",
        rb"cookie", rb"credentials?", rb"connectionstring", rb"jwt", rb"bearer",
        rb"sig(?:nature)?",
    )
)  # fmt: skip
_SCHEME_IN_JSON: Final = tuple(
    re.compile(scheme + rb"(?:\s|%20|\+|\\+[nrtf])+(?:[^\s\"]*\d|[^\s\"]{16})")
    for scheme in (rb"bearer", rb"basic")
)


def may_hold(json: bytes) -> bool:
    """Tell whether there may be anything in a JSON text that the other functions would hide."""
    if any(form.search(json) for form in _FORMS_IN_JSON):
        return True
    folded = json.lower()
    if any(scheme.search(folded) for scheme in _SCHEME_IN_JSON):
        return True
    bare = folded.translate(None, b"_-. ")
    return any(name.search(bare) for name in _NAMES_IN_JSON)


def names_secret(name: str) -> bool:
    """Tell whether what stands under this key or header is a secret."""
    return _ends_as_secret(name[-64:])


@lru_cache(4096)
def _ends_as_secret(name: str) -> bool:
    return _NAME.search(_HUMP.sub("_", name)) is not None


def without_secrets(text: str) -> str:
    """Return the text with everything that looks like a secret replaced."""
    if len(text) < 8:  # noqa: PLR2004 - no form is shorter
        return text
    for hint, form in _FORMS:
        if hint in text:
            text = form.sub(REDACTED, text)
    folded = text.lower()
    if "bearer" in folded or "basic" in folded:
        text = _SCHEME.sub(rf"\1\2{REDACTED}", text)
    if ("=" in text or ":" in text or "%3" in text) and any(h in folded for h in _PAIR_HINTS):
        text = _PAIR.sub(_hidden, text)
    return text


def _hidden(match: re.Match[str]) -> str:
    name, quote = match["name"], match["quote"]
    if quote is not None:
        return f"{name}{quote}{REDACTED}{quote}"
    return f"{name}{match['scheme'] or ''}{REDACTED}"

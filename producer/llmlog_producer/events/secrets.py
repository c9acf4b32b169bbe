"""Owns the forms of a secret: names of keys that hold one, and texts that are one. Pure."""

from __future__ import annotations

import re
import string
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
# is not in quotes needs a digit or some length: prose and code are full of `token: text`. What is
# looked for ahead is bounded: a text of nothing but such words would be read once for each of them.
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


# For `may_hold_secret`, over the JSON of a whole payload: broader than the forms above. Each starts
# at one byte that is rare in prose and looks back from there: a search for one byte costs a tenth
# of one for a word. The two bytes before the anchor are compared first.
_FORMS_IN_JSON: Final = tuple(
    re.compile(form)
    for form in (
        (
            rb"_(?<=[srpha][kopusrtf8m]_)(?:(?<=[srp]k_)|(?<=gh[opusr]_)|(?<=github_pat_)|(?<=hf_)|"
            rb"(?<=r8_)|(?<=npm_))[A-Za-z0-9_]{8}"
        ),
        (
            rb"-(?<=[salxp][ktixabeoprs]-)(?:(?<=sk-)|(?<=glpat-)|(?<=xai-)|(?<=pplx-)|"
            rb"(?<=xox[abeoprs]-)|(?<=pypi-))[A-Za-z0-9_\-]{8}"
        ),
        rb"A(?:KIA|SIA|Iza)[A-Za-z0-9_\-]{16}",
        rb"\.(?<=[9G]\.)(?:(?<=ya29\.)|(?<=SG\.))",
        rb"dapi[a-f0-9]{32}",
        rb"J(?<=eyJ)",
        rb"V(?<=PRIV)ATE KEY-",
    )
)
_URL_IN_JSON: Final = re.compile(rb"://[^/\s:@\"']*:[^/\s@\"']+@")
_BLANK_IN_JSON: Final = rb"(?:\s|%20|\+|\\+[a-z]|[\x80-\xff])+"
_SCHEMES_IN_JSON: Final = tuple(
    (scheme, re.compile(scheme + _BLANK_IN_JSON + rb"(?=\S{16}|\S*[\d\x80-\xff])[^\s\"]{8}"))
    for scheme in (b"bearer", b"basic")
)
# Names are looked for in the text without case, quotes, blanks and what joins words; `=` stands
# there for all that may follow a name: a colon, the beginning of `%3D` or of an escape.
_FOLD: Final = bytes.maketrans(
    string.ascii_uppercase.encode() + b":%\\", string.ascii_lowercase.encode() + b"==="
)
_JOINS: Final = b"_-. \"'"
_NAMES: Final = (
    *(f"{of}key" for of in ("api", "subscription", "access", "private", "secret", "account",
                            "master", "encryption", "signing", "salt", "auth", "function")),
    "accesskeyid", "secret", "password", "passwd", "passphrase", "pwd", "token", "auth",
    "authorization", "cookie", "credential", "credentials", "connectionstring", "jwt", "bearer",
    "sig", "signature",
)  # fmt: skip


def _names_before_equals() -> re.Pattern[bytes]:
    """Return the pattern of an `=` behind a name: by the name's last letters, then by all of it."""
    ends = "|".join(sorted({name[-3:] for name in _NAMES}))
    rest = "|".join(f"(?<={name}{more}=)" for name in _NAMES for more in ("", "value", "header"))
    return re.compile(f"=(?<=(?:{ends}|lue|der)=)(?:{rest})".encode())


_NAMES_IN_JSON: Final = _names_before_equals()
_FLAGS_IN_JSON: Final = re.compile(rb"\":(?<!\\\":)(?:false|true|null)(?=[,}])")
"""Values that are no secret under any key. In a text within the JSON the quote has a backslash
before it; the pattern looks for that last, which is ten times as fast."""


_NUL: Final = rb"\u0000"


def may_hold_secret(json: bytes) -> bool:
    """Tell whether a JSON text may hold anything that `hide_secrets` or `is_secret_name` finds.

    It runs over every payload, and they do not: it has to be quick, and may find too much, but
    never too little.
    """
    # Keys lose their NUL characters before they are indexed: search the text without them too.
    return _search(json) or (_NUL in json and _search(json.replace(_NUL, b"")))


def _search(json: bytes) -> bool:
    if any(form.search(json) for form in _FORMS_IN_JSON):
        return True
    if b"@" in json and _URL_IN_JSON.search(json):
        return True
    # A proxy's payloads all have a `used_client_oauth_token` that is false.
    folded = _FLAGS_IN_JSON.sub(b'"', json).translate(_FOLD, _JOINS)
    return _NAMES_IN_JSON.search(folded) is not None or any(
        scheme in folded and form.search(json.lower()) for scheme, form in _SCHEMES_IN_JSON
    )


def is_secret_name(name: str) -> bool:
    """Tell whether the value under a key or header of this name is a secret."""
    return _ends_as_secret(name[-64:])


@lru_cache(4096)
def _ends_as_secret(name: str) -> bool:
    return _NAME.search(_HUMP.sub("_", name)) is not None


def hide_secrets(text: str) -> str:
    """Return the text with everything that looks like a secret replaced by `REDACTED`."""
    if len(text) < 8:  # noqa: PLR2004 - no form is shorter
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

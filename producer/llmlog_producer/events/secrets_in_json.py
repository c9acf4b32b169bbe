"""Owns the quick look at a whole payload's JSON: may it hold a secret? Pure.

It runs over every payload, and `secrets.py` over the few that it suspects.
"""

from __future__ import annotations

import re
import string
from typing import Final

# Broader than the forms of `secrets.py`. Each starts
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
_WINDOW_IN_JSON: Final = 1 << 16
_LONGEST_IN_JSON: Final = 1 << 14
"""Bytes of the longest secret that lies across the end of a window."""


def may_hold_secret(json: bytes) -> bool:
    """Tell whether a JSON text may hold anything that `hide_secrets` or `is_secret_name` finds.

    It runs over every payload, and they do not: it has to be quick, and may find too much, but
    never too little.
    """
    # Keys lose their NUL characters before they are indexed: search the text without them too.
    return _search_windows(json) or (_NUL in json and _search_windows(_without_nul(json)))


def _without_nul(json: bytes) -> bytes:
    """Remove the escapes of NUL, window by window; none is cut in two."""
    parts, start, most = [], 0, len(_NUL) - 1
    while start < len(json):
        end = start + _WINDOW_IN_JSON
        if (across := json.find(_NUL, max(start, end - most), end + most)) >= 0:
            end = across + len(_NUL)
        parts.append(json[start:end].replace(_NUL, b""))
        start = end
    return b"".join(parts)


def _search_windows(json: bytes) -> bool:
    """Search a long text in parts, so that other threads may run between two."""
    if len(json) <= _WINDOW_IN_JSON:
        return _search(json)
    return any(
        _search(json[start : start + _WINDOW_IN_JSON + _LONGEST_IN_JSON])
        for start in range(0, len(json), _WINDOW_IN_JSON)
    )


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

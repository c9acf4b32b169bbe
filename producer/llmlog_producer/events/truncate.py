"""Owns the truncation of payloads: audio, images, vectors and very long texts are replaced.

A marker `{"llmlog_cut": {"type": …, "bytes": …, "sha256": …}}` takes the place of the content: two
equal contents have equal markers. Works on the hook's copy of the payload and changes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.fields import DOCUMENT
from llmlog_schemas.json_form import dumps, to_plain, to_text
from llmlog_schemas.kinds import Kind
from llmlog_schemas.limits import CUT, MAX_PAYLOAD_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

MIN_BLOB_BYTES: Final = 1024
"""Base64 texts and vectors that are smaller are kept."""

_MAX_SECRET_BYTES: Final = 9 * 1024
"""Characters of the largest secret, with its name, that may lie across the end of a text."""

_MAX_LISTED_PLACES: Final = 50
_LEAVES: Final = frozenset((int, float, bool, type(None)))
_OPEN_KINDS: Final = frozenset((Kind.STORED, Kind.FLATTENED))
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"
_SILENCE_BYTES: Final = 256
_NEAR_SILENCE: Final = bytes(
    {value % 256 for zero in (0, 0x80) for value in range(zero - 4, zero + 5)} | {0x55, 0xD5}
)
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.=+-]+)*),", re.IGNORECASE)
_MEDIA_TYPES: Final = (
    (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"), (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"), (b"\xff\xfb", "audio/mpeg"), (b"PK\x03\x04", "application/zip"),
)  # fmt: skip


class Truncator:
    """Truncates payloads as the settings say.

    Args:
        settings: as loaded.
        clean: replaces the secrets in a text. A secret is cleaned away before the text is
            truncated: half of one would not be recognised later.
    """

    def __init__(self, settings: Settings, clean: Callable[[str], str] = str) -> None:
        self._max_text = settings.max_field_bytes
        self._keep_binary = settings.keep_binary
        self._clean = clean

    def truncate(self, payload: dict[Any, Any]) -> int:
        """Truncate the payload in place; return the number of places."""
        walk = _Walk(self._max_text, self._clean, keep_binary=self._keep_binary)
        walk.visit(payload, ())
        if walk.places and CUT not in payload:
            payload[CUT] = {"places": walk.places, "fields": walk.listed}
        return walk.places


class _Walk:
    """One walk over one payload.

    Attributes:
        places: number of values that were replaced.
        listed: dotted paths of the first of them.
    """

    def __init__(self, max_text: int, clean: Callable[[str], str], *, keep_binary: bool) -> None:
        self._max_text = max_text
        self._clean = clean
        self._keep_binary = keep_binary
        self.places = 0
        self.listed: list[str] = []

    def visit(self, container: Any, path: tuple[Any, ...]) -> None:
        """Replace every value in a dict or list that is too large."""
        for key, value in container.items() if type(container) is dict else enumerate(container):
            kind = type(value)
            if kind is str:
                if len(value) < MIN_BLOB_BYTES:
                    continue
            elif kind in _LEAVES:
                continue
            if kind is not dict:  # a dict is never too large itself, only the values in it
                if kind is not str and kind is not list:
                    if _keeps_object(value, kind, None if path else key):
                        continue
                    value = container[key] = to_plain(value)  # noqa: PLW2901
                if (marker := self._replacement(value)) is not None:
                    container[key] = marker
                    self._note((*path, key))
                    continue
            if isinstance(value, (dict, list)) and len(path) < MAX_PAYLOAD_DEPTH:
                self._descend(value, (*path, key))

    def _descend(self, value: Any, path: tuple[Any, ...]) -> None:
        if type(value) is dict and CUT in value:  # the hook has left something out
            self._note(path)
        self.visit(value, path)

    def _note(self, path: tuple[Any, ...]) -> None:
        self.places += 1
        if len(self.listed) < _MAX_LISTED_PLACES:
            self.listed.append(".".join(to_text(str(key)) for key in path)[:200])

    def _replacement(self, value: Any) -> Any:
        """Return the marker or the shorter text that replaces a value; None to keep the value."""
        if isinstance(value, list):
            return None if self._keep_binary else _vector_marker(value)
        if not isinstance(value, str) or len(value) < MIN_BLOB_BYTES:
            return None
        if not self._keep_binary and (marker := _blob_marker(value)):
            return marker
        if len(value) > self._max_text:
            return (
                f"{self._first_part(value)}<cut: {self._max_text} of {len(value)} characters, "
                f"sha256 {_sha256(_encode(value))}>"
            )
        return None

    def _first_part(self, value: str) -> str:
        """Return the first `max_text` characters, without a secret that lies across their end."""
        start, end = max(0, self._max_text - _MAX_SECRET_BYTES), self._max_text + _MAX_SECRET_BYTES
        around = self._clean(value[start:end])
        # The slice ends in mid-text, so its own end may be half a secret: leave that out.
        kept = len(around) - _MAX_SECRET_BYTES if len(value) > end else self._max_text - start
        return value[:start] + around[: max(0, kept)]


def _keeps_object(value: Any, kind: type, field: Any) -> bool:
    """Tell whether an object is left to the conversion; others are replaced by their JSON form.

    An object may hold anything, so its JSON form is searched. In a field of a plain type an object
    is mistyped, and the conversion has to see that.
    """
    if isinstance(value, Enum) or kind.__module__ in {"datetime", "decimal", "uuid"}:
        return True
    return field is not None and DOCUMENT.get(str(field), Kind.STORED) not in _OPEN_KINDS


def _vector_marker(value: list[Any]) -> Any:
    """Return the marker of an embedding, a long list of numbers with fractions; or None."""
    if len(value) * 8 < MIN_BLOB_BYTES or type(value[0]) is not float:
        return None
    if not all(type(item) is float or type(item) is int for item in value):
        return None
    return _make_marker("vector", length=len(value), sha256=_sha256(dumps(value)))


def _blob_marker(value: str) -> Any:
    """Return the marker of a `data:` URI, or of base64 without one; None for any other text."""
    if uri := _DATA_URI.match(value, 0, 200):
        payload = value[uri.end() :]
        size = len(payload) * 3 // 4 if "base64" in uri[2].lower() else len(payload)
        return _make_marker(uri[1] or "text/plain", bytes=size, sha256=_sha256(_encode(payload)))
    # Cheap tests first: prose has blanks, and base64 has its own alphabet from end to end.
    if not value.isascii() or " " in value[:200]:
        return None
    raw = value.encode("ascii")
    if raw.translate(None, _ALPHABET) or not (_is_random(raw[:MIN_BLOB_BYTES]) or _is_media(raw)):
        return None
    size = len(raw.rstrip(b"=\r\n")) * 3 // 4
    return _make_marker(_media_type(raw), bytes=size, sha256=_sha256(raw))


def _is_random(raw: bytes) -> bool:
    """Tell base64 of binary data from the repetition of a few letters."""
    return len(set(raw)) > 32  # noqa: PLR2004 - of 64


def _is_media(raw: bytes) -> bool:
    """Tell base64 of a known format, or of silence, from a text of a few letters.

    Samples of silence are next to zero; of one byte at 0x80, 0xff (mu-law) or 0xd5 (A-law).
    """
    if _media_type(raw) != "base64":
        return True
    first = raw[: 2 * _SILENCE_BYTES].translate(None, b"\r\n")[:_SILENCE_BYTES]
    try:
        samples = base64.b64decode(first, validate=True)
    except ValueError:
        return False
    return bool(samples) and not samples.translate(None, _NEAR_SILENCE)


def _media_type(raw: bytes) -> str:
    """Return the media type by the first bytes of the data; `base64` where they are not known."""
    try:
        head = base64.b64decode(raw[:24].translate(None, b"\r\n")[:16], altchars=b"-_")
    except ValueError:
        return "base64"
    if head[:4] == b"RIFF":
        return "image/webp" if head[8:12] == b"WEBP" else "audio/wav"
    return next((kind for start, kind in _MEDIA_TYPES if head.startswith(start)), "base64")


def _make_marker(kind: str, **details: Any) -> dict[str, Any]:
    return {CUT: {"type": kind, **details}}


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")

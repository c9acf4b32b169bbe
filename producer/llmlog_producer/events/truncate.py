"""Replaces what is large and says nothing to a reader: audio, images, vectors, endless texts.

A marker `{"llmlog_cut": {"type": …, "bytes": …, "sha256": …}}` takes its place, so that equal
contents can still be told. Works on the hook's copy of the payload and changes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.fields import DOCUMENT, Kind
from llmlog_schemas.json_form import dumps, plain, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

NOTE: Final = "llmlog_cut"
"""Key of a marker; and, in the event's `extra`, of the dotted paths of all markers."""

SMALLEST_BLOB: Final = 1024
"""Characters of base64, or bytes of a vector, that are kept."""

_WIDEST: Final = 9 * 1024
"""Characters of the largest secret, with its name, that a cut may go through."""

_NAMED: Final = 50
_MAX_DEPTH: Final = 60
_LEAVES: Final = frozenset((int, float, bool, type(None)))
_OPEN: Final = frozenset((Kind.STORED, Kind.FLATTENED))
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.=+-]+)*),", re.IGNORECASE)
_KINDS: Final = (
    (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"), (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"), (b"\xff\xfb", "audio/mpeg"), (b"PK\x03\x04", "application/zip"),
)  # fmt: skip


class Truncator:
    """Cuts payloads as the settings say.

    Args:
        settings: as loaded.
        clean: takes secrets out of a text; half of one would not be known for what it is.
    """

    def __init__(self, settings: Settings, clean: Callable[[str], str] = str) -> None:
        self._max_text = settings.max_field_bytes
        self._keeps_binary = settings.keep_binary
        self._clean = clean

    def __call__(self, payload: dict[Any, Any]) -> int:
        """Cut the payload in place; return in how many places."""
        walk = _Walk(self._max_text, self._clean, keeps_binary=self._keeps_binary)
        walk.through(payload, ())
        if walk.cut and NOTE not in payload:
            payload[NOTE] = {"places": walk.cut, "fields": walk.places}
        return walk.cut


class _Walk:
    """One walk over one payload."""

    def __init__(self, max_text: int, clean: Callable[[str], str], *, keeps_binary: bool) -> None:
        self._max_text = max_text
        self._clean = clean
        self._keeps_binary = keeps_binary
        self.cut = 0
        self.places: list[str] = []

    def through(self, container: Any, path: tuple[Any, ...]) -> None:
        """Look at everything in a dict or list, and replace what is too large in it."""
        for key, value in container.items() if type(container) is dict else enumerate(container):
            kind = type(value)
            if kind is str:
                if len(value) < SMALLEST_BLOB:
                    continue
            elif kind in _LEAVES:
                continue
            if kind is not dict:  # of which only what is in it can be too large
                if kind is not str and kind is not list:
                    if _stays_object(value, kind, None if path else key):
                        continue
                    value = container[key] = plain(value)  # noqa: PLW2901
                if (smaller := self._smaller(value)) is not None:
                    container[key] = smaller
                    self._note((*path, key))
                    continue
            if isinstance(value, (dict, list)) and len(path) < _MAX_DEPTH:
                self.through(value, (*path, key))

    def _note(self, path: tuple[Any, ...]) -> None:
        self.cut += 1
        if len(self.places) < _NAMED:
            self.places.append(".".join(text(str(key)) for key in path)[:200])

    def _smaller(self, value: Any) -> Any:
        """Return what takes the value's place, or None where it may stay."""
        if isinstance(value, list):
            return None if self._keeps_binary else _cut_vector(value)
        if not isinstance(value, str) or len(value) < SMALLEST_BLOB:
            return None
        if not self._keeps_binary and (marker := _cut_blob(value)):
            return marker
        if len(value) > self._max_text:
            return (
                f"{self._beginning(value)}<cut: {self._max_text} of {len(value)} characters, "
                f"sha256 {_sha256(_bytes(value))}>"
            )
        return None

    def _beginning(self, value: str) -> str:
        """Return a text up to the cut, without a secret that reaches beyond it."""
        start, end = max(0, self._max_text - _WIDEST), self._max_text + _WIDEST
        around = self._clean(value[start:end])
        # Where the text goes on, the last of it may be half a secret itself.
        upto = len(around) - _WIDEST if len(value) > end else self._max_text - start
        return value[:start] + around[: max(0, upto)]


def _stays_object(value: Any, kind: type, field: Any) -> bool:
    """Tell whether an object is left to the conversion; of others the JSON form is looked at.

    An object may hold anything. Where a plain value belongs, it is mistyped, and has to stay one.
    """
    if isinstance(value, Enum) or kind.__module__ in {"datetime", "decimal", "uuid"}:
        return True
    return field is not None and DOCUMENT.get(str(field), Kind.STORED) not in _OPEN


def _cut_vector(value: list[Any]) -> Any:
    """Return a marker for an embedding: a long list of nothing but numbers with fractions."""
    if len(value) * 8 < SMALLEST_BLOB or type(value[0]) is not float:
        return None
    if not all(type(item) is float or type(item) is int for item in value):
        return None
    return _marker("vector", length=len(value), sha256=_sha256(dumps(value)))


def _cut_blob(value: str) -> Any:
    """Return a marker for a `data:` URI, or for base64 without one."""
    if uri := _DATA_URI.match(value, 0, 200):
        payload = value[uri.end() :]
        size = len(payload) * 3 // 4 if "base64" in uri[2].lower() else len(payload)
        return _marker(uri[1] or "text/plain", bytes=size, sha256=_sha256(_bytes(payload)))
    # Words hold blanks; only what is of base64 from end to end is looked at any further.
    if not value.isascii() or " " in value[:200]:
        return None
    raw = value.encode("ascii")
    if raw.translate(None, _ALPHABET) or not _is_mixed(raw[:SMALLEST_BLOB]):
        return None
    return _marker(_kind(raw), bytes=len(raw.rstrip(b"=\r\n")) * 3 // 4, sha256=_sha256(raw))


def _is_mixed(raw: bytes) -> bool:
    """Tell random base64 from a word that goes on and on."""
    return len(set(raw)) > 32  # noqa: PLR2004 - of 64


def _kind(raw: bytes) -> str:
    try:
        head = base64.b64decode(raw[:24].translate(None, b"\r\n")[:16], altchars=b"-_")
    except ValueError:
        return "base64"
    if head[:4] == b"RIFF":
        return "image/webp" if head[8:12] == b"WEBP" else "audio/wav"
    return next((kind for start, kind in _KINDS if head.startswith(start)), "base64")


def _marker(kind: str, **what: Any) -> dict[str, Any]:
    return {NOTE: {"type": kind, **what}}


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")

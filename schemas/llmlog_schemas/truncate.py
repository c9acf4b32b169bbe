"""Replaces the largest fields of an event that is too large for its topic. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_schemas.fields import DOCUMENT, EXTRA, TIMESTAMP, TYPED
from llmlog_schemas.json_form import dumps_in_parts
from llmlog_schemas.kinds import Kind
from llmlog_schemas.limits import CUT

if TYPE_CHECKING:
    from llmlog_schemas.event import LLMEvent

_NEVER_TRUNCATED: Final = frozenset((TIMESTAMP, *TYPED))


def truncate_event(event: LLMEvent, max_bytes: int) -> LLMEvent:
    """Return the event with the largest fields of its document replaced until it fits.

    A field is replaced by `{"llmlog_cut": {"bytes": …, "sha256": …}}`, or by a text with the same
    numbers where Elasticsearch expects text. Where that is not enough, only the typed fields stay.

    Args:
        event: it is not changed.
        max_bytes: of the document.
    """
    whole = event["document"]
    if len(whole) <= max_bytes:
        return event
    document = orjson.loads(whole)
    written = {name: orjson.dumps(document[name]) for name in document.keys() - _NEVER_TRUNCATED}
    markers, excess = _replace_largest(written, len(whole) - max_bytes)
    document |= markers
    if excess > 0:
        document = {name: value for name, value in document.items() if name in _NEVER_TRUNCATED}
        document[EXTRA] = _build_marker(Kind.STORED, whole)
    return {**event, "document": orjson.dumps(document)}


def write_within(document: dict[str, Any], max_bytes: int) -> tuple[bytes, int]:
    """Write a large document as JSON, without its largest fields where it would be too large.

    Other threads may run meanwhile: a long text is written part by part, and what is left out is
    neither put together with the rest nor read again, as `truncate_event` has to.

    Returns:
        The JSON, and how many fields were replaced. It is too large yet where these are not enough.
    """
    written = {name: dumps_in_parts(value) for name, value in document.items()}
    size = sum(len(name) + len(json) + 4 for name, json in written.items()) + 1
    truncatable = {name: written[name] for name in written.keys() - _NEVER_TRUNCATED}
    markers, excess = _replace_largest(truncatable, size - max_bytes)
    if excess <= 0:
        written |= {name: orjson.dumps(marker) for name, marker in markers.items()}
    fields = (orjson.dumps(name) + b":" + json for name, json in written.items())
    return b"{" + b",".join(fields) + b"}", len(markers) if excess <= 0 else 0


def _replace_largest(written: dict[str, bytes], excess: int) -> tuple[dict[str, Any], int]:
    """Return markers for the largest fields, and the bytes that are too much all the same."""
    markers = {}
    for name in sorted(written, key=lambda field: (-len(written[field]), field)):
        if excess <= 0:
            break
        marker = _build_marker(DOCUMENT.get(name, Kind.STORED), written[name])
        if (gain := len(written[name]) - len(orjson.dumps(marker))) > 0:
            markers[name] = marker
            excess -= gain
    return markers, excess


def _build_marker(kind: Kind, written: bytes) -> Any:
    """Return the marker that replaces a field of this kind."""
    size, sha256 = len(written), hashlib.sha256(written).hexdigest()
    if kind is Kind.STORED or kind is Kind.FLATTENED:
        return {CUT: {"bytes": size, "sha256": sha256}}
    marker = f"<cut: {size} bytes of JSON, sha256 {sha256}>"
    return [marker] if kind is Kind.KEYWORDS else marker

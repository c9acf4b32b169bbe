"""Replaces the largest fields of an event that is too large for its topic. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_schemas.fields import DOCUMENT, EXTRA, TIMESTAMP, TYPED
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
    excess = len(whole) - max_bytes
    written = {name: orjson.dumps(document[name]) for name in document.keys() - _NEVER_TRUNCATED}
    for name in sorted(written, key=lambda field: (-len(written[field]), field)):
        if excess <= 0:
            break
        marker = _build_marker(DOCUMENT.get(name, Kind.STORED), written[name])
        if (gain := len(written[name]) - len(orjson.dumps(marker))) > 0:
            document[name] = marker
            excess -= gain
    if excess > 0:
        document = {name: value for name, value in document.items() if name in _NEVER_TRUNCATED}
        document[EXTRA] = _build_marker(Kind.STORED, whole)
    return {**event, "document": orjson.dumps(document)}


def _build_marker(kind: Kind, written: bytes) -> Any:
    """Return the marker that replaces a field of this kind."""
    size, sha256 = len(written), hashlib.sha256(written).hexdigest()
    if kind is Kind.STORED or kind is Kind.FLATTENED:
        return {CUT: {"bytes": size, "sha256": sha256}}
    marker = f"<cut: {size} bytes of JSON, sha256 {sha256}>"
    return [marker] if kind is Kind.KEYWORDS else marker

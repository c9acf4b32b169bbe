"""The bounds of an event's document, each defined once. Pure.

Depths count levels of nesting: a dict of a dict has two.
"""

from __future__ import annotations

from typing import Final

CUT: Final = "llmlog_cut"
"""Key of a marker, which stands where something was left out: `{"llmlog_cut": {"type": …}}`. In an
event's `extra` it is the key of the list of all markers."""

REDACTED: Final = "<redacted>"
"""What stands in the place of a redacted value."""

MAX_DOCUMENT_DEPTH: Final = 100
"""Levels of a document. Deeper values are replaced by a text; Elasticsearch and orjson both refuse
more."""

MAX_PAYLOAD_DEPTH: Final = 60
"""Levels of a payload that the gateway copies, redacts and truncates one by one. A deeper value is
handled as a whole, or left out where the payload is too large for a copy as JSON."""

MAX_FLATTENED_DEPTH: Final = 18
"""Levels of a `flattened` field, below Elasticsearch's own `depth_limit` of 20."""

MAX_SEARCH_TEXT_DEPTH: Final = 12
"""Levels of a prompt or an answer that are searched for text."""

MAX_FLATTENED_KEY_BYTES: Final = 512
"""Bytes of UTF-8 of one key in a `flattened` field."""

MAX_KEYWORD_CHARACTERS: Final = 8_192
"""Characters of a typed keyword field; eight times what Elasticsearch indexes of it. A longer value
is kept under `extra.mistyped`."""

MAX_SEARCH_TEXT_CHARACTERS: Final = 32_768
"""Characters of text that are extracted from one prompt or answer."""

MAX_TOOL_TEXT_CHARACTERS: Final = 8_192
"""Characters of the names and arguments of tools that are extracted from one call."""

MAX_PARSED_CHARACTERS: Final = 262_144
"""Characters of a text of JSON, of a pass-through, that is parsed for search; a longer one is
searched as it is."""

"""The kind of value that a field holds, in the event and in Elasticsearch. Pure."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The kind of a field's value in the event and in Elasticsearch."""

    KEYWORD = "keyword"
    TEXT = "text"
    BOOLEAN = "boolean"
    LONG = "long"
    DOUBLE = "double"
    COUNT = "long, not indexed"
    """A number that is added up and compared; its values alone are kept."""
    MEASURE = "double, not indexed"
    """Likewise."""
    SECONDS = "date"
    """Epoch seconds in the payload, epoch milliseconds in the document."""
    KEYWORDS = "keyword[]"
    """A list of strings; mapped as a keyword."""
    FLATTENED = "flattened"
    """An object whose leaves are searched as keywords."""
    STORED = "object"
    """Any JSON, kept and returned, not indexed."""

"""Reads a Kafka message's headers without dying of one that is not UTF-8."""

from __future__ import annotations

from typing import Any, Final

Headers = list[tuple[str, Any]]

_UNREADABLE: Final[dict[int, Any]] = {}
"""Messages whose headers could not be read, by identity. The client has freed part of such a
message by then; to ask it again, or to free the message, ends the process. So they are kept."""


def read_headers(message: Any) -> Headers:
    """Return the headers; none where a name is not UTF-8."""
    if id(message) in _UNREADABLE:
        return []
    try:
        return message.headers() or []
    except (SystemError, UnicodeError):
        _UNREADABLE[id(message)] = message
        return []

"""Reads a Kafka message's headers without dying of one that is not UTF-8."""

from __future__ import annotations

from operator import methodcaller
from typing import Any, Final

Headers = list[tuple[str, Any]]

_headers_of: Final = methodcaller("headers")
"""Not `message.headers()`: where that was called often, CPython no longer looks whether an error
was set beside its result, and the error is raised by whatever comes next, outside of `try`."""

_UNREADABLE: Final[dict[int, Any]] = {}
"""Messages whose headers could not be read, by identity. The client has freed part of such a
message by then; to ask it again, or to free the message, ends the process. So they are kept."""


def read_headers(message: Any) -> Headers:
    """Return the headers; none where a name is not UTF-8."""
    if id(message) in _UNREADABLE:
        return []
    try:
        return _headers_of(message) or []
    except (SystemError, UnicodeError):
        _UNREADABLE[id(message)] = message
        return []

"""Reads a Kafka message's headers without dying of one that is not UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llmlog_consumer.dead_letters.letter import Headers

_NEVER_FREED: Final[list[Any]] = []
"""Messages whose headers could not be read. The client has freed part of such a message by then,
and frees it again with the message: that ends the process."""


def read_headers(message: Any) -> Headers:
    """Return the headers, none where a name is not UTF-8. To be asked once of each message."""
    try:
        return message.headers() or []
    except (SystemError, UnicodeError):
        _NEVER_FREED.append(message)
        return []

"""Owns what is secret in this process: remembers the values of secrets, and hides them in texts.

Our own messages hold no secret. Those of libraries may: an HTTP client quotes the header that it
cannot send, another one its URL. So what is printed or logged passes through `hide`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN: Final = "…"
_MIN_CHARACTERS: Final = 4
"""Shorter texts are in every message; what has such a password is open to anyone."""

_secrets: list[str] = []
"""Longest first. Written where settings are loaded, before other threads begin, and where a secret
was read again; replaced as a whole."""


def remember(values: Iterable[str]) -> None:
    """Hide these values from now on, in each form in which a library may quote them."""
    global _secrets  # noqa: PLW0603 - what is secret is so in the whole process
    forms = {form for value in values for form in _forms(value)}
    _secrets = sorted(forms.union(_secrets), key=len, reverse=True)


def hide(text: str) -> str:
    """Return a text without the values that are remembered."""
    for secret in _secrets:
        if secret in text:
            text = _replace(text, secret)
    return text


def basic(username: str, password: str) -> str:
    """Return the value of the header `Authorization` for a user name and a password."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def why_unsendable(value: str) -> str:
    """Say why a value cannot be sent in an HTTP header; empty where it can."""
    for character in value:
        if character in "\r\n":
            return "it holds a line feed"
        if character.isspace():
            return "it holds a blank"
        if not "!" <= character <= "~":
            return "it holds a character that is not of ASCII's"
    return ""


def _replace(text: str, secret: str) -> str:
    """Hide a secret where it stands alone: a password may be a part of a longer word."""
    parts, start = [], 0
    while (at := text.find(secret, start)) >= 0:
        end = at + len(secret)
        is_part = (secret[0] + text[at - 1 : at]).isalnum() and at > 0
        is_part = is_part or ((secret[-1] + text[end : end + 1]).isalnum() and end < len(text))
        parts.append(text[start:at] + (secret if is_part else HIDDEN))
        start = end
    return "".join(parts) + text[start:]


def _forms(value: str) -> Iterable[str]:
    forms = {value, unquote(value), repr(value)[1:-1]}
    return (form for form in forms if len(form) >= _MIN_CHARACTERS)

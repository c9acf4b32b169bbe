"""Owns the words for an answer that is not Elasticsearch's own. Pure.

A proxy, a firewall, a login page or another server answers in Elasticsearch's place. Elasticsearch
names the type of each of its errors; these do not.
"""

from __future__ import annotations

import re
from typing import Any, Final

_MAX_TEXT: Final = 300
_MAX_PAGE: Final = 4_000
"""Characters of an answer that are looked at: a page may be of any length."""

_TITLE: Final = re.compile(r"<title[^<>]{0,100}>([^<]{0,200})", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_QUERY: Final = re.compile(r"[?#;]")
_CREDENTIALS: Final = re.compile(r"//[^/]*@")


def describe_foreign(body: Any, location: str = "") -> str:
    """Return in one line what an answer is that Elasticsearch did not give.

    Args:
        body: decoded JSON, or text where the body is no JSON.
        location: the header of a redirect; its query and credentials are left out.
    """
    if location:
        return f"a redirect to {_without_secrets(location)}"
    if isinstance(body, str) and is_page(body):
        title = _TITLE.search(body[:_MAX_PAGE])
        words = _one_line(title[1]) if title else ""
        return f"an HTML page titled {words}" if words else "an HTML page"
    if isinstance(body, dict):  # problem+json has a title, gateways have a message
        names = ("error", "title", "message", "Message", "detail")
        body = next((body[name] for name in names if isinstance(body.get(name), str)), body)
    text = _one_line(str(body if body is not None else "")[:_MAX_TEXT])
    return text or "an empty answer"


def is_page(body: Any) -> bool:
    """Tell whether a body is an HTML page."""
    return isinstance(body, str) and body[:200].lstrip("\ufeff \t\r\n").startswith("<")


def describe_other_server(where: str, body: Any) -> str:
    """Name a server whose answer lacks the header that every Elasticsearch sends.

    Args:
        where: its URL.
        body: of the answer.
    """
    if is_page(body):
        return (
            f"{where} answers with {describe_foreign(body)}: a proxy or a login page answers in "
            "Elasticsearch's place; check LLMLOG_ELASTICSEARCH_URL"
        )
    return (
        f"{where} answers, but is no Elasticsearch: check LLMLOG_ELASTICSEARCH_URL (OpenSearch "
        "answers so, and a proxy that takes the header X-elastic-product away)"
    )


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _without_secrets(location: str) -> str:
    bare = _QUERY.split(location[:_MAX_TEXT], maxsplit=1)[0]
    return _CREDENTIALS.sub("//", bare)

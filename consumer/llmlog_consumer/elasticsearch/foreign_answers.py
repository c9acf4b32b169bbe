"""Owns how an answer that is not Elasticsearch's own is known, and the words for it. Pure.

A proxy, a firewall, a login page or another server answers in Elasticsearch's place. Elasticsearch
names the type of each of its errors; these do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from llmlog_common.texts import cut

REFUSED: Final = (401, 403)
_GATEWAY: Final = (502, 503, 504)
_OF_THE_REQUEST: Final = (413, 429)
"""Statuses that say something about the request or the load, whoever gives them."""

_MAX_TEXT: Final = 300
_MAX_PAGE: Final = 4_000
"""Characters of an answer that are looked at: a page may be of any length."""

_TITLE: Final = re.compile(r"<title[^<>]{0,100}>([^<]{0,200})", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_NO_ADDRESS: Final = "an address that may hold a password"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read as far as the choice of a node needs it.

    Attributes:
        status: of HTTP.
        body: decoded JSON, or text where the body is no JSON.
        retry_after: seconds that the server asked us to wait.
        is_elasticsearch: the header is there by which Elasticsearch is known.
        location: where a redirect leads to.
        is_whole: where it is good, it holds what the request asked for.
    """

    status: int
    body: Any
    retry_after: float
    is_elasticsearch: bool
    location: str
    is_whole: bool = True

    @property
    def is_good(self) -> bool:
        """Tell whether the status says that the request was carried out."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @property
    def doubt(self) -> str:
        """Say what makes this look like an answer of this node alone; empty for nothing."""
        names_error = isinstance(self.body, dict) and isinstance(self.body.get("error"), dict)
        if self.is_good:
            is_odd = not self.is_elasticsearch or not isinstance(self.body, dict)
            if is_odd:
                return f"{self.status} that is not of Elasticsearch"
            return "" if self.is_whole else f"{self.status} without what was asked for"
        if self.status in _OF_THE_REQUEST:
            return ""
        if self.location:
            return f"{self.status} leads to {_without_secrets(self.location)}"
        if self.status in _GATEWAY or self.status in REFUSED or not names_error:
            text = self.body.get("error") if isinstance(self.body, dict) else self.body
            return f"{self.status}: {cut(' '.join(cut(str(text)).split()), 200)}"
        return ""


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
    """Return scheme, host and path of a redirect.

    A password that holds `/`, `?` or `#` ends the host before its `@`: nothing is shown of such.
    """
    try:
        url = urlsplit(location)
    except ValueError:
        return _NO_ADDRESS
    _, has_login, host = url.netloc.rpartition("@")
    later = url.path if has_login or ":" not in host else f"{url.path}{url.query}{url.fragment}"
    if "@" in later:
        return _NO_ADDRESS
    scheme = f"{url.scheme}:" if url.scheme else ""
    path = url.path.partition(";")[0]
    return f"{scheme}//{host}{path}"[:_MAX_TEXT] if host else f"{scheme}{path}"[:_MAX_TEXT]

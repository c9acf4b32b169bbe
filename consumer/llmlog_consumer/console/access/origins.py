"""Owns the addresses under which the console is asked: the Host and Origin allow-lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAFE_METHODS = frozenset(("GET", "HEAD"))
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAME_ORIGIN = ("same-origin", "none")
"""What a browser says of a request that no other site has caused."""
_FOREIGN = "another site has caused this request"


@dataclass(frozen=True, slots=True)
class Origins:
    """The addresses that people type.

    Attributes:
        hosts: values of `Host`, in small letters.
        origins: values of `Origin`, in small letters.
        is_secure: whether all of them are https, so that cookies may be kept to it.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    is_secure: bool

    def refuse_host(self, hosts: Sequence[str]) -> str:
        """Return why a request is refused by its `Host` headers; empty where it is not."""
        if len(hosts) != 1:
            return "a request has exactly one Host header"
        if hosts[0].lower() not in self.hosts:
            return f"this console is not known as {hosts[0][:100]}: start it with --url"
        return ""

    def refuse_origin(
        self, method: str, origins: Sequence[str], sites: Sequence[str], targets: Sequence[str]
    ) -> str:
        """Return why a request is refused by who caused it; empty where it is not.

        Args:
            method: of HTTP.
            origins: values of `Origin`.
            sites: values of `Sec-Fetch-Site`.
            targets: values of `Sec-Fetch-Dest`.
        """
        if len(origins) > 1 or len(sites) > 1:
            return "a request has one Origin header at most"
        if origins:
            if origins[0].lower() in self.origins:
                return ""
            return _FOREIGN
        if method in SAFE_METHODS:
            # A link from elsewhere opens a page; nothing else of another site asks for anything.
            is_foreign = sites not in ([], ["same-origin"], ["none"]) and targets != ["document"]
            return _FOREIGN if is_foreign else ""
        if sites and sites[0] in _SAME_ORIGIN:
            return ""
        return "a request that changes something needs an Origin header"


def parse_urls(urls: Iterable[str]) -> Origins:
    """Return the allow-lists of the addresses under which the console is reached.

    Args:
        urls: `https://console.example.org`, `http://127.0.0.1:8765`.

    Raises:
        ConfigurationError: one of them is no address.
    """
    hosts: set[str] = set()
    origins: set[str] = set()
    schemes: set[str] = set()
    for url in urls:
        try:
            parts = urlsplit(url.lower())
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"--url {url}: write http(s)://HOST[:PORT]") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
            raise ConfigurationError(f"--url {url}: write http(s)://HOST[:PORT], without a path")
        default = _DEFAULT_PORTS[parts.scheme]
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        forms = {name, f"{name}:{default}"} if port in {None, default} else {f"{name}:{port}"}
        hosts |= forms
        origins |= {f"{parts.scheme}://{form}" for form in forms}
        schemes.add(parts.scheme)
    return Origins(frozenset(hosts), frozenset(origins), schemes == {"https"})

"""Reads the URLs of servers, as people write them in settings. Pure.

No error quotes a URL: it may hold a password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMES: Final = ("http://", "https://")
_HTTPS_PORT: Final = 443
_MAX_PORT: Final = 65_535
_ENCODE: Final = "characters such as / ? # @ , in a password are written as %2F %3F %23 %40 %2C"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """One server's URL in its parts.

    Attributes:
        scheme: `http` or `https`.
        host: a name or an address, without brackets.
        port: of TCP.
        path: before each path that is requested; empty, or it begins with a slash.
        credentials: user name and password, decoded; None where the URL holds none.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the URL without its credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def split_urls(text: str) -> list[str]:
    """Return the URLs that commas separate; a comma that no scheme follows is part of its URL."""
    urls: list[str] = []
    for piece in text.split(","):
        if urls and not piece.strip().lower().startswith(_SCHEMES):
            urls[-1] += f",{piece}"
        else:
            urls.append(piece)
    return [url.strip() for url in urls]


def credentials_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield user name and password of each URL that holds some, decoded, whatever else is wrong."""
    for url in split_urls(text):
        user, at, _ = url.partition("://")[2].rpartition("@")
        if at:
            yield _credentials(user)


def parse_urls(text: str) -> tuple[ServerUrl, ...]:
    """Return the URLs that commas separate.

    Raises:
        ValueError: one of them cannot be used; the text says why and quotes nothing.
    """
    return tuple(_parse(url) for url in split_urls(text))


def _parse(url: str) -> ServerUrl:
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found or f"{scheme}://" not in _SCHEMES:
        raise ValueError("a URL has to begin with http:// or https://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    user, at, host_and_port = authority.rpartition("@")
    if "@" in path:
        raise ValueError(f"an @ is at a place where no host can follow: {_ENCODE}")
    if "?" in path or "#" in path:
        raise ValueError("a URL with a query or a fragment cannot be used: set the API key itself")
    host, port = _host_and_port(host_and_port, scheme)
    credentials = _credentials(user) if at else None
    return ServerUrl(scheme, host, port, path.rstrip("/"), credentials)


def _host_and_port(text: str, scheme: str) -> tuple[str, int]:
    if text.startswith("["):
        host, closed, after = text[1:].partition("]")
        if not closed:
            raise ValueError("an address of IPv6 is not closed by ]")
    else:
        host, colon, port = text.partition(":")
        after = colon + port
    if not host or any(one.isspace() or one in ",[]" or not one.isprintable() for one in host):
        raise ValueError(f"a URL names no host: write http://host:9200; {_ENCODE}")
    if not after and scheme == "https":
        return host, _HTTPS_PORT
    digits = after.removeprefix(":")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) <= _MAX_PORT):
        raise ValueError(f"a URL names no port: write http://host:9200; {_ENCODE}")
    return host, int(digits[:6])


def _credentials(user: str) -> tuple[str, str]:
    name, _, password = user.partition(":")
    return unquote(name), unquote(password)

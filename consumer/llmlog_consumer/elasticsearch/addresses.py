"""Owns where Elasticsearch is and how we sign in, as the settings say it. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Final

from llmlog_common.credentials import basic
from llmlog_common.urls import ServerUrl, parse_urls

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

_HTTPS_PORT: Final = 443


def read_addresses(settings: Settings) -> tuple[ServerUrl, ...]:
    """Return the nodes that the settings name.

    Raises:
        ValueError: the URL, or the cloud id, cannot be used; the text quotes neither.
    """
    if settings.elasticsearch_cloud_id:
        return (_of_cloud(settings.elasticsearch_cloud_id),)
    urls = parse_urls(settings.elasticsearch_url)
    if _header(settings) and any(url.credentials for url in urls):
        raise ValueError("the URL holds credentials, and others are set: set one of them")
    return urls


def authorization(settings: Settings, url: ServerUrl) -> str | None:
    """Return the value of the header `Authorization` for a node; None where nothing is set."""
    return _header(settings) or (basic(*url.credentials) if url.credentials else None)


def _header(settings: Settings) -> str | None:
    if settings.elasticsearch_api_key:
        return f"ApiKey {settings.elasticsearch_api_key.get_secret_value()}"
    if settings.elasticsearch_bearer_auth:
        return f"Bearer {settings.elasticsearch_bearer_auth.get_secret_value()}"
    name, password = settings.elasticsearch_username, settings.elasticsearch_password
    return basic(name, password.get_secret_value()) if name and password else None


def _of_cloud(cloud_id: str) -> ServerUrl:
    """Read `name:base64(domain[:port]$elasticsearch$kibana)`."""
    try:
        domain, found, rest = b64decode(cloud_id.partition(":")[2]).decode("ascii").partition("$")
        node = rest.partition("$")[0]
        host, colon, port = domain.partition(":")
        number = int(port) if colon else _HTTPS_PORT
    except (binascii.Error, UnicodeError, ValueError):
        found = node = host = ""
    if not (found and node and host):
        raise ValueError("CLOUD_ID is none: copy it from the page of the deployment")
    return ServerUrl("https", f"{node}.{host}", number)

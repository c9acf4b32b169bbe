"""Owns where Elasticsearch is and how we sign in, as the settings say it. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmlog_common.credentials import basic
from llmlog_common.urls import ServerUrl, parse_urls

if TYPE_CHECKING:
    from pathlib import Path

    from llmlog_common.settings import Settings

_HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a node is reached.

    Attributes:
        ca_certs: a file or a folder of certificates to trust; by default those of certifi.
        fingerprint: of the one certificate to trust, as hexadecimal digits.
        client_cert: a file with our own certificate, and its key where `client_key` is not set.
        client_key: a file with its key.
        proxy: through which every request goes.
        compress: bodies of requests are sent as gzip.
    """

    ca_certs: Path | None = None
    fingerprint: str | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: ServerUrl | None = None
    compress: bool = False


def read_addresses(settings: Settings) -> tuple[ServerUrl, ...]:
    """Return the nodes that the settings name.

    Raises:
        ValueError: the URL, or the cloud id, cannot be used; the text quotes neither.
        ConfigurationError: a container's settings name none.
    """
    if settings.elasticsearch_cloud_id:
        return (_of_cloud(settings.elasticsearch_cloud_id),)
    settings.require_address("elasticsearch_url")
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


def read_transfer(settings: Settings) -> Transfer:
    """Return how the nodes are reached.

    Raises:
        ValueError: the URL of the proxy cannot be used; the text does not quote it.
    """
    proxy = settings.elasticsearch_http_proxy
    return Transfer(
        ca_certs=settings.elasticsearch_ca_certs,
        fingerprint=settings.elasticsearch_ssl_assert_fingerprint,
        client_cert=settings.elasticsearch_client_cert,
        client_key=settings.elasticsearch_client_key,
        proxy=parse_urls(proxy)[0] if proxy else None,
        compress=settings.elasticsearch_compress,
    )

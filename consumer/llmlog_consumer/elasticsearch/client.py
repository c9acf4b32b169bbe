"""Owns the client library of Elasticsearch, as its only importer: set-up, requests, errors."""

from __future__ import annotations

import logging
import re
import ssl
import traceback
import warnings
from typing import TYPE_CHECKING, Any, Final

import elasticsearch
import orjson
from elastic_transport import (
    ConnectionTimeout,
    SerializerCollection,
    TlsError,
    TransportError,
)
from elasticsearch import ApiError, Elasticsearch

from llmlog_common.errors import (
    ConfigurationError,
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
)
from llmlog_consumer.elasticsearch.foreign_answers import describe_foreign, is_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_common.settings import Settings


_REDIRECTS: Final = range(300, 400)


class _Bodies(SerializerCollection):
    """Serializers that pass a body of bytes through: the client's own copy NDJSON line by line.

    An answer is read as JSON where that is possible, and as text otherwise, whatever its content
    type is. The client's own serializers would raise an error instead, without the status.
    """

    def dumps(self, data: Any, mimetype: str | None = None) -> bytes:  # noqa: ARG002
        return data if isinstance(data, bytes) else orjson.dumps(data)

    def loads(self, data: bytes, mimetype: str | None = None) -> Any:  # noqa: ARG002
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return data.decode("utf-8", "replace")


class ElasticClient:
    """The connection pool of one process; any thread may use it.

    Args:
        settings: as loaded.
        timeout: seconds.

    Attributes:
        where: the address, for messages.

    Raises:
        ConfigurationError: an address or a certificate that cannot be used.
    """

    def __init__(self, settings: Settings, timeout: float) -> None:
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        self.where = settings.elasticsearch_cloud_id or _without_credentials(
            settings.elasticsearch_url
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client = Elasticsearch(**_options(settings, timeout))
            self._client.transport.serializers = _Bodies()
        except (ValueError, TypeError, OSError) as error:
            raise ConfigurationError(
                f"LLMLOG_ELASTICSEARCH_…: {_without_credentials(str(error))}"
            ) from None

    def perform(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Any,
        params: Mapping[str, Any] | None,
    ) -> tuple[int, Any, float, str]:
        """Send a request; return status, body, seconds that the server asked us to wait, location.

        Raises:
            ElasticsearchUnreachable: no answer; whether the request was carried out is unknown.
            ElasticsearchError: TLS fails, or the server is no Elasticsearch.
        """
        try:
            response = self._client.perform_request(
                method, path, params=params, headers=headers, body=body
            )
        except ApiError as error:
            headers = error.meta.headers
            location = (headers.get("location") or "") if error.meta.status in _REDIRECTS else ""
            return error.meta.status, error.body, _retry_after(headers), location
        except elasticsearch.UnsupportedProductError as error:
            raise ElasticsearchError(_describe_other_server(self.where, error.body)) from None
        except TlsError as error:
            _release(error)
            raise ElasticsearchError(f"{self.where}: TLS: {error.message}") from None
        except TransportError as error:
            kind = _kind_of(error)
            _release(error)
            raise kind(f"Elasticsearch at {self.where}: {error.message}"[:300]) from None
        return response.meta.status, response.body, 0.0, ""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _describe_other_server(where: str, body: Any) -> str:
    """Name a server whose answer lacks the header that every Elasticsearch sends."""
    if is_page(body):
        return (
            f"{where} answers with {describe_foreign(body)}: a proxy or a login page answers in "
            "Elasticsearch's place; check LLMLOG_ELASTICSEARCH_URL"
        )
    return (
        f"{where} answers, but is no Elasticsearch: check LLMLOG_ELASTICSEARCH_URL (OpenSearch "
        "answers so, and a proxy that takes the header X-elastic-product away)"
    )


def _kind_of(error: TransportError) -> type[ElasticsearchUnreachable]:
    if isinstance(error, ConnectionTimeout):
        return ElasticsearchTimedOut
    return ElasticsearchCutOff if _is_cut_off(error) else ElasticsearchUnreachable


def _is_cut_off(error: TransportError) -> bool:
    """Tell whether the other side closed an open connection before it answered."""
    cause = error.__cause__
    causes = (cause, *cause.args) if cause is not None else ()
    return any(isinstance(one, (ConnectionResetError, BrokenPipeError)) for one in causes)


def _release(error: BaseException | None) -> None:
    """Free the objects that the frames of an error and of its causes refer to.

    The transport's errors are part of a reference cycle through their frames, which hold the body.
    Each request without an answer would keep its megabytes until the garbage collector runs.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__, *getattr(one, "errors", ())]


def _options(settings: Settings, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "request_timeout": timeout,
        # One place retries: the delivery engine.
        "max_retries": 0,
        "retry_on_timeout": False,
        "connections_per_node": 16,
    }
    if settings.elasticsearch_cloud_id:
        options["cloud_id"] = settings.elasticsearch_cloud_id
    else:
        options["hosts"] = [url.strip() for url in settings.elasticsearch_url.split(",")]
    if settings.elasticsearch_api_key:
        options["api_key"] = settings.elasticsearch_api_key.get_secret_value()
    if settings.elasticsearch_username and settings.elasticsearch_password:
        password = settings.elasticsearch_password.get_secret_value()
        options["basic_auth"] = (settings.elasticsearch_username, password)
    if settings.elasticsearch_bearer_auth:
        options["bearer_auth"] = settings.elasticsearch_bearer_auth.get_secret_value()
    if settings.elasticsearch_ca_certs:
        options["ca_certs"] = _check_readable(settings.elasticsearch_ca_certs)
    if settings.elasticsearch_ssl_assert_fingerprint:
        options["ssl_assert_fingerprint"] = settings.elasticsearch_ssl_assert_fingerprint
    return options


def _check_readable(ca_certs: Path) -> str:
    """Check now that the certificates can be read: the client reports it as "unreachable" later."""
    try:
        if not ca_certs.is_dir():
            ssl.create_default_context(cafile=ca_certs)
    except OSError as error:
        raise ValueError(f"CA_CERTS {ca_certs}: {error.strerror or error}") from None
    return str(ca_certs)


def _without_credentials(text: str) -> str:
    """Return the text without the user names and passwords of its URLs."""
    return re.sub(r"//[^,]*@", "//", text)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(float(headers.get("retry-after", 0)), 300.0)
    except ValueError:
        return 0.0

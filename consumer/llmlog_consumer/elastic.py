"""Owns the connection to Elasticsearch; the only importer of its client.

An answer of any status is a value; not to be answered is `Unreachable`; what no retry mends
(TLS, a server that is no Elasticsearch) is `ElasticsearchError`.
"""

from __future__ import annotations

import logging
import re
import ssl
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import elasticsearch
from elastic_transport import TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch, OrjsonSerializer
from elasticsearch.serializer import NdjsonSerializer

from llmlog_schemas.errors import ConfigurationError, ElasticsearchError, ElasticsearchUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_schemas.settings import Settings

REQUEST_TIMEOUT: Final = 60.0
"""Seconds after which an answer is taken for lost."""

NOT_FOUND: Final = 404
SERVER_ERROR: Final = 500
TOO_MANY: Final = 429


class _Bytes(NdjsonSerializer):
    """Bodies that are NDJSON already; the stock serialiser would copy them line by line."""

    def dumps(self, data: Any) -> bytes:
        return data if isinstance(data, bytes) else super().dumps(data)


_SERIALIZERS: Final = {
    "application/json": OrjsonSerializer(),
    "application/vnd.elasticsearch+json": OrjsonSerializer(),
    "application/x-ndjson": _Bytes(),
    "application/vnd.elasticsearch+x-ndjson": _Bytes(),
}
_NDJSON: Final = {
    "content-type": "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
}
_JSON: Final = {
    "content-type": "application/vnd.elasticsearch+json; compatible-with=8",
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said.

    Attributes:
        status: of HTTP.
        body: decoded JSON, or text where it was none.
        retry_after: seconds that the server asked us to wait.
    """

    status: int
    body: Any
    retry_after: float = 0.0

    @property
    def ok(self) -> bool:
        """Tell whether the status is of the 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @property
    def not_now(self) -> bool:
        """Tell whether the server puts us off."""
        return self.status == TOO_MANY or self.status >= SERVER_ERROR

    @property
    def error(self) -> Mapping[str, Any]:
        """Return the body's `error` object; a text becomes its reason."""
        found = self.body.get("error") if isinstance(self.body, dict) else None
        if isinstance(found, dict):
            return found
        return {"type": "", "reason": str(found or self.body or "")[:500]}

    def describe(self) -> str:
        """Return status, type and reason in one line."""
        kind, reason = self.error.get("type") or "", self.error.get("reason") or ""
        return f"{self.status} {kind}: {reason}"[:500].replace("\n", " ").rstrip(": ")


class Elastic:
    """One client, shared by the threads of a process.

    Args:
        settings: URL, credentials, TLS.
        timeout: seconds after which an answer is taken for lost.

    Raises:
        ConfigurationError: the URL or the credentials cannot be used as they are.
    """

    def __init__(self, settings: Settings, *, timeout: float = REQUEST_TIMEOUT) -> None:
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        self.where = settings.elasticsearch_cloud_id or _public(settings.elasticsearch_url)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client = Elasticsearch(**_options(settings, timeout))
        except (ValueError, TypeError, OSError) as error:
            raise ConfigurationError(f"LLMLOG_ELASTICSEARCH_…: {_public(str(error))}") from None

    def request(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Answer:
        """Ask, and return the answer whatever its status.

        Raises:
            ElasticsearchUnreachable: no answer; whether the request was carried out is unknown.
            ElasticsearchError: TLS fails, or what answers is no Elasticsearch.
        """
        headers = None
        if body is not None:
            headers = _NDJSON if isinstance(body, bytes) else _JSON
        else:
            headers = {"accept": _JSON["accept"]}
        try:
            response = self._client.perform_request(
                method, path, params=params, headers=headers, body=body
            )
        except ApiError as error:
            return Answer(error.meta.status, error.body, _retry_after(error.meta.headers))
        except elasticsearch.UnsupportedProductError:
            raise ElasticsearchError(
                f"{self.where} answers, but is no Elasticsearch: check LLMLOG_ELASTICSEARCH_URL"
            ) from None
        except TlsError as error:
            raise ElasticsearchError(f"{self.where}: TLS: {error.message}") from None
        except TransportError as error:
            raise ElasticsearchUnreachable(
                f"Elasticsearch at {self.where}: {error.message}"[:300]
            ) from None
        return Answer(response.meta.status, response.body)

    def demand(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask, and return the body of a good answer.

        Raises:
            ElasticsearchUnreachable: no answer, or one that says "not now".
            ElasticsearchError: any other.
        """
        answer = self.request(method, path, body=body, params=params)
        if answer.ok:
            return answer.body
        if answer.not_now:
            raise ElasticsearchUnreachable(f"Elasticsearch at {self.where}: {answer.describe()}")
        raise ElasticsearchError(f"Elasticsearch: {method} {path}: {answer.describe()}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _options(settings: Settings, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "request_timeout": timeout,
        # One place retries: the delivery engine.
        "max_retries": 0,
        "retry_on_timeout": False,
        "serializers": _SERIALIZERS,
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
        options["ca_certs"] = _readable(settings.elasticsearch_ca_certs)
    if settings.elasticsearch_ssl_assert_fingerprint:
        options["ssl_assert_fingerprint"] = settings.elasticsearch_ssl_assert_fingerprint
    return options


def _readable(ca_certs: Path) -> str:
    """See now that the certificates can be read: the client would say at each request "away"."""
    try:
        if not ca_certs.is_dir():
            ssl.create_default_context(cafile=ca_certs)
    except OSError as error:
        raise ValueError(f"CA_CERTS {ca_certs}: {error.strerror or error}") from None
    return str(ca_certs)


def _public(text: str) -> str:
    """Return the text with its URLs freed of user names and passwords."""
    return re.sub(r"//[^,]*@", "//", text)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(float(headers.get("retry-after", 0)), 300.0)
    except ValueError:
        return 0.0

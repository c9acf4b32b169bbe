"""The Schema Registry: Confluent's client with our settings and our errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_common.listener_probe import answers_tls
from llmlog_schemas.codec import UnknownSchemaError, schema_text
from llmlog_schemas.registry_client import RenewingClient

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

ANSWER_SECONDS: Final = 5.0
"""How long an answer may take. The client asks once; callers that wait for a registry repeat."""

_CREDENTIALS: Final = re.compile(r"//[^/]*@")
_HTTP_NOT_FOUND: Final = 404
_UNKNOWN_CODES: Final = range(40_400, 40_500)
"""A registry's own codes for what it does not know; another 404 is of what stands in its place."""
MAX_REASON_CHARACTERS: Final = 200
"""Length of an answer that is repeated in an error."""
_HTTP_REFUSED: Final = (401, 403)
_HTTP_SERVER_ERROR: Final = 500


class Registry:
    """Returns schemas by their ids, and registers ours.

    Args:
        client: anything with `register_schema` and `get_schema` of Confluent's client.
        url: where it is, for people.
    """

    def __init__(self, client: Any, url: str = "") -> None:
        self._client = client
        self._url = url
        self._name = f"the Schema Registry {_without_credentials(url)}".strip()

    @classmethod
    def from_settings(
        cls, settings: Settings, *, answer_seconds: float = ANSWER_SECONDS
    ) -> Registry | None:
        """Return the registry that the settings name; None where they name none.

        Args:
            settings: URL, credentials, certificates.
            answer_seconds: how long an answer may take.

        Raises:
            ConfigurationError: a setting is wrong, or the client's dependencies are missing.
        """
        if settings.schema_registry_url is None:
            return None
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"LLMLOG_SCHEMA_REGISTRY_URL is set, but the package {error.name} is missing: "
                "install the wheel with its extra, `[registry]`"
            ) from None

        def new_client(current: Settings) -> Any:
            return SchemaRegistryClient.new_client(_conf(current, answer_seconds))

        try:
            return cls(RenewingClient(settings, new_client), settings.schema_registry_url)
        except OSError as error:
            raise ConfigurationError(
                f"schema_registry_ca_certs or schema_registry_client_cert: {error}"
            ) from None
        except ValueError:  # its text holds the URL, and the URL may hold a password
            raise ConfigurationError(
                "schema_registry_url: it is no http(s) URL, or it holds credentials and "
                "schema_registry_username is set too"
            ) from None

    def register(self, topic: str) -> int:
        """Register the current schema under `<topic>-value`; return its id.

        Raises:
            ConfigurationError: the registry refuses it.
            Unreachable: the registry does not answer.
        """
        from confluent_kafka.schema_registry import Schema  # noqa: PLC0415

        schema = Schema(schema_text(), "AVRO")
        try:
            return int(self._client.register_schema(f"{topic}-value", schema))
        except Exception as error:
            if _is_answer(error):
                raise ConfigurationError(
                    f"the Schema Registry refuses our schema: {error}"
                ) from error
            self._refuse_wrong_tls(str(error))
            raise Unreachable(f"the Schema Registry cannot be used now: {error}") from error

    def _refuse_wrong_tls(self, said: str) -> None:
        """Raise what no waiting can mend.

        Raises:
            ConfigurationError: the certificate is not accepted, or the URL's scheme is wrong.
        """
        if "CERTIFICATE_VERIFY_FAILED" in said:
            raise ConfigurationError(
                f"{self._name}: {said[:MAX_REASON_CHARACTERS]} (set "
                "LLMLOG_SCHEMA_REGISTRY_CA_CERTS to the authority that has signed its certificate)"
            )
        url = urlsplit(self._url)
        if (
            url.scheme == "http"
            and _has_hung_up(said)
            and answers_tls(url.hostname or "", url.port or 80)
        ):
            raise ConfigurationError(f"{self._name} uses TLS: begin its URL with https://")

    def schema_text(self, schema_id: int) -> str:
        """Return the schema of this id; see `codec.SchemaSource`.

        The registry is asked each time, and not the client's memory: callers keep what they get,
        and ask again to hear what it says now.
        """
        if clear := getattr(self._client, "clear_caches", None):
            clear()
        try:
            return str(self._client.get_schema(schema_id).schema_str)
        except Exception as error:
            status = getattr(error, "http_status_code", None)
            code, said = getattr(error, "error_code", None), str(error)[:MAX_REASON_CHARACTERS]
            if status == _HTTP_NOT_FOUND and code in _UNKNOWN_CODES:
                raise UnknownSchemaError(
                    f"{self._name} knows no schema {schema_id}: check that it is the registry "
                    "that the gateway uses, and that it has all of its schemas"
                ) from error
            if status == _HTTP_NOT_FOUND:
                raise ConfigurationError(
                    f"{self._name} does not answer as a registry does: check "
                    f"LLMLOG_SCHEMA_REGISTRY_URL ({said})"
                ) from error
            if status in _HTTP_REFUSED:
                raise ConfigurationError(
                    f"{self._name} refuses: check LLMLOG_SCHEMA_REGISTRY_USERNAME and its "
                    f"password ({said})"
                ) from error
            self._refuse_wrong_tls(str(error))
            raise Unreachable(f"{self._name} cannot be used now: {said}") from error


def _has_hung_up(said: str) -> bool:
    return "disconnected" in said.lower() or "reset" in said.lower()


def _without_credentials(url: str) -> str:
    return _CREDENTIALS.sub("//", url)


def _conf(settings: Settings, answer_seconds: float) -> dict[str, Any]:
    conf: dict[str, Any] = {
        "url": settings.schema_registry_url,
        "timeout": answer_seconds,
        "max.retries": 0,
    }
    if settings.schema_registry_username and settings.schema_registry_password:
        secret = settings.schema_registry_password.get_secret_value()
        conf["basic.auth.user.info"] = f"{settings.schema_registry_username}:{secret}"
    if settings.schema_registry_ca_certs:
        conf["ssl.ca.location"] = str(settings.schema_registry_ca_certs)
    if settings.schema_registry_client_cert:
        cert = settings.schema_registry_client_cert
        conf["ssl.certificate.location"] = str(cert)
        conf["ssl.key.location"] = str(settings.schema_registry_client_key or cert)
    return conf


def _is_answer(error: Exception) -> bool:
    status = getattr(error, "http_status_code", None)
    return status is not None and status < _HTTP_SERVER_ERROR

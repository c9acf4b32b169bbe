"""The Schema Registry: Confluent's client, made of our settings, with errors of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_schemas.codec import DecodeError, schema_text

if TYPE_CHECKING:
    from llmlog_common.settings import Settings

ANSWER_SECONDS: Final = 5.0
"""How long an answer may take. The client asks once: who waits for a registry tries again."""

HTTP_NOT_FOUND = 404
HTTP_REFUSED = (401, 403)
HTTP_SERVER_ERROR = 500


class Registry:
    """Schemas by id, and the id of ours.

    Args:
        client: anything with `register_schema` and `get_schema` of Confluent's client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def from_settings(cls, settings: Settings) -> Registry | None:
        """Connect to the registry that the settings name; None where they name none.

        Raises:
            ConfigurationError: a setting is wrong, or the client's dependencies are missing.
        """
        if settings.schema_registry_url is None:
            return None
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"LLMLOG_SCHEMA_REGISTRY_URL is set, but {error.name} is missing: "
                "pip install 'llmlog-pipeline[registry]'"
            ) from None
        conf: dict[str, Any] = {
            "url": settings.schema_registry_url,
            "timeout": ANSWER_SECONDS,
            "max.retries": 0,
        }
        if settings.schema_registry_username and settings.schema_registry_password:
            secret = settings.schema_registry_password.get_secret_value()
            conf["basic.auth.user.info"] = f"{settings.schema_registry_username}:{secret}"
        if settings.schema_registry_ca_certs:
            conf["ssl.ca.location"] = str(settings.schema_registry_ca_certs)
        try:
            return cls(SchemaRegistryClient.new_client(conf))
        except OSError as error:
            raise ConfigurationError(f"schema_registry_ca_certs: {error}") from None
        except ValueError:  # its text holds the URL, and the URL may hold a password
            raise ConfigurationError(
                "schema_registry_url: not an http(s) URL, or credentials in it and beside it"
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
                raise ConfigurationError(f"Schema Registry refuses our schema: {error}") from error
            raise Unreachable(f"Schema Registry: {error}") from error

    def schema_text(self, schema_id: int) -> str:
        """Return the schema of this id; see `codec.SchemaSource`."""
        try:
            return str(self._client.get_schema(schema_id).schema_str)
        except Exception as error:
            status = getattr(error, "http_status_code", None)
            if status == HTTP_NOT_FOUND:
                raise DecodeError(f"the Schema Registry knows no schema {schema_id}") from error
            if status in HTTP_REFUSED:
                raise ConfigurationError(f"Schema Registry: {error}") from error
            raise Unreachable(f"Schema Registry: {error}") from error


def _is_answer(error: Exception) -> bool:
    status = getattr(error, "http_status_code", None)
    return status is not None and status < HTTP_SERVER_ERROR

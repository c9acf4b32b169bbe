"""Owns the registry client's credentials: they are read again from their files when refused.

So are certificates, where a request fails and their files have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_common.kafka_password import LOGGER
from llmlog_common.renewal import INTERVAL_SECONDS, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

_HTTP_REFUSED: Final = (401, 403)


class RenewingClient:
    """A client of the Schema Registry that asks again with new credentials.

    It has the methods of Confluent's client that `Registry` calls. One thread uses it.

    Args:
        settings: as loaded.
        new_client: makes a client of Confluent's, from settings.
        interval_seconds: the files are read once in so long.
    """

    def __init__(
        self,
        settings: Settings,
        new_client: Callable[[Settings], Any],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._new_client = new_client
        self._renewal = Renewal(settings, "schema_registry_", interval_seconds)
        self._client = new_client(settings)

    def register_schema(self, *arguments: Any) -> Any:
        """Register a schema; see Confluent's client."""
        return self._ask(lambda: self._client.register_schema(*arguments))

    def get_schema(self, *arguments: Any) -> Any:
        """Return a schema; see Confluent's client."""
        return self._ask(lambda: self._client.get_schema(*arguments))

    def clear_caches(self) -> None:
        """Forget what was answered before; see Confluent's client."""
        self._client.clear_caches()

    def _ask(self, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except Exception as error:
            is_refused = getattr(error, "http_status_code", None) in _HTTP_REFUSED
            if not (is_refused or self._renewal.are_certificates_new) or not self._renew():
                raise
            return request()

    def _renew(self) -> bool:
        renewed = self._renewal.renew()
        if renewed.settings is not None:
            self._client = self._new_client(renewed.settings)
            self._renewal.accept(renewed)
        if renewed.what:
            LOGGER.warning("Schema Registry: %s", renewed.what)
        return renewed.settings is not None

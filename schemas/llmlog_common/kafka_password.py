"""Owns the SASL password of one Kafka client that comes from a file, and is changed there.

librdkafka reports refused credentials once, and then connects again by itself, in silence for up to
half a minute. So after such a report a thread reads the file until the user name or the password
has changed, or for `WAIT_SECONDS`; the next report begins again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from llmlog_common.renewal import INTERVAL_SECONDS, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings

WAIT_SECONDS: Final = 120.0

LOGGER: Final = logging.getLogger("llmlog.kafka")
"""Says when a password was read again; `log_setup` gives its lines the form of the others."""

_REFUSED: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001
)


class PasswordFile:
    """Gives a client the present content of its password's file when a broker refuses the old one.

    An instance is the `error_cb` of its client: the client's threads call it.

    Args:
        settings: as loaded.
        properties: returns the properties of this kind of client.
        interval_seconds: between two readings.
        wait_seconds: the file is read again for so long.
    """

    def __init__(
        self,
        settings: Settings,
        properties: Callable[[Settings], dict[str, str]],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._properties = properties
        self._interval_seconds = interval_seconds
        self._turns = max(1, int(wait_seconds / interval_seconds))
        self._renewal = Renewal(settings, "kafka_", interval_seconds)
        self._given = _credentials(properties(settings))  # what the client has
        self._client: Any = None
        self._report: Callable[[KafkaError], None] | None = None
        self._lock = threading.Lock()
        self._is_waiting = False  # under `_lock`

    def attach(self, client: Any, report: Callable[[KafkaError], None] | None) -> None:
        """Take the client that was made with this `error_cb`, and the `error_cb` it had before."""
        self._client, self._report = client, report

    def __call__(self, error: KafkaError) -> None:
        """Report an error of the client; where it is refused, begin to read the file again."""
        if error.code() in _REFUSED and self._begin():
            threading.Thread(target=self._wait, name="llmlog-password", daemon=True).start()
        if self._report is not None:
            self._report(error)

    def _begin(self) -> bool:
        with self._lock:
            begins, self._is_waiting = not self._is_waiting, True
            return begins

    def _wait(self) -> None:
        pause, said = threading.Event(), ""
        for _ in range(self._turns):
            renewed = self._renewal.renew()
            if renewed.settings is None:
                if renewed.what and renewed.what != said:
                    LOGGER.warning("%s", renewed.what)
                    said = renewed.what
            elif self._client is not None:
                new = _credentials(self._properties(renewed.settings))
                if new != self._given:  # and not a certificate alone
                    self._client.set_sasl_credentials(*new)
                    self._given = new
                    self._renewal.accept(renewed)
                    LOGGER.warning("%s", renewed.what)
                    break
            pause.wait(self._interval_seconds)
        with self._lock:
            self._is_waiting = False


def _credentials(properties: Mapping[str, str]) -> tuple[str, str]:
    return properties.get("sasl.username", ""), properties.get("sasl.password", "")


def is_in_file(settings: Settings) -> bool:
    """Tell whether a password or a user name of SASL comes from a file."""
    return any("sasl_" in name for name in settings.names_in_files("kafka_"))

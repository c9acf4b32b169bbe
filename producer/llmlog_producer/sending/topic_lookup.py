"""Looks for the topic, its bound and the registry; until they are found nothing is sent.

Then it looks again now and then: a topic may be given more partitions.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_common.throttled_log import error_name
from llmlog_schemas.codec import Encoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.events.build import EventBuilder
    from llmlog_producer.sending.kafka_producer import KafkaProducer

_LOOK_AGAIN: Final = 2.0
_REFRESH: Final = 300.0
"""As often as the Kafka client itself, by its default of `topic.metadata.refresh.interval.ms`."""


class TopicLookup:
    """Looks again every few seconds until the topic is found, and then every few minutes.

    Attributes:
        framing: how values are framed there; None until it is found.
    """

    def __init__(
        self, settings: Settings, log: ThrottledLog, prepare: EventBuilder, client: KafkaProducer
    ) -> None:
        self._settings = settings
        self._log = log
        self._prepare = prepare
        self._client = client
        self._next_look = 0.0
        self.framing: Encoder | None = None

    def look(self, now: float, left: float, *, aside: bool) -> None:
        """Look, where it is time to.

        Args:
            now: by the monotonic clock.
            left: seconds that it may take.
            aside: in a thread of its own: the journal waits for no broker.
        """
        if now < self._next_look:
            return
        self._next_look = math.inf
        timeout = min(1.0, left)
        if aside:
            thread = threading.Thread(
                target=self._look, args=(timeout,), name="llmlog-topic", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # an interpreter that ends starts no threads
                pass
            else:
                return
        if self.framing is None:
            self._look(timeout)
        else:  # nothing waits for it
            self._next_look = now + _REFRESH

    def _look(self, timeout: float) -> None:
        try:
            known = self.framing is not None
            if self._client.topic_exists(timeout, known=known):
                if known:
                    return
                registry = Registry.from_settings(self._settings)
                framing = Encoder(registry.register(self._settings.topic) if registry else None)
                if (topic_bytes := self._client.max_message_bytes(timeout)) is not None:
                    self._prepare.lower_limit(topic_bytes)
                    self._client.limit_batches(topic_bytes)
                self._client.down = False
                self.framing = framing  # last: from here on events are sent
                return
            self._log(
                logging.ERROR,
                "topic",
                f"topic {self._settings.topic} does not exist: run `pipeline setup`",
            )
        except KafkaException as error:
            self._log(logging.WARNING, "kafka", f"waiting for Kafka: {error.args[0].str()}")
        except (Unreachable, ConfigurationError) as error:
            self._log(logging.ERROR, "registry", f"waiting: {error}")
        except Exception as error:  # noqa: BLE001 - nothing may end the looking
            self._log(logging.ERROR, f"look {type(error)}", f"bug: {error_name(error)}")
        finally:
            pause = _LOOK_AGAIN if self.framing is None else _REFRESH
            self._next_look = time.monotonic() + pause

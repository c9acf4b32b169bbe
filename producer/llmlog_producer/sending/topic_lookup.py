"""Owns the lookup of the topic, of its bound, and of the registry: nothing is sent before it.

Afterwards the topic is looked up now and then: it may be given more partitions.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_common.throttled_log import error_name
from llmlog_producer.sending.timing import TIMING
from llmlog_schemas.codec import Encoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog
    from llmlog_producer.events.build import EventBuilder
    from llmlog_producer.sending.kafka_producer import KafkaProducer
    from llmlog_producer.sending.timing import Timing


class TopicLookup:
    """The lookup of the topic: every few seconds until it is found, then every few minutes.

    While Kafka takes no events, or some partition takes none, it is looked up every few seconds
    too: a topic that was recreated is found again, and partitions that have a new leader.

    The sending thread calls `refresh`; a lookup runs there or on a thread of its own, and there is
    one at a time. The lookup writes the fields; the sending thread reads them, and sets
    `_last_lookup` to infinity while a lookup runs.

    Args:
        settings: as loaded.
        log: told why there is no topic.
        builder: told the topic's bound.
        client: asked about the topic.
        timing: of sending.
        clock: monotonic seconds.

    Attributes:
        encoder: encodes values for the topic; None until it is found.
        has_failed: the last lookup has not found it; False while the first one goes on.
    """

    def __init__(
        self,
        settings: Settings,
        log: ThrottledLog,
        builder: EventBuilder,
        client: KafkaProducer,
        *,
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._log = log
        self._builder = builder
        self._client = client
        self._timing = timing
        self._clock = clock
        self._last_lookup = -math.inf
        self.encoder: Encoder | None = None
        self.has_failed = False

    def refresh(
        self, now: float, seconds_left: float, *, in_thread: bool, is_troubled: bool = False
    ) -> None:
        """Look the topic up, if it is time to.

        Args:
            now: monotonic seconds.
            seconds_left: the longest time that it may take.
            in_thread: use a thread of its own, so that the journal does not wait for a broker.
            is_troubled: Kafka, or a partition, takes no events.
        """
        timing = self._timing
        is_near = self.encoder is None or is_troubled
        pause = timing.topic_retry_seconds if is_near else timing.topic_refresh_seconds
        if now < self._last_lookup + pause:
            return
        self._last_lookup = math.inf
        seconds = min(1.0, seconds_left)
        if in_thread:
            thread = threading.Thread(
                target=self._look_up, args=(seconds,), name="llmlog-topic", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # an interpreter that ends starts no threads
                pass
            else:
                return
        if is_near:
            self._look_up(seconds)
        else:  # no event waits for it
            self._last_lookup = now

    def _look_up(self, seconds: float) -> None:
        has_failed = True
        try:
            known = self.encoder is not None
            if self._client.topic_exists(seconds, known=known):
                if known:
                    has_failed = False
                    return
                registry = Registry.from_settings(self._settings)
                encoder = Encoder(registry.register(self._settings.topic) if registry else None)
                if (topic_bytes := self._client.max_message_bytes(seconds)) is not None:
                    self._builder.lower_limit(topic_bytes)
                    self._client.limit_batches(topic_bytes)
                self._client.mark_up()
                self.encoder = encoder  # last: from here on events are sent
                has_failed = False
                return
            self._log(
                logging.ERROR,
                "topic",
                f"topic {self._settings.topic} does not exist: run `pipeline setup`",
            )
        except KafkaException as error:
            self._log(logging.WARNING, "kafka", f"waiting for Kafka: {error.args[0].str()}")
        except (Unreachable, ConfigurationError) as error:
            self._log(logging.ERROR, "registry", f"no events are sent yet: {error}")
        except Exception as error:  # noqa: BLE001 - no error may end the lookups
            self._log(logging.ERROR, f"topic {type(error)}", f"bug: {error_name(error)}")
        finally:
            self.has_failed = has_failed
            self._last_lookup = self._clock()

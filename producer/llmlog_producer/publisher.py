"""Owns the Kafka producer: a bounded queue, one background thread, delivery reports, flush.

The hook appends to the queue and returns. The thread converts, encodes and produces; Kafka
being down, slow or full never shows in a request.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from llmlog_producer.quiet_log import QuietLog, spelt
from llmlog_producer.snapshot import size_of
from llmlog_schemas.codec import Encoder
from llmlog_schemas.errors import ConfigurationError, Unreachable
from llmlog_schemas.json_form import plain
from llmlog_schemas.kafka_clients import MAX_RECORD_BYTES, QUIET, producer_config
from llmlog_schemas.payload import PayloadError, fit, to_event
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Message

    from llmlog_producer.stats import Stats
    from llmlog_schemas.records import LLMEvent
    from llmlog_schemas.settings import Settings

MAX_QUEUED_EVENTS: Final = 20_000
MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
"""Bounds of the queue between hook and thread; what is past them is counted and dropped."""

_POLL: Final = 0.05
_LOOK_AGAIN: Final = 2.0


class Captured:
    """One payload as the hook left it."""

    __slots__ = ("at", "call_id", "payload", "size")

    def __init__(self, payload: dict[Any, Any], call_id: str, at: float) -> None:
        self.payload = payload
        self.call_id = call_id
        self.at = at
        self.size = size_of(payload)


class Publisher:
    """Sends captured payloads to the topic; made once in each process.

    Args:
        settings: as loaded.
        stats: counted into.
        background: False: no thread; `flush` does its work, in an interpreter that ends.
    """

    def __init__(self, settings: Settings, stats: Stats, *, background: bool = True) -> None:
        self._settings = settings
        self._stats = stats
        self._log = QuietLog()
        self._queue: queue.SimpleQueue[Captured | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._settled = threading.Condition()
        self._closing = threading.Event()
        # Raises on a property that librdkafka does not know: a setting is wrong, say so at once.
        try:
            self._producer = Producer(
                {**producer_config(settings), "error_cb": self._on_error}, logger=QUIET
            )
        except KafkaException as error:
            raise ConfigurationError(f"Kafka settings: {error.args[0].str()}") from None
        self._encoder: Encoder | None = None
        self._working = threading.Lock()
        self._thread = self._started() if background else None

    def offer(self, captured: Captured) -> bool:
        """Queue one payload; False, counted, where the bound is reached. Never waits."""
        if (
            self._queue.qsize() >= MAX_QUEUED_EVENTS
            or self._queued_bytes + captured.size > MAX_QUEUED_BYTES
        ):
            self._stats.add("dropped_queue_full")
            self._log(logging.ERROR, "full", "Kafka takes no events and the queue is full: dropped")
            return False
        self._queued_bytes += captured.size
        self._stats.add("accepted")
        self._queue.put(captured)
        return True

    def flush(self, timeout: float) -> int:
        """Wait until every accepted event is settled, for `timeout` seconds at most.

        Returns:
            Events still unsettled.
        """
        deadline = time.monotonic() + timeout
        if self._thread is None:
            self._work(deadline, lambda: not self._stats.pending)
        with self._settled:
            while self._stats.pending and (left := deadline - time.monotonic()) > 0:
                self._settled.wait(min(left, _POLL))
        return self._stats.pending

    def close(self, timeout: float) -> int:
        """Flush, then end the thread; what is still unsent is lost, counted and logged."""
        unsent = self.flush(timeout)
        if unsent:
            self._log(logging.ERROR, "unsent", f"closed with {unsent} events unsent")
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(1.0)
        return unsent

    def _started(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="llmlog-publisher", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # since Python 3.12 an interpreter that ends starts no threads
            return None
        return thread

    def _run(self) -> None:
        self._work(math.inf, self._closing.is_set)

    def _work(self, deadline: float, done: Callable[[], bool]) -> None:
        """Publish what is queued until `done`, or until the deadline."""
        with self._working:
            if self._encoder is None:
                self._encoder = self._wait_for_topic(deadline)
            while self._encoder and not done() and time.monotonic() < deadline:
                try:
                    captured = self._queue.get(timeout=_POLL)
                except queue.Empty:
                    captured = None
                if captured is not None:
                    self._queued_bytes -= captured.size
                    self._publish(self._encoder, captured)
                self._producer.poll(0)

    def _wait_for_topic(self, deadline: float) -> Encoder | None:
        """Return the encoder once topic and registry are there; None when it ends before.

        The topic is looked for in the list of all topics: asking for it by name would create
        it, with a broker's defaults, where brokers create topics by themselves.
        """
        while not self._closing.is_set() and (left := deadline - time.monotonic()) > 0:
            try:
                topics = self._producer.list_topics(timeout=min(5.0, left)).topics
                if self._settings.topic in topics:
                    return self._new_encoder()
                self._log(
                    logging.ERROR,
                    "topic",
                    f"topic {self._settings.topic} does not exist: run `pipeline setup`",
                )
            except KafkaException as error:
                self._log(logging.WARNING, "kafka", f"waiting for Kafka: {error.args[0].str()}")
            except (Unreachable, ConfigurationError) as error:
                self._log(logging.ERROR, "registry", f"waiting: {error}")
            self._closing.wait(max(0.0, min(_LOOK_AGAIN, deadline - time.monotonic())))
        return None

    def _new_encoder(self) -> Encoder:
        registry = Registry.of_settings(self._settings)
        return Encoder(registry.register(self._settings.topic) if registry else None)

    def _publish(self, encoder: Encoder, captured: Captured) -> None:
        try:
            event = self._convert(captured)
            value = encoder.encode(event)
            if len(value) > MAX_RECORD_BYTES:
                value = encoder.encode(fit(event, MAX_RECORD_BYTES // 2))
                self._stats.add("cut")
        except Exception as error:  # noqa: BLE001 - a payload must never end the thread
            self._settle("dropped_unreadable")
            self._log(
                logging.ERROR, f"unreadable {type(error)}", f"payload dropped: {spelt(error)}"
            )
            return
        self._produce(event["event_id"], value)

    def _convert(self, captured: Captured) -> LLMEvent:
        def convert(payload: Any) -> LLMEvent:
            return to_event(
                payload,
                call_id=captured.call_id,
                captured_at=captured.at,
                search_text=self._settings.search_text,
                model_map_information=self._settings.model_map_information,
            )

        try:
            return convert(captured.payload)
        except PayloadError:
            raise
        except Exception:  # noqa: BLE001 - an object in it misbehaved: read it the careful way
            return convert(plain(captured.payload))

    def _produce(self, key: str, value: bytes) -> None:
        while not self._closing.is_set():
            try:
                self._producer.produce(
                    self._settings.topic, value=value, key=key, on_delivery=self._on_delivery
                )
            except BufferError:
                self._producer.poll(_POLL)
            except KafkaException as error:
                self._settle("failed")
                self._log(logging.ERROR, "produce", f"event lost: {error.args[0].str()}")
                return
            else:
                return

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        del message
        if error is None:
            self._settle("delivered")
            return
        self._settle("failed")
        self._log(logging.ERROR, f"delivery {error.code()}", f"event lost: {error.str()}")

    def _settle(self, counter: str) -> None:
        self._stats.add(counter)
        with self._settled:
            self._settled.notify_all()

    def _on_error(self, error: KafkaError) -> None:
        self._log(logging.WARNING, f"kafka {error.code()}", f"Kafka: {error.str()}")

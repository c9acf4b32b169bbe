"""LiteLLM's adapter: `handler`, to be named in `callbacks`. The only importer of litellm.

    litellm_settings:
      callbacks: ["llmlog_producer.callback.handler"]

Hooks run on the event loop or on the caller's thread: they copy the payload, queue it, and
never raise or wait.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger

from llmlog_producer.publisher import Captured, Publisher
from llmlog_producer.quiet_log import QuietLog
from llmlog_producer.snapshot import snapshot
from llmlog_producer.stats import Stats
from llmlog_schemas.errors import ConfigurationError
from llmlog_schemas.settings import Settings, load

EXIT_FLUSH_SECONDS: Final = 10.0
"""How long an interpreter that ends waits for what is unsent."""

_MODEL_MAP: Final = frozenset({"model_map_information"})


class LLMLogHandler(CustomLogger):  # type: ignore[misc]  # litellm ships no types
    """Every call that LiteLLM reports becomes one event on the Kafka topic.

    Works in `litellm.callbacks`, and in `success_callback` and `failure_callback` together.
    Settings come from the environment (`LLMLOG_…`) and `pipeline.toml`; wrong ones are one
    ERROR line, and the handler counts and drops from then on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stats = Stats()
        self._log = QuietLog()
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._pid = 0
        self._without: frozenset[str] = frozenset()
        self._settings = self._load()
        atexit.register(self._at_exit)

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Take the payload of a synchronous call that succeeded."""
        self._capture(kwargs)

    def log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Take the payload of a synchronous call that failed."""
        self._capture(kwargs)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Take the payload of an asynchronous call that succeeded; all of the proxy's."""
        self._capture(kwargs)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Take the payload of an asynchronous call that failed."""
        self._capture(kwargs)

    def flush(self, timeout: float) -> int:
        """Wait for delivery of everything taken, for `timeout` seconds at most.

        Returns:
            Events still unsent.
        """
        publisher = self._publisher
        return publisher.flush(timeout) if publisher else 0

    def close(self, timeout: float) -> int:
        """Flush and end the background thread; a later event starts it again.

        Returns:
            Events left unsent.
        """
        with self._lock:
            publisher, self._publisher = self._publisher, None
        return publisher.close(timeout) if publisher else 0

    def stats(self) -> dict[str, int]:
        """Return the counters of this process: accepted, delivered, dropped and so on."""
        return self._stats.snapshot()

    def _load(self) -> Settings | None:
        try:
            settings = load()
        except ConfigurationError as error:
            self._log(logging.ERROR, "settings", f"disabled, events are dropped: {error}")
            return None
        if not settings.model_map_information:
            self._without = _MODEL_MAP
        return settings

    def _capture(self, kwargs: Any) -> None:
        try:
            payload = kwargs.get("standard_logging_object") if kwargs else None
            if not isinstance(payload, dict):
                self._stats.add("dropped_no_payload")
                self._log(
                    logging.WARNING,
                    f"payload {type(payload)}",
                    f"a hook came with {type(payload).__name__} in the payload's place: dropped",
                )
                return
            publisher = self._running()
            if publisher is None:
                self._stats.add("dropped_disabled")
                return
            call_id = kwargs.get("litellm_call_id")
            publisher.offer(
                Captured(
                    snapshot(payload, without=self._without),
                    call_id if isinstance(call_id, str) else "",
                    time.time(),
                )
            )
        except Exception as error:  # noqa: BLE001 - nothing may reach the gateway
            self._stats.add("dropped_unreadable")
            self._stats.add("accepted")
            self._log(logging.ERROR, f"hook {type(error)}", f"payload dropped: {error!r}")

    def _running(self) -> Publisher | None:
        """Return this process's publisher; a forked child needs one of its own."""
        if self._publisher is not None and self._pid == os.getpid():
            return self._publisher
        if self._settings is None:
            return None
        with self._lock:
            if self._publisher is None or self._pid != os.getpid():
                if self._pid != os.getpid():
                    self._stats = Stats()
                try:
                    self._publisher = Publisher(self._settings, self._stats)
                except ConfigurationError as error:
                    self._log(logging.ERROR, "settings", f"disabled, events are dropped: {error}")
                    self._settings = None
                    return None
                self._pid = os.getpid()
            return self._publisher

    def _at_exit(self) -> None:
        if self._pid == os.getpid():
            self.close(EXIT_FLUSH_SECONDS)


handler: Final = LLMLogHandler()

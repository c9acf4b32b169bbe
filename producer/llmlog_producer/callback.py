"""Owns LiteLLM's adapter: `handler`, to be named in `callbacks`. The only importer of litellm.

    litellm_settings:
      callbacks: ["llmlog_producer.callback.handler"]

Hooks run on the event loop or on the caller's thread: they copy the payload, queue it, and
never raise or wait.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import threading
import time
from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import Settings, load
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog, error_name, flush_lines
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.events.snapshot import excluded_keys, snapshot
from llmlog_producer.metrics import expose
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.shutdown import run_before_sigterm

EXIT_FLUSH_SECONDS: Final = 10.0
"""The longest wait of an interpreter that ends, for its events to be sent."""

SIGTERM_SECONDS: Final = 2.0
"""The longest wait of a process that a SIGTERM ends at once, for its journal to be written."""


class LLMLogHandler(CustomLogger):  # type: ignore[misc]  # litellm ships no types
    """A LiteLLM callback: every call that LiteLLM reports becomes one event on the Kafka topic.

    It works in `litellm.callbacks`, and in `success_callback` and `failure_callback` together.
    Settings come from the environment (`LLMLOG_…`) and `pipeline.toml`. Wrong settings are one
    ERROR line; from then on the handler drops events and counts them.

    Hooks on all threads, the exit handler and the signal handler read the fields. `_publisher` and
    `_closing` are written with `_lock` held, which the signal handler never takes;
    `_exit_deadline` is written by the exit handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self._publisher: Publisher | None = None
        self._closing: Publisher | None = None  # while `close` waits for it
        self._excluded_keys: frozenset[str] = frozenset()
        self._has_metrics = False
        self._begin_process()
        self._settings = self._load()
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=self._begin_process)
        if self._settings is not None and self._settings.journal != "off":
            run_before_sigterm(self._on_sigterm)
        # In a proxy's worker connect now: a SIGTERM runs no exit handler there, and soon after the
        # first request it must not find an event that waits for the connection.
        if _in_event_loop():
            self._connect_early()

    def _begin_process(self) -> None:
        """Set up the fields that belong to one process; runs again in a forked child."""
        self._stats = Stats()
        self._log = ThrottledLog(GatewayLogger())
        self._lock = threading.Lock()
        self._exit_deadline: float | None = None  # monotonic seconds
        # The parent's Kafka client has no threads here, so it can be neither used nor destroyed: it
        # is kept for as long as this process lives.
        self._inherited = [one for one in (self._publisher, self._closing) if one is not None]
        for one in self._inherited:
            one.abandon()
        self._publisher = self._closing = None

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
        """Wait for the delivery of all events, for `timeout` seconds at most.

        Returns:
            Events that are not sent yet.
        """
        publisher = self._publisher
        return publisher.flush(timeout) if publisher else 0

    def close(self, timeout: float) -> int:
        """Flush and end the background thread; a later event starts it again.

        Returns:
            Events that are not sent; those in the journal are sent by the next process.
        """
        with self._lock:
            self._closing = publisher = self._publisher
            self._publisher = None
        try:
            return publisher.close(timeout) if publisher else 0
        finally:
            self._closing = None

    def stats(self) -> dict[str, int]:
        """Return the counters of this process: accepted, delivered, dropped and so on."""
        return self._stats.snapshot()

    def _load(self) -> Settings | None:
        try:
            settings = load()
        except ConfigurationError as error:
            self._log(logging.ERROR, "settings", f"disabled, events are dropped: {error}")
            return None
        self._excluded_keys = excluded_keys(settings)
        return settings

    def _connect_early(self) -> None:
        try:
            self._get_publisher()
        except Exception as error:  # noqa: BLE001 - the first event tries again
            self._log(
                logging.ERROR, f"start {type(error)}", f"not connected yet: {error_name(error)}"
            )

    def _capture(self, kwargs: Any) -> None:
        try:
            payload = kwargs.get("standard_logging_object") if kwargs else None
            if not isinstance(payload, dict):
                self._stats.add("dropped_no_payload")
                self._log(
                    logging.WARNING,
                    f"payload {type(payload)}",
                    f"a hook got {type(payload).__name__} in place of a payload: dropped",
                )
                return
            publisher = self._get_publisher()
            if publisher is None:
                self._stats.add("dropped_disabled")
                return
            if publisher.is_full:  # before the payload is copied
                publisher.refuse()
                return
            call_id = kwargs.get("litellm_call_id")
            publisher.offer(
                CapturedPayload(
                    snapshot(payload, without=self._excluded_keys),
                    call_id if isinstance(call_id, str) else "",
                    time.time(),
                )
            )
            if self._exit_deadline is not None:
                left = max(0.0, self._exit_deadline - time.monotonic())
                if lost := publisher.leave(left):
                    self._log(logging.ERROR, "unsent", f"ended with {lost} events unsent")
        except Exception as error:  # noqa: BLE001 - no error may reach the gateway
            self._stats.add("dropped_unreadable")
            self._stats.add("accepted")
            self._log(logging.ERROR, f"hook {type(error)}", f"payload dropped: {error_name(error)}")

    def _get_publisher(self) -> Publisher | None:
        """Return this process's publisher, new at its first use; None where settings are wrong."""
        if self._publisher is not None or self._settings is None:
            return self._publisher
        with self._lock:
            if self._publisher is None:
                background = self._exit_deadline is None
                try:
                    self._publisher = Publisher(self._settings, self._stats, background=background)
                except ConfigurationError as error:
                    self._log(logging.ERROR, "settings", f"disabled, events are dropped: {error}")
                    self._settings = None
                    return None
                if self._settings.gateway_metrics and not self._has_metrics:
                    self._has_metrics = True
                    expose(self.stats)
                if background and multiprocessing.parent_process() is not None:
                    # Children of multiprocessing end without atexit before Python 3.13.
                    multiprocessing.util.Finalize(None, self._at_exit, exitpriority=0)
            return self._publisher

    def _on_sigterm(self, *, last: bool) -> bool:
        """Hand all events over to the journal; wait if the process ends right afterwards.

        Returns:
            False if the code that the signal has interrupted has to write them: the signal comes
            again then.
        """
        seconds = SIGTERM_SECONDS if last else 0.0
        publishers = [one for one in (self._closing, self._publisher) if one is not None]
        saved = [publisher.journal_first(seconds) for publisher in publishers]
        return all(saved)

    def _at_exit(self) -> None:
        """Flush; from here on every hook sends its event itself.

        LiteLLM's own exit handler runs after this one, and calls the hooks for the calls that an
        `asyncio.run` has left in LiteLLM's queue.
        """
        if self._exit_deadline is None:
            self._exit_deadline = time.monotonic() + EXIT_FLUSH_SECONDS
        self.close(max(0.0, self._exit_deadline - time.monotonic()))
        flush_lines(1.0)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


handler: Final = LLMLogHandler()

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
from llmlog_producer.counters import HookTimes, Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.events.call_facts import add_call_facts
from llmlog_producer.events.completion import BatchCosts
from llmlog_producer.events.snapshot import excluded_keys, snapshot
from llmlog_producer.metrics import MULTIPROC_VARIABLE, Source, expose
from llmlog_producer.pass_through import PassThroughFailures
from llmlog_producer.patched_threads import describe_patched_threads
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.shutdown import Hold, run_before_sigterm

EXIT_FLUSH_SECONDS: Final = 10.0
"""The longest wait of an interpreter that ends, for its events to be sent."""

LINES_SECONDS: Final = 1.0
"""The longest wait of an interpreter that ends, for its last log lines to be written."""

SIGTERM_SECONDS: Final = 2.0
"""The longest wait of a process that a SIGTERM ends at once, for its journal to be written."""


class LLMLogHandler(CustomLogger):  # type: ignore[misc]  # litellm ships no types
    """A LiteLLM callback: every call that LiteLLM reports becomes one event on the Kafka topic.

    It works in `litellm.callbacks`, and in `success_callback` and `failure_callback` together.
    Settings come from the environment (`LLMLOG_…`) and `pipeline.toml`. Wrong settings are one
    ERROR line; from then on the handler drops events and counts them.

    Hooks on all threads, the exit handler and the signal handler read the fields. `_publisher` is
    written once, with `_lock` held, which the signal handler never takes; `_exit_deadline` is
    written by the exit handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self._publisher: Publisher | None = None
        self._excluded_keys: frozenset[str] = frozenset()
        self._has_metrics = False
        self._batch_costs = BatchCosts()
        self._pass_through = PassThroughFailures()
        self._begin_process()
        self._settings = self._load()
        self._hold = Hold()
        self._is_forked = False
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=self._begin_child)
        if self._settings is not None:
            run_before_sigterm(self._on_sigterm, self._hold)
        # In a proxy's worker connect now: a SIGTERM runs no exit handler there, and soon after the
        # first request it must not find an event that waits for the connection.
        if _in_event_loop():
            self._connect_early()

    def _begin_process(self) -> None:
        """Set up the fields that belong to one process; runs again in a forked child."""
        self._stats = Stats()
        self._hook_times = HookTimes()
        self._has_metrics = self._has_metrics and MULTIPROC_VARIABLE not in os.environ
        self._log = ThrottledLog(GatewayLogger())
        self._lock = threading.Lock()
        self._exit_deadline: float | None = None  # monotonic seconds
        # The parent's Kafka client has no threads here, so it can be neither used nor destroyed: it
        # is kept for as long as this process lives.
        self._inherited = self._publisher
        if self._inherited is not None:
            self._inherited.abandon()
        self._publisher = None

    def _begin_child(self) -> None:
        self._is_forked = True
        self._begin_process()

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

    async def async_post_call_failure_hook(
        self,
        request_data: Any,
        original_exception: Any,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Make the payload of a failed pass-through request: no log hook is called for it."""
        try:
            payload = self._pass_through.payload_of(
                request_data, original_exception, user_api_key_dict, traceback_str
            )
        except Exception as error:  # noqa: BLE001 - no error may reach the gateway
            self._count_unreadable(error)
            return
        if payload is not None:
            call_id = request_data.get("litellm_call_id")
            self._capture({"standard_logging_object": payload, "litellm_call_id": call_id})

    def flush(self, timeout: float) -> int:
        """Wait for the delivery of all events, for `timeout` seconds at most.

        Returns:
            Events that are not sent yet.
        """
        publisher = self._publisher
        return publisher.flush(timeout) if publisher else 0

    def close(self, timeout: float) -> int:
        """Flush and end the background thread; a later event, or `flush`, starts it again.

        Returns:
            Events that are not sent. Those in the journal are sent by this process if it goes on,
            or else by the next one.
        """
        publisher = self._publisher
        return publisher.halt(timeout) if publisher else 0

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
        began = time.perf_counter()
        self._take(kwargs)
        self._hook_times.observe(time.perf_counter() - began)

    def _take(self, kwargs: Any) -> None:
        try:
            if kwargs and self._pass_through.is_second(kwargs):
                return
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
            payload = add_call_facts(self._batch_costs.count_once(payload), kwargs)
            call_id = call_id if isinstance(call_id, str) else ""
            copy, size = snapshot(payload, without=self._excluded_keys)
            publisher.offer(CapturedPayload(copy, call_id, time.time(), size))
            if self._exit_deadline is not None:
                left = max(0.0, self._exit_deadline - time.monotonic())
                if lost := publisher.leave(left):
                    self._log(logging.ERROR, "unsent", f"ended with {lost} events unsent")
                flush_lines(LINES_SECONDS)  # no thread writes them once the interpreter has ended
        except Exception as error:  # noqa: BLE001 - no error may reach the gateway
            self._count_unreadable(error)

    def _count_unreadable(self, error: Exception) -> None:
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
                    if why := describe_patched_threads():
                        raise ConfigurationError(why)  # noqa: TRY301 - one line for all of them
                    self._publisher = Publisher(
                        self._settings, self._stats, background=background, hold=self._hold
                    )
                except ConfigurationError as error:
                    self._log(logging.ERROR, "settings", f"disabled, events are dropped: {error}")
                    self._settings = None
                    return None
                self._log_start(self._publisher.summary)
                if self._is_forked:  # a server's worker has taken the parent's handlers out
                    run_before_sigterm(self._on_sigterm, self._hold)
                if self._settings.gateway_metrics and not self._has_metrics:
                    self._has_metrics = True
                    expose(Source(self.stats, self._journal_state, lambda: self._hook_times))
                if background and multiprocessing.parent_process() is not None:
                    # Children of multiprocessing end without atexit before Python 3.13.
                    multiprocessing.util.Finalize(None, self._at_exit, exitpriority=0)
            return self._publisher

    def _journal_state(self) -> dict[str, float]:
        journal = self._publisher.journal if self._publisher is not None else None
        size, age = journal.measure() if journal is not None else (0, 0.0)
        limit = self._settings.journal_max_bytes if journal and self._settings else 0
        names = ("journal_bytes", "journal_limit_bytes", "journal_age_seconds")
        return dict(zip(names, (size, limit, age), strict=True))

    def _log_start(self, summary: str) -> None:
        """Show that events are taken, also in a proxy, where no INFO line of others is shown."""
        is_shown = logging.getLogger("llmlog_producer").isEnabledFor(logging.INFO)
        level = logging.WARNING if _in_event_loop() and not is_shown else logging.INFO
        GatewayLogger().log(level, summary)

    def _on_sigterm(self, *, last: bool) -> bool:
        """Hand all events over to the journal; wait if the process ends right afterwards.

        Returns:
            False if the code that the signal has interrupted has to write them: the signal comes
            again then.
        """
        seconds = SIGTERM_SECONDS if last else 0.0
        publisher = self._publisher
        return publisher is None or publisher.journal_first(seconds)

    def _at_exit(self) -> None:
        """Flush; from here on every hook sends its event itself.

        LiteLLM's own exit handler runs after this one, and calls the hooks for the calls that an
        `asyncio.run` has left in LiteLLM's queue.
        """
        if self._exit_deadline is None:
            seconds = SIGTERM_SECONDS if self._hold.is_active else EXIT_FLUSH_SECONDS
            self._exit_deadline = time.monotonic() + seconds
        if self._publisher is not None:
            self._publisher.end_background()
        self.close(max(0.0, self._exit_deadline - time.monotonic()))
        self._hold.release()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


handler: Final = LLMLogHandler()

"""Owns the Prometheus metrics, in the gateway's own registry.

One process answers a scrape with what it knows at that moment. Where several share a folder
(`PROMETHEUS_MULTIPROC_DIR`, as LiteLLM does with `--num_workers`), prometheus-client adds up what
each has written there, and asks none of them: so a thread writes once a second.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog, error_name
from llmlog_producer.counters import COUNTERS, HOOK_BOUNDS_SECONDS
from llmlog_producer.counters import GAUGES as OF_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_producer.counters import HookTimes

PREFIX: Final = "llmlog_gateway_"
MULTIPROC_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
WRITE_SECONDS: Final = 1.0

GAUGES: Final = {
    **OF_EVENTS,
    "journal_bytes": "Size of the files in the journal's folder, which processes share.",
    "journal_limit_bytes": "Its bound; what is over it is dropped. 0 without a journal.",
    "journal_age_seconds": "Age of the oldest file there that holds events; 0 without one.",
}
"""Every gauge and what it tells; of processes that share a folder, those of events are the sum, the
others the greatest value."""
HOOK_SECONDS: Final = "hook_seconds"
HOOK_TEXT: Final = "Time that a hook takes from its request."

_written: dict[str, Any] = {}
"""Those of this process that are written to a shared folder: a name is registered once."""


class Source(NamedTuple):
    """What is told; each is called from the thread that scrapes or writes.

    Attributes:
        stats: `handler.stats`.
        journal: the values of the gauges about the journal's folder.
        hook_times: of the hooks.
    """

    stats: Callable[[], dict[str, int]]
    journal: Callable[[], dict[str, float]]
    hook_times: Callable[[], HookTimes]

    def gauges(self) -> dict[str, float]:
        """Return the value of each gauge."""
        stats = self.stats()
        return {name: stats[name] for name in OF_EVENTS} | self.journal()


def expose(source: Source) -> bool:
    """Register what is told about whenever it is scraped, or begin to write it.

    Args:
        source: the values.

    Returns:
        False where prometheus-client is not installed, or another handler is registered.
    """
    try:
        if os.environ.get(MULTIPROC_VARIABLE):
            client = importlib.import_module("prometheus_client")
            writer = Writer(source, client)
            threading.Thread(target=writer.run, name="llmlog-metrics", daemon=True).start()
        else:
            registry = importlib.import_module("prometheus_client").REGISTRY
            core = importlib.import_module("prometheus_client.core")
            registry.register(_Collector(source, core))
    except (ImportError, ValueError):
        return False
    return True


class _Collector:
    """A custom collector of prometheus-client."""

    def __init__(self, source: Source, core: Any) -> None:
        self._source = source
        self._core = core

    def collect(self) -> Iterator[Any]:
        """Yield each metric with its present value."""
        values = self._source.stats()
        for name, text in COUNTERS.items():
            yield self._core.CounterMetricFamily(f"{PREFIX}{name}", text, value=values[name])
        for name, value in self._source.gauges().items():
            yield self._core.GaugeMetricFamily(f"{PREFIX}{name}", GAUGES[name], value=value)
        buckets, total = self._source.hook_times().read()
        yield self._core.HistogramMetricFamily(
            f"{PREFIX}{HOOK_SECONDS}", HOOK_TEXT, buckets=buckets, sum_value=total
        )


class Writer:
    """Writes the values of one process where prometheus-client finds those of all.

    Args:
        source: the values.
        client: the module `prometheus_client`.
    """

    def __init__(self, source: Source, client: Any) -> None:
        self._source = source
        self._client = client
        self._recent = source.hook_times().keep_recent()
        self._last = dict.fromkeys(COUNTERS, 0)
        self._log = ThrottledLog(GatewayLogger())

    def write(self) -> None:
        """Write what has changed since the last time.

        Raises:
            OSError: the folder cannot be written; what has not been written yet is the next time.
        """
        if HOOK_SECONDS not in _written:
            self._register()
        values = self._source.stats()
        for name, last in list(self._last.items()):
            if values[name] > last:
                _written[name].inc(values[name] - last)
                self._last[name] = values[name]
        for name, value in self._source.gauges().items():
            _written[name].set(value)
        while self._recent:
            _written[HOOK_SECONDS].observe(self._recent.popleft())

    def _register(self) -> None:
        """Make the metrics that are not there yet: each makes a file, or a place in one."""
        for name, text in COUNTERS.items():
            if name not in _written:
                _written[name] = self._client.Counter(f"{PREFIX}{name}", text)
        for name, text in GAUGES.items():
            if name not in _written:
                mode = "livesum" if name in OF_EVENTS else "livemax"
                _written[name] = self._client.Gauge(f"{PREFIX}{name}", text, multiprocess_mode=mode)
        _written[HOOK_SECONDS] = self._client.Histogram(
            f"{PREFIX}{HOOK_SECONDS}", HOOK_TEXT, buckets=HOOK_BOUNDS_SECONDS
        )

    def try_write(self) -> None:
        """Write; where that fails say so, once a minute. The next time may succeed."""
        try:
            self.write()
        except Exception as error:  # noqa: BLE001 - a file system, prometheus-client, the journal
            self._log(
                logging.WARNING,
                "metrics",
                f"the gateway's metrics stand still: the folder of {MULTIPROC_VARIABLE} cannot be "
                f"written ({error_name(error)}); it has to exist, with room for this user",
            )

    def run(self) -> None:
        """Write once a second, for as long as the process lives."""
        while True:
            self.try_write()
            time.sleep(WRITE_SECONDS)

"""Consumes topics into some sink, and times it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping

import httpx

from benchmarks import arena

SHORT, LONG = 40_000, 240_000
"""Records of a topic: a figure is the difference, so that start-up cancels out."""
_names = itertools.count()


class Bench:
    """Consumes topics into some sink.

    Args:
        bootstrap: of the broker.
        url: of the sink.
        real: the sink is an Elasticsearch: indices are made and deleted.
        others: ids of processes whose CPU is to be watched as well, by name.
    """

    def __init__(
        self, bootstrap: str, url: str, *, real: bool, others: Mapping[str, int] | None = None
    ) -> None:
        self.bootstrap = bootstrap
        self.url = url
        self.real = real
        self.others = others or {}

    def settings(self, topic: str) -> Mapping[str, str]:
        """Return the settings of a run with index and group of its own."""
        name = f"bench-{next(_names)}-run"  # an alias: only a day ends in a digit
        return {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "LLMLOG_ELASTICSEARCH_URL": self.url,
            "LLMLOG_TOPIC": topic,
            "LLMLOG_INDEX": name,
            "LLMLOG_GROUP": name,
        }

    def ready(self, topic: str) -> Mapping[str, str]:
        """Return such settings, the index set up."""
        settings = self.settings(topic)
        if self.real:
            arena.pipeline(settings, "setup")
        return settings

    def done(self, settings: Mapping[str, str]) -> None:
        """Forget what was indexed."""
        if self.real:
            names = httpx.get(f"{self.url}/{settings['LLMLOG_INDEX']}-*/_settings").json()
            for name in names:
                httpx.delete(f"{self.url}/{name}", timeout=60).raise_for_status()

    def consume(self, topic: str, workers: int) -> arena.Usage:
        """Consume a whole topic."""
        settings = self.ready(topic)
        command = ["consume", "--until-end", "--workers", str(workers)]
        usage = arena.pipeline(settings, *command, others=self.others)
        self.done(settings)
        return usage

    def difference(self, prefix: str) -> tuple[float, float, float]:
        """Return one worker's µs of CPU a document, documents a second, and megabytes."""
        short, long = (self.consume(f"{prefix}-{length}", 1) for length in (SHORT, LONG))
        number = LONG - SHORT
        rate = number / (long.wall_s - short.wall_s)
        return (long.cpu_s - short.cpu_s) / number * 1e6, rate, long.watch.peak_mb

    def script(self, name: str, topic: str, *arguments: str) -> float:
        """Run one of the scripts beside this file over a topic; return documents a second."""
        settings = self.ready(topic)
        usage = arena.run([sys.executable, str(arena.SCRIPTS / name), *arguments], settings)
        self.done(settings)
        said = json.loads(usage.stdout)
        return float(said["documents"] / said["seconds"])

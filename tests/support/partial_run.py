"""Runs the consumer while one part of what it works with is wrong, and times all the rest.

The rest is a burst of events that have nothing to do with that part. The same burst goes out before
the fault and during it; the ratio of the two rates is what the fault costs the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_local.ports import HOST, free_ports
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.fault_run import LONG, Arena, Load, Row, Run, count, settle, stop
from support.judge import Judgement
from support.payloads import payload, send
from support.pipeline import PIPELINE, Pipeline

BURST = int(os.environ.get("FAULT_BURST") or LONG)
"""Events of one burst."""
BURSTS = 3
"""Of which the median counts."""
SAID_WITHIN = float(os.environ.get("FAULT_SAID_WITHIN") or 10.0)
"""Seconds within which the cause is named."""
FLOWING = 0.5
"""Least ratio that a machine with other work may show; what it is worth stands in the table."""


def late_value(seed: int, days_ago: int, **overrides: Any) -> bytes:
    """Return the value of an event that began so many days ago."""
    began = payload(seed)["startTime"] - days_ago * DAY_MS / 1000
    event = to_event(payload(seed, startTime=began, endTime=began + 0.5, **overrides))
    return Encoder().encode(event)


def index_of(pipeline: Pipeline, days_ago: int) -> str:
    """Return the name of the index of so many days ago."""
    began_ms = int(payload(1)["startTime"] * 1000)
    return daily_index(pipeline.index, began_ms - days_ago * DAY_MS)


@dataclass
class PartialRun(Run):
    """One run of a fault of one part.

    Attributes:
        partitions: that have nothing to do with the fault; none means all.
        days_ago: of the events of a burst.
        whole: documents a second before the fault.
        part: documents a second during it; 0 where they were not taken.
        said_in: seconds until the cause was named, the longest of all causes.
        vanished: records that the fault took off the topic after they were documents.
    """

    partitions: Sequence[int] = (-1,)
    days_ago: int = 0
    whole: float = 0.0
    part: float = 0.0
    said_in: float = 0.0
    vanished: int = 0
    watching: subprocess.Popen[str] = field(init=False)
    _bursts: int = field(default=0, init=False)
    _pages: list[int] = field(default_factory=list, init=False)
    _seed: int = field(default=3_000_000_000, init=False)

    def row(self, name: str, verdict: Judgement, began: float) -> Row:
        """Add a line to the table, with the two figures of these faults."""
        row = super().row(name, verdict, began)
        assert len(verdict.foreign) == self.vanished
        verdict.foreign.clear()
        row.others = self.part / self.whole if self.part else None
        row.said = self.said_in
        return row

    def send_bad_part(self, values: Sequence[bytes], *, letters: int = 0, **options: Any) -> None:
        """Send what the fault is about; so many of it end as letters."""
        send(self.arena.bootstrap, self.pipeline.topic, list(values), **options)
        self.load.extra += len(values)
        self.load.bad += letters

    def seeds(self, number: int) -> range:
        """Return seeds that nothing else of this run has."""
        self._seed += number
        return range(self._seed - number, self._seed)

    def late(self, number: int, days_ago: int = 2, **overrides: Any) -> list[bytes]:
        """Return so many events of an earlier day."""
        return [late_value(seed, days_ago, **overrides) for seed in self.seeds(number)]

    def measure_before(self) -> None:
        """Time bursts without the fault."""
        self.whole = self._median_rate()

    def measure_during(self) -> None:
        """Time bursts with it."""
        self.part = self._median_rate()
        assert self.part / self.whole > FLOWING, f"{self.part:.0f} of {self.whole:.0f} a second"

    def consume(self, *arguments: str, workers: int | None = None) -> subprocess.Popen[str]:
        """Start a `pipeline consume` that serves health and metrics."""
        (port,) = free_ports(1)
        self._pages.append(port)
        plain = self.settings
        self.settings = plain | {"LLMLOG_METRICS_PORT": str(port)}
        try:
            return super().consume(*arguments, workers=workers)
        finally:
            self.settings = plain

    def reasons(self) -> list[str]:
        """Return why processes are not ready, as `/readyz` of each says now."""
        found: list[str] = []
        for port in self._pages:
            with suppress(httpx.TransportError):
                answer = httpx.get(f"http://{HOST}:{port}/readyz", timeout=10)
                found += answer.text.splitlines() if answer.status_code != 200 else []
        return found

    def wait_until_said(
        self, words: str, since: float, *, also: str = "", on_page: str | None = ""
    ) -> None:
        """Wait until `pipeline status` names the cause, and `/readyz` of a process does.

        Args:
            words: in one of its problems.
            since: monotonic seconds at which the fault could be seen.
            also: what the same problem has to say.
            on_page: the words of `/readyz`, where they are others; None where it says nothing.
        """

        def is_said() -> bool:
            return any(words in text and also in text for text in self.problems())

        self.wait(is_said, what=f"status says {words!r} and {also!r}")
        self._note_said(since)
        if on_page is not None:
            expected = on_page or words
            self.wait(
                lambda: any(expected in line for line in self.reasons()),
                what=f"/readyz says {expected!r}",
            )

    def watch(self) -> None:
        """Start `pipeline status --watch`, as an operator does who sees trouble come."""
        command = [PIPELINE, "status", "--watch", "--json"]
        with (self.pipeline.folder / "status").open("w") as out:
            watching = subprocess.Popen(
                command, env=self.pipeline.environment, stdout=out, stderr=out, text=True
            )
        self.pipeline.processes.append(watching)
        self.watching = watching

    def problems(self) -> list[str]:
        """Return the problems that `pipeline status` has named last."""
        lines = (self.pipeline.folder / "status").read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.startswith("{") and line.endswith("\n")]
        return list(json.loads(whole[-1])["problems"]) if whole else []

    def wait_for_letters(self, number: int, words: str, since: float) -> None:
        """Wait until so many letters give this reason."""
        self.wait(lambda: len(self.letters(words)) == number, what=f"{number} letters: {words}")
        self._note_said(since)

    def make_index(self, days_ago: int, body: dict[str, Any] | None = None) -> str:
        """Create the index of an earlier day, as a worker would have; return its name."""
        name = index_of(self.pipeline, days_ago)
        self.elastic("PUT", f"/{name}?wait_for_active_shards=0", json=body or {})
        return name

    def letters(self, words: str) -> list[str]:
        """Return the letters that say this."""
        shown = self.pipeline.run("dlq", "list", "--json").stdout
        letters = [json.loads(line) for line in shown.splitlines()]
        return [text for letter in letters if words in (text := json.dumps(letter))]

    def _note_said(self, since: float) -> None:
        took = time.monotonic() - since
        assert took <= SAID_WITHIN, f"named after {took:.1f} s"
        self.said_in = max(self.said_in, took)

    def _median_rate(self) -> float:
        self._settle_load()
        rates = sorted(self._rate() for _ in range(BURSTS))
        return rates[BURSTS // 2]

    def _settle_load(self) -> None:
        """Wait until the first half of the load is done with: it would share the burst's time."""
        if self.whole:
            return
        self.wait_for_documents(int(self.load.records // 2 * (1 - 2 * self.load.bad_share)))

    def _rate(self) -> float:
        """Return documents a second of one burst."""
        self._bursts += 1
        name = f"burst-{self._bursts}"
        number = BURST // BURSTS
        values = self.late(number, self.days_ago, model=name)
        share = len(self.partitions)
        parts = [(p, values[at::share]) for at, p in enumerate(self.partitions)]
        index = index_of(self.pipeline, self.days_ago)
        began = time.monotonic()
        for partition, part in parts:
            send(self.arena.bootstrap, self.pipeline.topic, list(part), partition=partition)
        self.wait(lambda: self._count(index, name) == number, what=f"all of {name}")
        took = time.monotonic() - began
        self.load.extra += number
        return number / took

    def _count(self, index: str, model: str) -> int:
        httpx.post(f"{self.pipeline.elasticsearch}/{index}/_refresh", timeout=60)
        query = {"query": {"term": {"model": model}}}
        found = httpx.post(f"{self.pipeline.elasticsearch}/{index}/_count", json=query, timeout=60)
        return int(found.json().get("count", 0))


PartialFault = Callable[[PartialRun], None]
"""Breaks one part, sends what meets it, times the others, and mends it before it returns."""


def run_partially(
    name: str,
    fault: PartialFault,
    arena: Arena,
    pipeline: Pipeline,
    *,
    records: int = LONG,
    workers: int = 2,
    settings: dict[str, str] | None = None,
    partitions: Sequence[int] = (-1,),
    loaded: tuple[int, ...] = (),
    days_ago: int = 0,
    bad_share: float = 0.0,
    exact: bool = True,
) -> PartialRun:
    """Run a fault of one part to its full count.

    Args:
        name: for the table.
        fault: what goes wrong.
        arena: the servers.
        pipeline: set up.
        records: of the load beside the bursts.
        workers: of the consumer.
        settings: of the consumer alone.
        partitions: that the bursts go to.
        loaded: partitions that the load goes to; none means all.
        days_ago: of the events of the bursts.
        bad_share: of the load that is bad.
        exact: whether letters are those that the fault has announced, one for one.
    """
    began = time.monotonic()
    load = Load(arena.bootstrap, pipeline.topic, records, bad_share, partitions=loaded)
    run = PartialRun(
        arena, pipeline, load, settings or {}, workers, partitions=partitions, days_ago=days_ago
    )
    run.consuming = run.consume()
    run.watch()
    load.start()
    run.measure_before()
    fault(run)
    run.watching.kill()
    load.finish()
    settle(run)
    stop(run)
    count(run, name, began, exact=exact)
    return run

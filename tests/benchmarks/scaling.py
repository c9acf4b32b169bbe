"""What a second worker brings, against the stub: a steady rate, and who takes the cores meanwhile.

Workers come and end one after the other, so only the time counts in which all of them work: from a
second after each has sent something until the first one has sent its last. The stub has noted what
came when, and from whom.

Broker and stub share the cores with the workers. So twice the workers are compared on twice the
machine: one worker, broker and stub kept on one core, beside two workers, broker and stub on both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks import arena, load
from benchmarks.bench import Bench
from benchmarks.figures import Figures, rounds

_FEWEST, _MOST = 800_000, 12_800_000
"""Records of the topic: it is recreated with twice as many until two workers need long enough."""
_SETTLING = 1.0
_SHORTEST = 2.0
"""Seconds of work of all workers at once, at least: less is no measurement."""
_ROOM = 1.5
"""Times that, when the length of the topic is chosen: one run is not like the other."""


class Steady(NamedTuple):
    """While all workers worked.

    Attributes:
        rate: documents a second.
        cpu: shares of a core: of all workers together, of each of the others, by name, and of the
            whole machine.
    """

    rate: float
    cpu: Mapping[str, float]

    def __str__(self) -> str:
        """Say where the cores went, in µs for a document, and what went elsewhere."""
        ours = {name: share for name, share in self.cpu.items() if name != "machine"}
        parts = ", ".join(f"{name} {share / self.rate * 1e6:.1f}" for name, share in ours.items())
        elsewhere = self.cpu["machine"] - sum(ours.values())
        return (
            f"{self.rate:9,.0f} a second; µs of CPU a document: {parts}; cores at work for it: "
            f"{sum(ours.values()):.2f}, for anything else: {elsewhere:.2f}"
        )


class TooShortError(Exception):
    """The topic was through before anything could be measured."""


def measure(figures: Figures, bench: Bench, sink: arena.Stub) -> None:
    """Measure one worker and two.

    Args:
        figures: where they go.
        bench: against the stub.
        sink: the stub.
    """
    topic = _long_enough(bench, sink)
    for _ in rounds():
        with ExitStack() as stack:
            for pid in bench.others.values():
                stack.enter_context(arena.moved(pid, 0))
            stack.enter_context(arena.on_core(0))
            one_core = _steady(bench, sink, topic, 1)
        one, two = (_steady(bench, sink, topic, workers) for workers in (1, 2))
        print(f"    1 worker, all on 1 core   {one_core}")
        print(f"    1 worker, on 2 cores      {one}")
        print(f"    2 workers, on 2 cores     {two}", flush=True)
        figures.add(
            docs_per_s_stub_1_worker_1_core=one_core.rate,
            docs_per_s_stub_1_worker=one.rate,
            docs_per_s_stub_2_workers=two.rate,
            workers_1_to_2=two.rate / one_core.rate,
            workers_1_to_2_unpinned=two.rate / one.rate,
        )


def _long_enough(bench: Bench, sink: arena.Stub) -> str:
    """Return a topic of 2 KB records that takes two workers of this machine a while."""
    records = _FEWEST
    while True:
        topic = f"scaling-{records}"
        arena.aside(load.fill, bench.bootstrap, topic, 2000, records)
        try:
            _steady(bench, sink, topic, 2, _SHORTEST * _ROOM)
        except TooShortError:
            if records >= _MOST:
                raise
            records *= 2
        else:
            return topic


def _steady(
    bench: Bench, sink: arena.Stub, topic: str, workers: int, shortest: float = _SHORTEST
) -> Steady:
    watch = bench.consume(topic, workers).watch
    began = watch.samples[0].at
    sent: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for port, at, documents in sink.bulks():
        if at > began and port in watch.ports:
            sent[watch.ports[port]].append((at, documents))
    if len(sent) < workers:
        raise TooShortError(f"{topic}: {len(sent)} of {workers} workers have sent anything")
    assert len(sent) == workers, f"{len(sent)} workers where there should be {workers}"
    begin = max(bulks[0][0] for bulks in sent.values()) + _SETTLING
    end = min(bulks[-1][0] for bulks in sent.values())
    if end - begin <= shortest:
        raise TooShortError(f"{topic}: all workers were at work for {end - begin:.1f} s alone")
    counted = sum(number for bulks in sent.values() for at, number in bulks if begin < at <= end)
    return Steady(counted / (end - begin), watch.cpu_between(begin, end))

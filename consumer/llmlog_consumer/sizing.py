"""What a load needs, computed from figures that were measured. Pure.

`FIGURES` has what one call costs in each profile, a line over the bytes of its event;
docs/sizing.md says where each comes from and how near predictions came. `size` makes a plan of a
load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 86_400
MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Line:
    """A quantity of one call: `fixed`, and `per_byte` for each byte of its event.

    Smaller events than those of `from_bytes`, the smallest that were measured, count as these.
    """

    fixed: float
    per_byte: float
    from_bytes: float

    def at(self, event_bytes: float) -> float:
        """Return the quantity for an event of this many bytes."""
        return self.fixed + self.per_byte * max(event_bytes, self.from_bytes)


@dataclass(frozen=True)
class Figures:
    """What a call costs: bytes, and µs of CPU."""

    topic_bytes: Line
    index_bytes: Line
    elasticsearch_us: Line


FIGURES: Final[dict[str, Figures]] = {
    "prompts": Figures(
        topic_bytes=Line(35.2, 0.170073, 2_003),
        index_bytes=Line(-554.7, 0.736759, 2_003),
        elasticsearch_us=Line(99.5, 0.017316, 2_003),
    ),
    "sessions": Figures(
        topic_bytes=Line(8.7, 0.039731, 7_971),
        index_bytes=Line(-2390.7, 0.710988, 7_971),
        elasticsearch_us=Line(111.7, 0.05122, 7_971),
    ),
    "agents": Figures(
        topic_bytes=Line(-264.3, 0.147824, 8_007),
        index_bytes=Line(-1614.7, 0.635361, 8_007),
        elasticsearch_us=Line(145.2, 0.055802, 8_007),
    ),
}
"""Through two loads each: 2 and 20 KB of prompts, 8 and 60 KB of the others.

Elasticsearch's CPU of sessions and agents is that of a JVM that had just started: an upper bound.
"""
WORKER_US: Final = Line(3.57, 0.00167, 500)
"""CPU of a worker for a call: 4.4 µs at 500 bytes, 6.9 at 2,000 (docs/performance.md)."""
GATEWAY_US: Final = Line(0.0, 0.03, 4_000)
"""CPU of the callback for a call: 120 µs at 4 KB (docs/performance.md), in proportion for more."""
FIRST_WORKER_BYTES: Final = 200 * MIB
"""Memory of `pipeline consume --workers 1`: supervisor, template, worker."""
FURTHER_WORKER_BYTES: Final = 80 * MIB
"""Memory of each further worker, which shares the first one's modules."""
PEAK_FACTOR: Final = 3.0
"""The busiest minute over the mean of a day, where nothing else is said."""
MAX_CPU_SHARE: Final = 0.6
"""Share of its cores that anything may need at the peak: the rest catches up after an outage."""
MAX_SHARD_BYTES: Final = 40 * GIB
"""Elasticsearch's own advice: shards of 10 to 50 GB."""
MIN_PARTITIONS: Final = 12
FREE_DISK: Final = 1.25
"""Elasticsearch takes no more from 85% on, and merges need room for a while."""


@dataclass(frozen=True)
class Cost:
    """What one call costs: bytes, and µs of CPU."""

    topic_bytes: float
    index_bytes: float
    worker_us: float
    elasticsearch_us: float
    gateway_us: float


@dataclass(frozen=True)
class Load:
    """What comes in.

    Attributes:
        calls_per_day: all gateways together.
        event_bytes: mean of the event's value, before compression.
        profile: a key of `FIGURES`.
        peak: the busiest minute over the mean of a day.
        index_days: for which documents are kept.
        index_replicas: further copies of each document.
        topic_days: for which Kafka keeps records.
        topic_replicas: copies of each record.
    """

    calls_per_day: float
    event_bytes: float
    profile: str = "prompts"
    peak: float = PEAK_FACTOR
    index_days: float = 30.0
    index_replicas: int = 1
    topic_days: float = 7.0
    topic_replicas: int = 3


@dataclass(frozen=True)
class Plan:
    """What a load needs. Rates are of the peak; cores are of the kind that was measured.

    Attributes:
        gateway_cores: CPU of the callback, all gateways together: it is spent beside LiteLLM.
        worker_cores: CPU that the workers use at the peak.
        workers: processes, so that none uses more than `MAX_CPU_SHARE` of a core.
        consumer_memory_bytes: of all workers in one `pipeline consume`.
        partitions: of the topic: twice the workers, a multiple of `MIN_PARTITIONS`.
        elasticsearch_cores: of data nodes, replicas included, at `MAX_CPU_SHARE`.
        shards: primary shards of a daily index.
        index_bytes: disk of Elasticsearch for the whole time, with room to merge.
        topic_bytes: disk of Kafka for the whole time, all replicas.
        index_bytes_per_million: primaries, without room.
        kafka_in, kafka_out, elasticsearch_in: bytes a second on the network.
    """

    calls_per_second: float
    peak_calls_per_second: float
    peak_event_mib_per_second: float
    gateway_cores: float
    worker_cores: float
    worker_cores_per_mib: float
    workers: int
    consumer_memory_bytes: float
    partitions: int
    elasticsearch_cores: float
    shards: int
    index_bytes: float
    index_bytes_per_million: float
    topic_bytes: float
    kafka_in: float
    kafka_out: float
    elasticsearch_in: float


def cost_of(profile: str, event_bytes: float) -> Cost:
    """Return what one call of this profile and size costs.

    Raises:
        KeyError: there is no such profile.
    """
    figures = FIGURES[profile]
    return Cost(
        topic_bytes=figures.topic_bytes.at(event_bytes),
        index_bytes=figures.index_bytes.at(event_bytes),
        worker_us=WORKER_US.at(event_bytes),
        elasticsearch_us=figures.elasticsearch_us.at(event_bytes),
        gateway_us=GATEWAY_US.at(event_bytes),
    )


def size(load: Load) -> Plan:
    """Return what a load needs."""
    cost = cost_of(load.profile, load.event_bytes)
    mean = load.calls_per_day / DAY_SECONDS
    peak = mean * load.peak
    mib = peak * load.event_bytes / MIB
    worker_cores = peak * cost.worker_us / 1e6
    workers = max(1, math.ceil(worker_cores / MAX_CPU_SHARE))
    day_bytes = load.calls_per_day * cost.index_bytes
    copies = 1 + load.index_replicas
    return Plan(
        calls_per_second=mean,
        peak_calls_per_second=peak,
        peak_event_mib_per_second=mib,
        gateway_cores=peak * cost.gateway_us / 1e6,
        worker_cores=worker_cores,
        worker_cores_per_mib=worker_cores / mib if mib else 0.0,
        workers=workers,
        consumer_memory_bytes=FIRST_WORKER_BYTES + (workers - 1) * FURTHER_WORKER_BYTES,
        partitions=MIN_PARTITIONS * math.ceil(2 * workers / MIN_PARTITIONS),
        elasticsearch_cores=peak * copies * cost.elasticsearch_us / 1e6 / MAX_CPU_SHARE,
        shards=max(1, math.ceil(day_bytes / MAX_SHARD_BYTES)),
        index_bytes=day_bytes * load.index_days * copies * FREE_DISK,
        index_bytes_per_million=cost.index_bytes * 1e6,
        topic_bytes=load.calls_per_day * cost.topic_bytes * load.topic_days * load.topic_replicas,
        kafka_in=peak * cost.topic_bytes,
        kafka_out=peak * cost.topic_bytes * load.topic_replicas,
        elasticsearch_in=peak * load.event_bytes,
    )

"""Owns what a worker is told to do, and how it makes its clients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.consumer import GroupConsumer
from llmlog_consumer.kafka.gaps import AcceptedGaps
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.gaps import Gap
    from llmlog_consumer.kafka.places import Place


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker has to do beyond its settings.

    Attributes:
        dlq_partitions: partitions of the dead-letter topic.
        until: next offset after the last record to settle, by partition (None where no leader has
            told it yet); None to go on forever.
        accepted: fingerprints that the circuit breaker lets through as letters.
        drain_seconds: deadline of the drain at the end.
        last_end: why this worker's last process ended that should have run; empty for none.
    """

    dlq_partitions: int
    until: Mapping[int, int | None] | None = None
    accepted: frozenset[str] = frozenset()
    drain_seconds: float = 20.0
    last_end: str = ""


def _accepted_gaps(settings: Settings) -> Mapping[int, Sequence[Gap]]:
    return AcceptedGaps(KafkaAdmin(settings)).of_topic(settings.topic)


def _places(settings: Settings) -> Callable[[Iterable[int]], Mapping[int, Place]]:
    return partial(KafkaOffsets(KafkaAdmin(settings)).places, settings.topic)


@dataclass(frozen=True, slots=True)
class Clients:
    """The functions that create a worker's clients; a test passes its own."""

    elastic: Callable[[Settings], Elastic] = Elastic
    delivery: Callable[..., Delivery] = Delivery.from_settings
    consumer: Callable[..., GroupConsumer] = GroupConsumer
    accepted_gaps: Callable[[Settings], Mapping[int, Sequence[Gap]]] = _accepted_gaps
    places: Callable[[Settings], Callable[[Iterable[int]], Mapping[int, Place]]] = _places

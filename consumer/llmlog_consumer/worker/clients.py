"""Owns how a worker makes its clients."""

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

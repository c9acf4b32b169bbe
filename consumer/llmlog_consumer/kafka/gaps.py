"""Owns the accepted gaps: offsets that an operator gave up, mostly because the log lost them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from confluent_kafka import TopicPartition

from llmlog_consumer.kafka.committed import parse_note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.kafka.admin import KafkaAdmin

MAX_GAPS_PER_PARTITION: Final = 50
"""Older gaps are forgotten: the note has to fit the broker's offset.metadata.max.bytes."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of offsets that an operator gave up: they are never read.

    Attributes:
        first: the offset that was to be read next.
        next: the offset at which reading goes on.
        at: epoch milliseconds of the acceptance.
    """

    first: int
    next: int
    at: int


class AcceptedGaps:
    """The accepted gaps of the consumer group, stored in Kafka.

    They are the metadata of committed offsets of a second group, `<group>.gaps`, that has no
    members. So an operator can write them while the workers run, without a store beside Kafka.

    Args:
        admin: the connection; its settings name the group.
    """

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin
        self._group = f"{admin.settings.group}.gaps"

    def of_topic(self, topic: str) -> dict[int, list[Gap]]:
        """Return the accepted gaps of a topic by partition, oldest first.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        return {
            place.partition: _read_gaps(parse_note(place.metadata).get("gaps"))
            for place in self._admin.list_group_offsets(self._group, topic)
        }

    def accept(self, topic: str, partition: int, gap: Gap) -> None:
        """Record a gap; the partition's worker reads it and goes on behind the gap.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        known = self.of_topic(topic).get(partition, [])
        self.replace(topic, {partition: [*known, gap]})

    def replace(self, topic: str, gaps: Mapping[int, Sequence[Gap]]) -> None:
        """Record these gaps in the place of all that partitions had.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        places = []
        for partition, every in gaps.items():
            newest = every[-MAX_GAPS_PER_PARTITION:]
            note = orjson.dumps({"gaps": [[g.first, g.next, g.at] for g in newest]}).decode()
            offset = newest[-1].next if newest else 0
            places.append(TopicPartition(topic, partition, offset, metadata=note))
        if places:
            self._admin.call(
                lambda: self._admin.commit_group_offsets(self._group, places), self._group
            )


def _read_gaps(entries: object) -> list[Gap]:
    """Return the gaps of a note; what another tool wrote is none."""
    if not isinstance(entries, list):
        return []
    return [
        Gap(*entry)
        for entry in entries
        if isinstance(entry, list)
        and len(entry) == _GAP_NUMBERS
        and all(type(number) is int for number in entry)
    ]


_GAP_NUMBERS: Final = 3

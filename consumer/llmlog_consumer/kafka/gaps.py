"""Owns the accepted gaps: offsets that the log has no more, and that an operator gave up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from confluent_kafka import TopicPartition

from llmlog_consumer.kafka.committed import parse_note

if TYPE_CHECKING:
    from llmlog_consumer.kafka.admin import KafkaAdmin

MAX_GAPS_PER_PARTITION: Final = 50
"""Older gaps are forgotten: the note has to fit the broker's offset.metadata.max.bytes."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of offsets that an operator accepted as lost.

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
            place.partition: [Gap(*entry) for entry in parse_note(place.metadata).get("gaps", ())]
            for place in self._admin.list_group_offsets(self._group, topic)
        }

    def accept(self, topic: str, partition: int, gap: Gap) -> None:
        """Record a gap; the partition's worker reads it and goes on behind the gap.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        known = self.of_topic(topic).get(partition, [])
        entries = [[g.first, g.next, g.at] for g in [*known, gap]][-MAX_GAPS_PER_PARTITION:]
        note = orjson.dumps({"gaps": entries}).decode()
        place = TopicPartition(topic, partition, gap.next, metadata=note)
        self._admin.call(
            lambda: self._admin.commit_group_offsets(self._group, [place]), self._group
        )

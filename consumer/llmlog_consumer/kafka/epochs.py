"""Owns the leader epochs beside the offsets of a group member: by them a truncation is seen.

A log that lost its end and has grown since does have the committed offset, with another record. The
broker tells the difference where it knows the leader epoch of the record before that offset. The
client asks it within `seek`; of the epoch that is assigned it takes no notice where it knows the
partition's leader already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmlog_consumer.kafka.committed import CommittedOffset
    from llmlog_consumer.offset_tracker import Commit


class LeaderEpochs:
    """The committed places of one topic's partitions, to begin at and to keep in later commits.

    Args:
        topic: of the partitions.

    Attributes:
        unchecked: the starts that the broker has not been asked about. What the client has fetched
            of these partitions is not to be taken.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._committed: dict[int, CommittedOffset] = {}
        self.unchecked: dict[int, TopicPartition] = {}

    def starts(self, committed: Mapping[int, CommittedOffset]) -> list[TopicPartition]:
        """Return where each partition is read first; remember it."""
        self._committed |= committed
        places = [self._place(p, start.offset, start.epoch) for p, start in committed.items()]
        self.unchecked |= {p.partition: p for p in places if p.leader_epoch is not None}
        return places

    def check(self, seek: Callable[[TopicPartition], object]) -> None:
        """Let the client ask about the unchecked starts; those that it cannot ask for yet stay."""
        for partition, place in list(self.unchecked.items()):
            try:
                seek(place)
            except KafkaException:  # not fetched yet
                continue
            del self.unchecked[partition]

    def forget(self, partition: int) -> None:
        """Remove a partition: it is given away, or read from another offset."""
        self._committed.pop(partition, None)
        self.unchecked.pop(partition, None)

    def commits(
        self, commits: Sequence[Commit], notes: Mapping[int, str] | None = None
    ) -> list[TopicPartition]:
        """Return what to commit, with the notes beside it.

        Where nothing was read since the start, the epoch that was committed before is kept.
        """
        places = []
        for commit in commits:
            epoch, before = commit.epoch, self._committed.get(commit.partition)
            if epoch < 0 and before is not None and before.offset == commit.offset:
                epoch = before.epoch
            note = (notes or {}).get(commit.partition)
            more = {"metadata": note} if note else {}
            places.append(self._place(commit.partition, commit.offset, epoch, **more))
        return places

    def _place(self, partition: int, offset: int, epoch: int, **more: Any) -> TopicPartition:
        if epoch >= 0:
            more["leader_epoch"] = epoch
        return TopicPartition(self._topic, partition, offset, **more)

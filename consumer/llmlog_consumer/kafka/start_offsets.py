"""Owns where a group member starts to read its partitions, and what their last owner noted."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from llmlog_consumer.kafka.committed import CommittedOffset, parse_note
from llmlog_consumer.kafka.errors import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmlog_consumer.offset_tracker import Commit

_RETRIABLE: Final = NO_ANSWER | {KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001 - a public code

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an assignment may take, in seconds.

    Attributes:
        request: for one answer of a broker.
        give_up: after which the assignment fails; the group has taken the partitions back by then.
        retry: between two attempts.
    """

    request: float = 10.0
    give_up: float = 120.0
    retry: float = 0.5


def find_start_offsets(
    consumer: Any, topic: str, partitions: Sequence[int], timing: Timing
) -> dict[int, CommittedOffset]:
    """Return the offset at which each assigned partition is read first, and the note beside it.

    It is the group's committed offset. A partition without one is new, and is read from the start
    of its log: from its end, records would be lost.

    Args:
        consumer: the group's member, within its assignment callback.
        topic: of the partitions.
        partitions: that were assigned.
        timing: of the requests.

    Raises:
        KafkaException: the broker refuses, or does not answer in time.
    """
    places = [TopicPartition(topic, p) for p in partitions]

    def committed() -> dict[int, CommittedOffset]:
        answers = consumer.committed(places, timing.request)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {
            a.partition: CommittedOffset(a.offset, parse_note(a.metadata), _epoch(a))
            for a in answers
        }

    def refresh_metadata() -> None:
        with suppress(KafkaException):
            consumer.list_topics(topic, timing.request)

    def log_start(place: TopicPartition) -> int:
        try:
            return int(consumer.get_watermark_offsets(place, timing.request)[0])
        except KafkaException as error:
            if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:  # noqa: SLF001
                # The topic has grown, and the group knows before this client does. In a thread:
                # within a callback this call would abort the process.
                run_within(timing.request, refresh_metadata)
            raise

    starts = _retry(committed, timing)
    for place in places:
        if starts[place.partition].offset < 0:
            starts[place.partition] = CommittedOffset(_retry(partial(log_start, place), timing))
    return starts


def _epoch(place: TopicPartition) -> int:
    epoch = place.leader_epoch
    return -1 if epoch is None else int(epoch)


def run_within(seconds: float, call: Callable[[], object]) -> bool:
    """Run a call in a thread of its own; return False where it has not ended in time."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    return not thread.is_alive()


def _retry(request: Callable[[], T], timing: Timing) -> T:
    """Repeat a request while no broker answers."""
    deadline = time.monotonic() + timing.give_up
    while True:
        try:
            return request()
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in _RETRIABLE:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(timing.retry)


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

"""Owns the questions about offsets: the bounds of a log, and the places of the consumer group."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from llmlog_common.errors import KafkaUnreachable
from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_consumer.kafka.admin import Topic, raise_refusal
from llmlog_consumer.kafka.committed import CommittedOffset, parse_note
from llmlog_consumer.kafka.connection import REQUEST_SECONDS
from llmlog_consumer.kafka.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.places import Log

_NO_TOPIC: Final = Topic(0, 0)


class KafkaOffsets:
    """Offsets of topics and of the consumer group, read without joining it.

    Args:
        admin: the connection; its settings name the group.
        consumer: makes the consumer that asks for watermarks and times; it never joins the group.
    """

    def __init__(self, admin: KafkaAdmin, consumer: Callable[..., Any] = Consumer) -> None:
        self._admin = admin
        self._new_consumer = consumer

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return log start and log end (the next offset) of each partition.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        with self._open_consumer() as consumer:

            def watermarks_of(partition: int) -> tuple[int, int]:
                place = TopicPartition(topic, partition)
                low, high = consumer.get_watermark_offsets(place, REQUEST_SECONDS)
                return low, high

            return {p: self._admin.ask(partial(watermarks_of, p)) for p in partitions}

    def places(self, topic: str, partitions: Iterable[int] | None = None) -> dict[int, Place]:
        """Return the group's place in each partition of a topic, or in some of them.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        return self.places_with_notes(topic, partitions)[0]

    def places_with_notes(
        self, topic: str, partitions: Iterable[int] | None = None
    ) -> tuple[dict[int, Place], dict[int, CommittedOffset]]:
        """Return the same, and the committed offsets with the notes of workers."""
        if partitions is None:
            found = self._admin.require(topic)
            partitions = range(found.partitions)
        else:
            found = self._admin.topics()[0].get(topic, _NO_TOPIC)
        # The logs are read last: otherwise records that are written and committed meanwhile would
        # look as if the log ended before the committed offset.
        committed = self.committed_with_notes(topic)
        logs = self.bounds(topic, partitions, found.leaderless)
        offsets = {p: committed[p].offset if p in committed else None for p in logs}
        return {p: Place(topic, p, offsets[p], log) for p, log in logs.items()}, committed

    def bounds(
        self, topic: str, partitions: Iterable[int], leaderless: Container[int] = ()
    ) -> dict[int, Log | None]:
        """Return the bounds of each partition's log; None where no leader tells.

        Raises:
            KafkaError: the broker refuses.
        """
        numbers = list(partitions)
        found = self._admin.log_bounds(topic, (p for p in numbers if p not in leaderless))
        return {p: found.get(p) for p in numbers}

    def offsets_at(self, topic: str, partitions: Iterable[int], ms: int) -> dict[int, int]:
        """Return the first offset of each partition that was written at or after a moment.

        A partition without such a record is left out.

        Raises:
            KafkaError: the broker refuses, if only for one partition.
            KafkaUnreachable: no broker answers, or a partition has no leader.
        """
        # Kafka has other meanings for times below zero.
        places = [TopicPartition(topic, p, max(0, ms)) for p in partitions]

        def ask() -> list[TopicPartition]:
            answers: list[TopicPartition] = consumer.offsets_for_times(places, REQUEST_SECONDS)
            raise_refusal(answers)
            return answers

        with self._open_consumer() as consumer:
            answers = self._admin.ask(ask)
        return {a.partition: a.offset for a in answers if a.offset >= 0}

    def ranges_since(self, topic: str, since_ms: int | None) -> dict[int, tuple[int, int]]:
        """Return first and next-after-last offset of each partition, from a moment on.

        Args:
            topic: has to exist.
            since_ms: epoch milliseconds; None for the whole log.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        marks = self.watermarks(topic, range(self._admin.require(topic).partitions))
        return marks if since_ms is None else self.narrow(topic, marks, since_ms)

    def narrow(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], since_ms: int
    ) -> dict[int, tuple[int, int]]:
        """Return these ranges without the records that were written before a moment."""
        first = self.offsets_at(topic, ranges, since_ms)
        return {p: (max(start, first.get(p, end)), end) for p, (start, end) in ranges.items()}

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the group's committed offsets; partitions without one are left out.

        Raises:
            KafkaError: the broker refuses, if only for one partition.
            KafkaUnreachable: no broker answers.
        """
        places = [TopicPartition(topic, p) for p in partitions]

        def ask() -> list[TopicPartition]:
            answers: list[TopicPartition] = consumer.committed(places, REQUEST_SECONDS)
            raise_refusal(answers)
            return answers

        with self._open_consumer() as consumer:
            answers = self._admin.ask(ask, self._admin.settings.group)
        return {a.partition: a.offset for a in answers if a.offset >= 0}

    def committed_with_notes(self, topic: str) -> dict[int, CommittedOffset]:
        """Return the group's committed offsets with the notes of its workers."""
        places = self._admin.list_group_offsets(self._admin.settings.group, topic)
        return {p.partition: CommittedOffset(p.offset, parse_note(p.metadata)) for p in places}

    def commit_start(
        self,
        topic: str,
        partitions: Iterable[int],
        *,
        latest: bool,
        leaderless: Container[int] = (),
    ) -> str:
        """Commit a first offset for each partition, for a group that has no offset at all.

        Otherwise an idle partition would have no offset, and a restart would skip the records that
        arrived in between. A group that has members has started already: nothing is changed.

        Args:
            topic: has to exist.
            partitions: all of the topic.
            latest: start at the log's end instead of its start.
            leaderless: partitions without a leader; they are read from their start later.

        Returns:
            What such a group never reads: Kafka may have forgotten the offsets of a group that was
            further. Empty where it reads everything, or has started before.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers, or with `latest` a partition has no leader.
        """
        partitions = list(partitions)
        if self.committed(topic, partitions):
            return ""
        group = self._admin.settings.group
        logs = self.bounds(topic, partitions, leaderless)
        unknown = [p for p, log in logs.items() if log is None]
        if latest and unknown:
            numbers = ", ".join(map(str, unknown))
            raise KafkaUnreachable(
                f"{topic}: partition {numbers} has no leader that answers: its end is unknown"
            )
        marks = {p: (log.start, log.stable_end) for p, log in logs.items() if log is not None}
        places = [
            TopicPartition(topic, p, end if latest else start) for p, (start, end) in marks.items()
        ]

        def commit() -> bool:
            try:
                self._admin.commit_group_offsets(group, places)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                    raise
                return False
            return True

        has_started = self._admin.call(commit, group)
        return _describe_unread(marks, latest=latest) if has_started else ""

    def _open_consumer(self) -> closing[Any]:
        """Return a consumer that has the group's name and never joins the group."""
        config = consumer_config(self._admin.settings)
        config.pop("group.instance.id", None)
        return closing(new_client(self._new_consumer, config))


def _describe_unread(marks: Mapping[int, tuple[int, int]], *, latest: bool) -> str:
    """Say what a group does not read that starts at one side of the log; empty for nothing."""
    skipped = sum(end - start for start, end in marks.values()) if latest else 0
    deleted = sum(start for start, _ in marks.values())
    if skipped:
        return f"it starts at the end of the topic: {skipped} records before it are not read"
    if deleted and not latest:
        return f"it starts at the beginning of the log: the {deleted} offsets before it are deleted"
    return ""

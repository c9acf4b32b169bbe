"""Asks and changes the Kafka cluster outside of consuming: topics, their settings, offsets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports without __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from llmlog_common.errors import KafkaError, KafkaUnreachable
from llmlog_common.kafka_clients import admin_config, consumer_config, new_client, producer_config
from llmlog_consumer.kafka.errors import AWAY, CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmlog_common.settings import Settings

MOST_GAPS: Final = 50
"""Remembered for one partition; a note has to fit the broker's offset.metadata.max.bytes."""

TIMEOUT: Final = 10.0
"""Seconds to wait for an answer of the cluster."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is.

    Attributes:
        partitions: their number.
        replication: replicas of the first partition.
    """

    partitions: int
    replication: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that the log has no more, and that somebody accepted as gone.

    Attributes:
        first: the offset that was to be read.
        next: where reading goes on.
        at: epoch milliseconds of the acceptance.
    """

    first: int
    next: int
    at: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A partition's place in the group.

    Attributes:
        offset: the next offset; everything before it is settled.
        note: what its worker said of itself beside it; empty where it said nothing.
    """

    offset: int
    note: Mapping[str, Any]


class KafkaAdmin:
    """One admin connection.

    Raises:
        ConfigurationError: a property that librdkafka does not know.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._refusal = ""
        self._admin = new_client(AdminClient, admin_config(settings) | {"error_cb": self._on_error})

    @property
    def where(self) -> str:
        """Return the brokers asked."""
        return self._settings.kafka_bootstrap_servers

    def require_properties(self) -> None:
        """See that librdkafka takes what a worker's clients will be made with.

        Raises:
            ConfigurationError: a property or a value that it does not take.
        """
        new_client(Consumer, consumer_config(self._settings)).close()
        new_client(Producer, producer_config(self._settings))

    def topics(self) -> tuple[dict[str, Topic], int]:
        """Return the topics that we may see, by name, and the number of brokers.

        All are listed, for asking by name may create a topic.

        Raises:
            KafkaUnreachable: no broker answers.
            KafkaError: the broker refuses us.
        """
        metadata = self._call(lambda: self._admin.list_topics(timeout=TIMEOUT))
        found = {
            name: Topic(len(topic.partitions), len(topic.partitions[0].replicas))
            for name, topic in metadata.topics.items()
            if topic.partitions
        }
        return found, len(metadata.brokers)

    def require(self, name: str) -> Topic:
        """Return a topic that has to exist and not to be compacted.

        Raises:
            KafkaError: it does not, or is; the text says what to do.
        """
        topics, _ = self.topics()
        if name not in topics:
            raise KafkaError(
                f"topic {name} does not exist on {self.where}, or this user may not see it: "
                "run `pipeline setup`, or grant DESCRIBE and READ on it"
            )
        policy = self.config(name).get("cleanup.policy", "delete")
        if "compact" in policy:
            raise KafkaError(
                f"topic {name} has cleanup.policy={policy}, which deletes events: set it to delete"
            )
        return topics[name]

    def config(self, name: str) -> dict[str, str]:
        """Return a topic's configuration; empty where we may not see it."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        future = self._admin.describe_configs([resource], request_timeout=TIMEOUT)[resource]
        try:
            return {key: entry.value or "" for key, entry in self._call(future.result).items()}
        except KafkaError:
            return {}

    def create(
        self, name: str, partitions: int, replication: int, config: Mapping[str, str]
    ) -> None:
        """Create a topic.

        Raises:
            KafkaError: the broker refuses.
        """
        topic = NewTopic(
            name, num_partitions=partitions, replication_factor=replication, config=dict(config)
        )
        futures = self._admin.create_topics([topic], operation_timeout=TIMEOUT)
        self._call(futures[name].result)
        deadline = time.monotonic() + TIMEOUT
        while name not in self.topics()[0] and time.monotonic() < deadline:
            pass  # each look asks the broker

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return log start and end (next offset) of each partition."""
        with _Reader(self._settings) as reader:
            return {
                p: self._call(
                    lambda p=p: reader.get_watermark_offsets(TopicPartition(topic, p), TIMEOUT)
                )
                for p in partitions
            }

    def offsets_at(self, topic: str, partitions: Iterable[int], ms: int) -> dict[int, int]:
        """Return the first offset written at or after a moment; none where nothing was since."""
        # Kafka takes what is below zero for something else than a time.
        asked = [TopicPartition(topic, p, max(0, ms)) for p in partitions]
        with _Reader(self._settings) as reader:
            answers = self._call(lambda: reader.offsets_for_times(asked, TIMEOUT))
        return {a.partition: a.offset for a in answers if a.error is None and a.offset >= 0}

    def written_since(self, topic: str, since_ms: int | None) -> dict[int, tuple[int, int]]:
        """Return log start and end of each partition, from a moment on.

        Args:
            topic: which has to exist.
            since_ms: epoch milliseconds; None for all that the log has.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        marks = self.watermarks(topic, range(self.require(topic).partitions))
        return marks if since_ms is None else self.narrowed(topic, marks, since_ms)

    def narrowed(
        self, topic: str, marks: Mapping[int, tuple[int, int]], since_ms: int
    ) -> dict[int, tuple[int, int]]:
        """Return start and end of each partition, without what was written before a moment."""
        after = self.offsets_at(topic, marks, since_ms)
        return {p: (max(start, after.get(p, end)), end) for p, (start, end) in marks.items()}

    def noted(self, topic: str) -> dict[int, Committed]:
        """Return the group's committed offsets with the notes beside them."""
        return {
            p.partition: Committed(p.offset, _note(p.metadata))
            for p in self._group_offsets(self._settings.group, topic)
        }

    def members(self) -> tuple[str, int]:
        """Return the group's state and the number of its members."""
        group = self._settings.group
        future = self._admin.describe_consumer_groups([group], request_timeout=TIMEOUT)[group]
        found = self._call(future.result)
        return found.state.name.lower(), len(found.members)

    def gaps(self, topic: str) -> dict[int, list[Gap]]:
        """Return the accepted gaps by partition.

        They are kept as the offsets of a group of their own, which nobody joins: so they can be
        written while the workers run, and need no store beside Kafka.
        """
        return {
            p.partition: [Gap(*entry) for entry in _note(p.metadata).get("gaps", ())]
            for p in self._group_offsets(self._gap_group, topic)
        }

    def accept_gap(self, topic: str, partition: int, gap: Gap) -> None:
        """Record a gap; the partition's worker moves on when it sees it.

        Raises:
            KafkaError: the broker refuses.
        """
        known = self.gaps(topic).get(partition, [])
        entries = [[g.first, g.next, g.at] for g in [*known, gap]][-MOST_GAPS:]
        note = orjson.dumps({"gaps": entries}).decode()
        place = TopicPartition(topic, partition, gap.next, metadata=note)
        self._call(lambda: self._commit(self._gap_group, [place]), self._gap_group)

    @property
    def _gap_group(self) -> str:
        return f"{self._settings.group}.gaps"

    def _group_offsets(self, group: str, topic: str) -> list[TopicPartition]:
        request = ConsumerGroupTopicPartitions(group)
        future = self._admin.list_consumer_group_offsets([request], request_timeout=TIMEOUT)
        answer = self._call(future[group].result)
        return [
            p for p in answer.topic_partitions
            if p.topic == topic and p.offset >= 0 and p.error is None
        ]  # fmt: skip

    def _commit(self, group: str, places: list[TopicPartition]) -> None:
        """Commit offsets of a group without members; with a time-out, which a consumer has not."""
        request = ConsumerGroupTopicPartitions(group, places)
        future = self._admin.alter_consumer_group_offsets([request], request_timeout=TIMEOUT)
        _refuse_errors(future[group].result().topic_partitions)

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the group's committed offsets; partitions without one are left out.

        Raises:
            KafkaError: the broker refuses, be it for one partition.
            KafkaUnreachable: no broker answers.
        """
        asked = [TopicPartition(topic, p) for p in partitions]
        with _Reader(self._settings) as reader:
            answers = self._call(
                lambda: _refuse_errors(reader.committed(asked, TIMEOUT)), self._settings.group
            )
        return {a.partition: a.offset for a in answers if a.offset >= 0}

    def begin(self, topic: str, partitions: Iterable[int], *, latest: bool) -> str:
        """Commit where a group that has no offsets at all begins.

        An idle partition would have no offset otherwise, and a restart would skip what came in
        between. A group with members already has begun: nothing is changed.

        Returns:
            What such a group never reads: Kafka may have forgotten that it was further. Empty where
            it reads everything, or has begun before.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        partitions = list(partitions)
        if self.committed(topic, partitions):
            return ""
        marks = self.watermarks(topic, partitions)
        places = [
            TopicPartition(topic, p, end if latest else start) for p, (start, end) in marks.items()
        ]

        def commit() -> bool:
            try:
                self._commit(self._settings.group, places)
            except KafkaException as error:
                if error.args[0].code() != Code.UNKNOWN_MEMBER_ID:
                    raise
                return False
            return True

        begun = self._call(commit, self._settings.group)
        return _passed_over(marks, latest=latest) if begun else ""

    def _call(self, ask: Any, group: str = "") -> Any:
        try:
            return ask()
        except KafkaException as error:
            self._admin.poll(0)
            code = error.args[0].code()
            if self._refusal:
                raise KafkaError(f"Kafka at {self.where} refuses us: {self._refusal}") from None
            if code in AWAY:
                raise KafkaUnreachable(
                    f"Kafka at {self.where} does not answer: {error.args[0].str()}"
                ) from None
            of = f"group {group}: " if group else ""
            raise KafkaError(f"Kafka at {self.where}: {of}{error.args[0].str()}") from None

    def _on_error(self, error: Code) -> None:
        if error.code() in CREDENTIALS:
            self._refusal = error.str()


def _refuse_errors(answers: list[TopicPartition]) -> list[TopicPartition]:
    """Return answers of which none is a refusal.

    Raises:
        KafkaException: one is.
    """
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return answers


def _passed_over(marks: Mapping[int, tuple[int, int]], *, latest: bool) -> str:
    """Say what a group does not read that begins at one side of the log; empty for nothing."""
    skipped = sum(end - start for start, end in marks.values()) if latest else 0
    gone = sum(start for start, _ in marks.values())
    if skipped:
        return f"begins at the end of the topic: {skipped} records before it are not read"
    if gone and not latest:
        return f"begins at the start of the log: the {gone} offsets before it are gone"
    return ""


def _note(metadata: str | None) -> dict[str, Any]:
    """Read a note; what is none of ours says nothing."""
    try:
        found = orjson.loads(metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


class _Reader:
    """A consumer of the group's name that never joins it."""

    def __init__(self, settings: Settings) -> None:
        config = consumer_config(settings)
        config.pop("group.instance.id", None)
        self._consumer = new_client(Consumer, config)

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

"""Owns the questions to the Kafka cluster: topics, their settings, rights, offsets of groups."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports without __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from llmlog_common.errors import KafkaError, KafkaUnreachable
from llmlog_common.kafka_clients import consumer_config, new_client, producer_config
from llmlog_consumer.kafka.connection import REQUEST_SECONDS, KafkaConnection
from llmlog_consumer.kafka.places import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmlog_common.settings import Settings

LOG_SECONDS: Final = 2.5
"""Time that it has for the bounds of logs: a leader that hangs holds up nothing said of others."""

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST: Final = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster has it.

    Attributes:
        partitions: their number.
        replication: replicas of the first partition.
        leaderless: partitions that no broker leads: nothing can be read or written there.
    """

    partitions: int
    replication: int
    leaderless: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the consumer group, as its coordinator knows it.

    Attributes:
        name: its static instance id, else its member id.
        host: address that it connects from.
        partitions: of the source topic that it has.
    """

    name: str
    host: str
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group, as its coordinator knows it.

    Attributes:
        state: as Kafka names it.
        members: in the order of their names.
    """

    state: str
    members: tuple[Member, ...] = ()


class KafkaAdmin(KafkaConnection):
    """Topics, rights, and the requests for offsets of a group that it does not join.

    `KafkaOffsets` and `AcceptedGaps` give meaning to these offsets, over the same connection.

    Args:
        settings: how to reach Kafka.
        client: makes the connection.
        patience_seconds: time for a first answer of any broker.
        reader: makes the client that reads committed offsets.

    Raises:
        ConfigurationError: librdkafka does not know a property.
    """

    def __init__(
        self,
        settings: Settings,
        client: Callable[..., Any] = AdminClient,
        patience_seconds: float = REQUEST_SECONDS,
        reader: Callable[..., Any] = Consumer,
    ) -> None:
        super().__init__(settings, client, patience_seconds)
        self._reader = reader

    def require_properties(self) -> None:
        """Check that librdkafka accepts the properties of a worker's clients.

        Raises:
            ConfigurationError: librdkafka does not know a property or its value.
        """
        new_client(Consumer, consumer_config(self.settings)).close()
        new_client(Producer, producer_config(self.settings))

    def topics(self) -> tuple[dict[str, Topic], int]:
        """Return the topics that this user may see, by name, and the number of brokers.

        The request names no topic: naming one may create it.

        Raises:
            KafkaUnreachable: no broker answers.
            KafkaError: the broker refuses.
        """
        metadata = self.call(self.list_topics)
        topics = {
            name: Topic(
                len(topic.partitions),
                len(topic.partitions[0].replicas),
                frozenset(n for n, p in topic.partitions.items() if p.leader < 0),
            )
            for name, topic in metadata.topics.items()
            if topic.partitions
        }
        return topics, len(metadata.brokers)

    def require(self, name: str) -> Topic:
        """Return a topic that has to exist and must not be compacted.

        Raises:
            KafkaError: the topic is missing or compacted; the text says what to do.
            KafkaUnreachable: no broker answers.
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
        """Return a topic's configuration; empty where this user may not see it."""
        return self._config_of(ConfigResource(ResourceType.TOPIC, name))

    def _config_of(self, resource: ConfigResource) -> dict[str, str]:
        request = self.client.describe_configs([resource], request_timeout=REQUEST_SECONDS)
        try:
            entries = self.call(request[resource].result)
        except KafkaError:
            return {}
        return {key: entry.value or "" for key, entry in entries.items()}

    def missing_rights(self, name: str, *needed: str) -> set[str]:
        """Return which of these operations this user may not do on a topic.

        Args:
            name: of the topic.
            needed: as Kafka names them: READ, WRITE.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        request = self.client.describe_topics(
            TopicCollection([name]),
            include_authorized_operations=True,
            request_timeout=REQUEST_SECONDS,
        )
        return _lacking(needed, self.call(request[name].result).authorized_operations)

    def missing_group_rights(self, name: str, *needed: str) -> set[str]:
        """Return which of these operations this user may not do on a group.

        Args:
            name: of the group, which need not exist.
            needed: as Kafka names them: READ, DESCRIBE.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """

        def ask() -> Any:
            request = self.client.describe_consumer_groups(
                [name], include_authorized_operations=True, request_timeout=REQUEST_SECONDS
            )
            return request[name].result()

        try:
            return _lacking(needed, self.ask(ask, name).authorized_operations)
        except KafkaError:  # without DESCRIBE it tells nothing
            return set(needed)

    def broker_config(self) -> dict[str, str]:
        """Return the configuration of one broker; empty where this user may not see it.

        Raises:
            KafkaUnreachable: no broker answers.
        """
        brokers = self.call(self.list_topics).brokers
        return self._config_of(ConfigResource(ResourceType.BROKER, str(min(brokers))))

    def newest_timestamp(self, topic: str) -> int | None:
        """Return the greatest timestamp of a topic, in epoch milliseconds; None for no record.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        found = self.require(topic)
        numbers = [p for p in range(found.partitions) if p not in found.leaderless]
        places = {TopicPartition(topic, p): _NEWEST for p in numbers}
        answers = self.client.list_offsets(places, request_timeout=LOG_SECONDS)
        times = [int(self.call(answer.result).timestamp) for answer in answers.values()]
        return max((moment for moment in times if moment >= 0), default=None)

    def create(
        self, name: str, partitions: int, replication: int, config: Mapping[str, str]
    ) -> bool:
        """Create a topic, and wait until the cluster lists it; tell whether this call created it.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        topic = NewTopic(
            name, num_partitions=partitions, replication_factor=replication, config=dict(config)
        )
        futures = self.client.create_topics([topic], operation_timeout=REQUEST_SECONDS)

        def created() -> bool:
            try:
                futures[name].result()
            except KafkaException as error:
                if error.args[0].code() != ClientError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
            return True

        is_ours = self.call(created)
        deadline = time.monotonic() + REQUEST_SECONDS
        while name not in self.topics()[0] and time.monotonic() < deadline:
            pass  # each turn asks the broker
        return is_ours

    def group(self) -> Group:
        """Return the group's state and its members.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        group, topic = self.settings.group, self.settings.topic
        request = self.client.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)
        description = self.call(request[group].result, group)
        members = (
            Member(
                member.group_instance_id or member.member_id,
                member.host.removeprefix("/"),
                frozenset(
                    p.partition for p in member.assignment.topic_partitions if p.topic == topic
                ),
            )
            for member in description.members
        )
        state = description.state.name.lower()
        return Group(state, tuple(sorted(members, key=lambda member: member.name)))

    def log_bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, Log]:
        """Return the bounds of partitions' logs; a partition whose leader is away is left out.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers at all.
        """
        numbers = list(partitions)
        # All three are asked before the first answer is waited for.
        questions = [
            self._ask_offsets(topic, numbers, spec, isolation)
            for spec, isolation in (
                (_EARLIEST, IsolationLevel.READ_UNCOMMITTED),
                (_LATEST, IsolationLevel.READ_COMMITTED),
                (_LATEST, IsolationLevel.READ_UNCOMMITTED),
            )
        ]
        starts, stable_ends, ends = map(self._read_answers, questions)
        return {
            p: Log(starts[p], min(stable_ends[p], ends[p]), ends[p])
            for p in numbers
            if p in starts and p in stable_ends and p in ends
        }

    def _ask_offsets(
        self, topic: str, partitions: list[int], spec: Any, isolation: Any
    ) -> Mapping[TopicPartition, Any]:
        if not partitions:
            return {}
        places = {TopicPartition(topic, p): spec for p in partitions}
        answers: Mapping[TopicPartition, Any] = self.client.list_offsets(
            places, isolation_level=isolation, request_timeout=LOG_SECONDS
        )
        return answers

    def _read_answers(self, answers: Mapping[TopicPartition, Any]) -> dict[int, int]:
        offsets = {}
        for place, answer in answers.items():
            try:
                offsets[place.partition] = int(self.call(answer.result).offset)
            except KafkaUnreachable:
                continue
        return offsets

    def list_group_offsets(self, group: str, topic: str) -> list[TopicPartition]:
        """Return the offsets that a group has committed of a topic, with their metadata.

        A consumer asks, which does not join. Where the coordinator moves meanwhile, an admin
        client's own request for them crashes the process (librdkafka 2.16).
        """
        known = self.topics()[0].get(topic)
        if known is None:
            return []
        places = [TopicPartition(topic, p) for p in range(known.partitions)]
        config = consumer_config(self.settings) | {"group.id": group, "error_cb": self.on_error}
        config.pop("group.instance.id", None)  # a worker is that member
        reader = new_client(self._reader, config)
        try:
            answers = self.ask(lambda: reader.committed(places, REQUEST_SECONDS), group)
        finally:
            reader.close()
        return [place for place in answers if place.offset >= 0 and place.error is None]

    def commit_group_offsets(self, group: str, places: list[TopicPartition]) -> None:
        """Commit offsets of a group without members.

        Raises:
            KafkaException: the broker refuses; make this call through `call`.
        """
        # A consumer could commit them as well, but has no time-out for it.
        request = ConsumerGroupTopicPartitions(group, places)
        futures = self.client.alter_consumer_group_offsets(
            [request], request_timeout=REQUEST_SECONDS
        )
        raise_refusal(futures[group].result().topic_partitions)


def _lacking(needed: Iterable[str], allowed: Iterable[Any] | None) -> set[str]:
    """Return the operations that are not allowed; nothing where the cluster does not tell."""
    return set(needed) - {operation.name for operation in allowed} if allowed else set()


def raise_refusal(answers: Iterable[TopicPartition]) -> None:
    """Raise the first error among a broker's answers for partitions.

    Raises:
        KafkaException: the broker refuses one of them.
    """
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)

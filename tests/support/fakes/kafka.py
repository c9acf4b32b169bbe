"""Kafka clients without a Kafka: each is given in the place of a client's class, and is its object.

client = FakeConsumer(committed={0: 7})
GroupConsumer(settings, listener, client=client)
assert client.config["group.id"] == "g"
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec


class FakeClient:
    """What all clients have in common: calling it "creates" it, and shows the configuration."""

    config: dict[str, Any]

    def __call__(self, config: dict[str, Any], **_: object):
        self.config = config
        return self


class FakeConsumer(FakeClient):
    """A consumer with the offsets, watermarks and messages that a test puts there.

    Attributes:
        committed_offsets: by partition; an error in an offset's place is the broker's refusal.
        metadata, epochs: beside a committed offset, by partition.
        sought: partition, offset and leader epoch of each `seek`.
        positions, log_ends: as the client knows them, by partition.
        topic_metadata: of any topic.
        marks: log start and log end by partition; an error in their place is raised, once.
        messages: returned by the next `consume`.
        assigned: first offset of each assigned partition.
        unassigned, paused, resumed: partitions, in the order of the calls.
        commits: offsets of each call.
        closed: whether `close` was called.
    """

    def __init__(
        self,
        committed: dict[int, int | KafkaError] | None = None,
        marks: dict[int, tuple[int, int]] | None = None,
    ):
        self.committed_offsets = committed or {}
        self.marks = marks or {}
        self.metadata: dict[int, str] = {}
        self.errors: list[KafkaError] = []
        self.messages: list[Any] = []
        self.assigned: dict[int, int] = {}
        self.unassigned: list[int] = []
        self.paused: list[int] = []
        self.resumed: list[int] = []
        self.commits: list[list[TopicPartition]] = []
        self.epochs: dict[int, int] = {}
        self.sought: list[tuple[int, int, int | None]] = []
        self.positions: dict[int, int] = {}
        self.log_ends: dict[int, int] = {}
        self.topic_metadata: Any = None
        self.closed = False
        self.callbacks: dict[str, Any] = {}

    def subscribe(self, topics, **callbacks):
        self.callbacks = callbacks

    def rebalance(self, kind: str, *partitions: int) -> None:
        """Call the callback `on_assign`, `on_revoke` or `on_lost`, as the client does."""
        self.callbacks[kind](self, [TopicPartition("t", p) for p in partitions])

    def consume(self, number, timeout):
        self.asked_for = number
        messages, self.messages = self.messages, []
        return messages

    def committed(self, places, timeout):
        self._raise_next()
        answers = []
        for place in places:
            offset = self.committed_offsets.get(place.partition, -1001)
            refused = offset if isinstance(offset, KafkaError) else None
            answers.append(
                SimpleNamespace(
                    partition=place.partition,
                    offset=-1001 if refused else offset,
                    error=refused,
                    metadata=self.metadata.get(place.partition),
                    leader_epoch=self.epochs.get(place.partition),
                )
            )
        return answers

    def get_watermark_offsets(self, place, timeout=None, *, cached=False):
        if cached:
            return -1001, self.log_ends.get(place.partition, -1001)
        self._raise_next()
        return self.marks[place.partition]

    def position(self, places):
        offsets = self.positions
        return [TopicPartition("t", p.partition, offsets.get(p.partition, -1001)) for p in places]

    def assignment(self):
        return [TopicPartition("t", p, offset) for p, offset in self.assigned.items()]

    def list_topics(self, topic=None, timeout=-1):
        self._raise_next()
        return SimpleNamespace(topics={topic: self.topic_metadata})

    def offsets_for_times(self, places, timeout):
        return [TopicPartition(p.topic, p.partition, p.offset) for p in places]

    def _raise_next(self):
        if self.errors:
            raise KafkaException(self.errors.pop(0))

    def incremental_assign(self, places):
        self.assigned |= {p.partition: p.offset for p in places}

    def incremental_unassign(self, places):
        for place in places:
            self.unassigned.append(place.partition)
            self.assigned.pop(place.partition, None)

    def assign(self, places):
        self.assigned = {p.partition: p.offset for p in places}

    def unassign(self):
        self.unassigned += self.assigned
        self.assigned = {}

    def seek(self, place):
        self._raise_next()
        self.sought.append((place.partition, place.offset, place.leader_epoch))

    def pause(self, places):
        self.paused += [p.partition for p in places]

    def resume(self, places):
        self.resumed += [p.partition for p in places]

    def commit(self, *, offsets, asynchronous):
        self.commits.append(offsets)
        self._raise_next()

    def close(self):
        self.closed = True


class FakeAdminClient(FakeClient):
    """A cluster that stores offsets of groups; a test says what it refuses.

    Attributes:
        offsets: of the group that was asked for, as `TopicPartition`s by group.
        refusal: raised instead of every answer, but for the bounds of logs.
        topics: number of partitions by name.
        leaderless: partitions without a leader, of every topic.
        marks: start, stable end and end of the log by partition; an error in their place is the
            answer for that partition.
        members: of every group.
        rights: of this user, on every topic; None where the cluster does not tell.
        moves: codes that the next questions for a group's offsets are answered with, one each.
    """

    def __init__(self, topics: dict[str, int] | None = None):
        self.topics = {"t": 3, "other": 3} if topics is None else topics
        self.offsets: dict[str, list[TopicPartition]] = {}
        self.refusal: KafkaError | None = None
        self.leaderless: set[int] = set()
        self.marks: dict[int, tuple[int, int, int] | KafkaError] = {}
        self.members: list[Any] = []
        self.rights: set[str] | None = None
        self.moves: list[int] = []

    def describe_topics(self, topics, include_authorized_operations, request_timeout):
        rights = self.rights and [SimpleNamespace(name=name) for name in self.rights]
        answer = self._answer(SimpleNamespace(authorized_operations=rights))
        return dict.fromkeys(self.topics, answer)

    def poll(self, timeout):
        return 0

    def _answer(self, value: Any, refusal: KafkaError | None = None) -> Any:
        def result(*_: object):
            if (error := refusal or self.refusal) is not None:
                raise KafkaException(error)
            return value

        return SimpleNamespace(result=result)

    def list_topics(self, timeout):
        topics = {
            name: SimpleNamespace(
                partitions={
                    p: SimpleNamespace(replicas=[1], leader=-1 if p in self.leaderless else 1)
                    for p in range(number)
                }
            )
            for name, number in self.topics.items()
        }
        return self._answer(SimpleNamespace(topics=topics, brokers={1: None})).result()

    def describe_consumer_groups(self, groups, request_timeout):
        state = SimpleNamespace(name="STABLE" if self.members else "EMPTY")
        description = SimpleNamespace(state=state, members=self.members)
        return {group: self._answer(description) for group in groups}

    def list_offsets(self, places, *, isolation_level, request_timeout):
        def answer(place: TopicPartition, spec: Any) -> Any:
            mark = self.marks[place.partition]
            if isinstance(mark, KafkaError):
                return SimpleNamespace(result=lambda: (_ for _ in ()).throw(KafkaException(mark)))
            start, stable_end, end = mark
            if type(spec) is type(OffsetSpec.earliest()):
                return SimpleNamespace(result=lambda: SimpleNamespace(offset=start))
            is_committed = isolation_level is IsolationLevel.READ_COMMITTED
            offset = stable_end if is_committed else end
            return SimpleNamespace(result=lambda: SimpleNamespace(offset=offset))

        return {place: answer(place, spec) for place, spec in places.items()}

    def describe_configs(self, resources, request_timeout):
        return {resource: self._answer({}) for resource in resources}

    def create_topics(self, topics, operation_timeout):
        (topic,) = topics
        if topic.topic in self.topics:
            refusal = KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)
            return {topic.topic: self._answer(None, refusal)}
        if self.refusal is None:
            self.topics[topic.topic] = topic.num_partitions
        return {topic.topic: self._answer(None)}

    def reader(self, config, *, logger=None):
        """Make a consumer that reads the committed offsets of its group."""

        def committed(places: list[TopicPartition], _timeout: float) -> list[TopicPartition]:
            if self.moves:
                raise KafkaException(KafkaError(self.moves.pop(0)))
            of_group = self.offsets.get(config["group.id"], [])
            known = {(place.topic, place.partition): place for place in of_group}
            found = [known.get((place.topic, place.partition), place) for place in places]
            return list(self._answer(found).result())

        return SimpleNamespace(committed=committed, close=lambda: None)

    def alter_consumer_group_offsets(self, requests, request_timeout):
        (request,) = requests
        if self.refusal is None:
            self.offsets[request.group_id] = list(request.topic_partitions)
        answer = SimpleNamespace(topic_partitions=request.topic_partitions)
        return {request.group_id: self._answer(answer)}


class FakeProducer(FakeClient):
    """A producer whose deliveries are decided by the test.

    Attributes:
        records: everything that was produced, as dictionaries with the arguments.
        errors, poll_errors: raised by the next calls of `produce` and `poll`, one each.
        created: how often it was "created".
    """

    def __init__(self):
        self.records: list[dict[str, Any]] = []
        self.errors: list[Exception] = []
        self.poll_errors: list[Exception] = []
        self.created = 0
        self._open: list[dict[str, Any]] = []

    def __call__(self, config, **_):
        self.created += 1
        self._open = []
        return super().__call__(config)

    def produce(self, topic, **record):
        if self.errors:
            raise self.errors.pop(0)
        record["topic"] = topic
        self.records.append(record)
        self._open.append(record)

    def report(self, error: KafkaError | None = None, number: int | None = None) -> None:
        """Report the delivery, or the refusal, of the oldest records; by default of all."""
        reported, self._open = self._open[:number], self._open[len(self._open[:number]) :]
        for record in reported:
            record["on_delivery"](error, None)

    def poll(self, timeout):
        if self.poll_errors:
            raise self.poll_errors.pop(0)
        return 0

    def flush(self, timeout):
        """Return how many records have no report."""
        return len(self._open)


class ConfirmingProducer(FakeProducer):
    """Confirms every record at the next `poll` or `flush`."""

    def poll(self, timeout):
        self.report()
        return 0

    def flush(self, timeout):
        self.report()
        return super().flush(timeout)


def kafka_exception(code: int) -> KafkaException:
    """Return the exception with which a client refuses."""
    return KafkaException(KafkaError(code))


def fatal_error(code: int = KafkaError._FATAL) -> KafkaError:
    """Return an error after which a client is of no use."""
    return KafkaError(code, "fatal", True)  # noqa: FBT003 - the client knows no keywords

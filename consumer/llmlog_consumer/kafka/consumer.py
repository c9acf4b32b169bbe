"""Owns the membership in the consumer group: consume, pause, rebalance, commit, leave.

The client calls back in three places, all on the worker's one thread: rebalances and commit
reports within `consume` (and within `close`, which a thread of its own runs), errors within any of
its calls. Callbacks never raise into the client: their exception is kept, and `consume` raises it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.kafka import start_offsets
from llmlog_consumer.kafka.errors import FENCED, HARMLESS, OUT_OF_RANGE, REBALANCING, Refusal
from llmlog_consumer.kafka.start_offsets import find_start_offsets, run_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import KafkaError, Message

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka_record import ConsumedRecord
    from llmlog_consumer.offset_tracker import Commit

log = structlog.get_logger("llmlog.source")

MAX_POLL_RECORDS: Final = 1000
"""Records that one `consume` returns at most."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the member waits for the broker, in seconds.

    Attributes:
        join: for the first assignment, before it leaves.
        commit_retry: between two attempts to commit while the group rebalances.
        commit_give_up: after which such a commit is left to the partition's next owner.
        start: of the assignments.
    """

    join: float = 5.0
    commit_retry: float = 0.1
    commit_give_up: float = 2.0
    start: start_offsets.Timing = field(default_factory=start_offsets.Timing)


class Listener(Protocol):
    """The owner of the records of the assigned partitions: the worker.

    All methods are called on the thread that calls `consume` or, while it leaves the group, on the
    thread within `GroupConsumer.close`.
    """

    def on_assigned(
        self, offsets: Mapping[int, int], notes: Mapping[int, Mapping[str, Any]]
    ) -> Iterable[int]:
        """Begin to own partitions; return the ones to keep paused.

        Args:
            offsets: at which they are read first.
            notes: what their last owner wrote beside its commit; empty where it wrote none.
        """
        ...

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Settle as much as the time allows and commit it; the group gives the partitions away."""
        ...

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Give partitions up without a commit: other members own them already."""
        ...

    def on_commit_failed(self, partitions: Sequence[int]) -> None:
        """Commit these again: the broker refused, as it does while the group rebalances."""
        ...


class FencedError(Exception):
    """Another consumer has this member's static instance id."""


class GroupConsumer:
    """One member of the consumer group.

    Args:
        settings: topic, group and Kafka properties.
        listener: owns the records; it gets the assignments and the refused commits.
        member: number of the worker; it makes a static instance id unique.
        client: makes the client's consumer.
        timing: of the waits.
        clock: monotonic seconds, for the refusal.

    Attributes:
        joined: whether the group has given this member an assignment, if an empty one.
        out_of_range: partitions that stand still: their log does not have the next offset.
    """

    def __init__(
        self,
        settings: Settings,
        listener: Listener,
        member: int = 0,
        *,
        client: Callable[..., Any] = Consumer,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = settings.topic
        self._listener = listener
        self._timing = timing or Timing()
        self._paused: set[int] = set()
        self._failure: BaseException | None = None
        self.joined = False
        self.out_of_range: set[int] = set()
        self._throttled = ThrottledLog(log)
        self._refusal = Refusal(clock)
        config = consumer_config(settings)
        if instance := config.get("group.instance.id"):
            config["group.instance.id"] = f"{instance}-{member}"
        strategy = str(config.get("partition.assignment.strategy", "cooperative-sticky"))
        self._incremental = "cooperative" in strategy
        config |= {"on_commit": self._on_commit, "error_cb": self._on_error}
        self._consumer = new_client(client, config)
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    @property
    def refusal(self) -> str:
        """Return why Kafka gives nothing, until it gives records or accepts a commit; else empty.

        The worker's thread writes and reads it.
        """
        return str(self._refusal)

    def consume(self, timeout: float, at_most: int | None = None) -> list[ConsumedRecord]:
        """Return the next records, and run the callbacks.

        Args:
            timeout: seconds to wait for a first record.
            at_most: records; None for the usual number.

        Raises:
            KafkaException: fatal; records may be lost on the way, so the process has to end.
            FencedError: another consumer has this instance id.
        """
        number = MAX_POLL_RECORDS if at_most is None else min(at_most, MAX_POLL_RECORDS)
        messages: list[Message] = self._consumer.consume(number, timeout)
        if self._failure is not None:
            raise self._failure
        if any(message.error() is not None for message in messages):
            messages = [message for message in messages if not self._handle_error(message)]
        if messages:
            self._refusal.clear()
        return cast("list[ConsumedRecord]", messages)

    def pause_only(self, paused: set[int]) -> None:
        """Pause exactly these partitions; the client drops the records it has prefetched of them.

        Raises:
            KafkaException: the client refuses.
        """
        if added := paused - self._paused:
            self._consumer.pause(self._places(added))
        if removed := self._paused - paused:
            self._consumer.resume(self._places(removed))
        self._paused = set(paused)

    def skip_gap(self, partition: int, offset: int) -> None:
        """Read a partition that is out of range from another offset.

        Raises:
            KafkaException: the client refuses.
        """
        self.out_of_range.discard(partition)
        place = [TopicPartition(self._topic, partition, offset)]
        if self._incremental:
            self._consumer.incremental_unassign(place)
            self._consumer.incremental_assign(place)
        else:
            others = [p for p in self._consumer.assignment() if p.partition != partition]
            positions = {p.partition: p.offset for p in self._consumer.position(others)}
            kept = [TopicPartition(self._topic, p, o) for p, o in positions.items()]
            self._consumer.assign(kept + place)
        # The client keeps a pause over this; the next `pause_only` pauses again if need be.
        self._consumer.resume(place)
        self._paused.discard(partition)

    def commit(self, commits: Sequence[Commit], notes: Mapping[int, str] | None = None) -> None:
        """Send offsets to the broker without waiting for its answer.

        Args:
            commits: what to commit.
            notes: metadata beside each partition's offset, for `pipeline status` and for the
                partition's next owner.
        """
        if commits:
            self._consumer.commit(offsets=self._offsets(commits, notes or {}), asynchronous=True)

    def commit_within(
        self,
        commits: Sequence[Commit],
        timeout: float,
        notes: Mapping[int, str] = MappingProxyType({}),
    ) -> bool:
        """Commit and wait for the broker's answer; return False where it did not come in time.

        The client has no time-out for a synchronous commit, so a thread waits for the answer.

        Args:
            commits: what to commit.
            timeout: seconds.
            notes: metadata beside each partition's offset.
        """
        if not commits:
            return True
        deadline = time.monotonic() + min(timeout, self._timing.commit_give_up)
        offsets = self._offsets(commits, notes)

        def commit() -> None:
            while True:
                try:
                    self._consumer.commit(offsets=offsets, asynchronous=False)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code in REBALANCING and time.monotonic() < deadline:
                        time.sleep(self._timing.commit_retry)
                        continue
                    if code not in HARMLESS:
                        log.warning("commit failed", why=error.args[0].str())
                return

        return run_within(timeout, commit)

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the next offset that will be fetched, of partitions that have one."""
        answers = self._consumer.position(self._places(partitions))
        return {p.partition: p.offset for p in answers if p.offset >= 0}

    def close(self, timeout: float) -> bool:
        """Leave the group; return False where the broker did not answer in time.

        A member that leaves while it joins is not heard: the group keeps it until its session
        ends, which delays the next rebalance. So this waits for the first assignment.

        Args:
            timeout: seconds.
        """
        deadline = time.monotonic() + min(timeout, self._timing.join)
        while not self.joined and time.monotonic() < deadline:
            self._consumer.consume(1, 0.1)
        return run_within(timeout, self._consumer.close)

    def _handle_error(self, message: Message) -> bool:
        """Act on a message that is an error; return False for a record."""
        error = message.error()
        if error is None:
            return False
        partition: Any = message.partition()
        if error.code() in OUT_OF_RANGE:
            self.out_of_range.add(partition)
            log.error(
                "this partition stands still: its log does not have the next offset",
                why=error.str(),
                see="pipeline offsets show",
                then=f"pipeline offsets accept-gap {self._topic}/{partition}",
            )
        elif error.code() in FENCED:
            raise FencedError(error.str())
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._on_error(error)
        return True

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        try:
            numbers = [p.partition for p in partitions]
            committed = find_start_offsets(consumer, self._topic, numbers, self._timing.start)
            offsets = {p: start.offset for p, start in committed.items()}
            notes = {p: start.note for p, start in committed.items()}
            starts = [TopicPartition(self._topic, p, o) for p, o in offsets.items()]
            (consumer.incremental_assign if self._incremental else consumer.assign)(starts)
            paused = set(self._listener.on_assigned(offsets, notes)) & set(offsets)
            # The client keeps a pause over a revoke: state it for every partition.
            self._paused = (self._paused - set(offsets)) | paused
            self.joined = True
            if paused:
                consumer.pause(self._places(paused))
            if running := set(offsets) - paused:
                consumer.resume(self._places(running))
        except BaseException as error:  # noqa: BLE001 - `consume` raises it
            self._failure = error

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._unassign(consumer, partitions, self._listener.on_revoked)

    def _on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", partitions=[p.partition for p in partitions])
        self._unassign(consumer, partitions, self._listener.on_lost)

    def _unassign(
        self,
        consumer: Any,
        partitions: list[TopicPartition],
        notify: Callable[[Sequence[int]], None],
    ) -> None:
        try:
            numbers = [p.partition for p in partitions]
            notify(numbers)
            self._paused -= set(numbers)
            self.out_of_range -= set(numbers)
            if self._incremental:
                consumer.incremental_unassign(partitions)
            else:
                consumer.unassign()
        except BaseException as error:  # noqa: BLE001 - `consume` raises it
            self._failure = error

    def _offsets(self, commits: Sequence[Commit], notes: Mapping[int, str]) -> list[TopicPartition]:
        offsets = []
        for commit in commits:
            optional: dict[str, Any] = {}
            if commit.epoch >= 0:
                optional["leader_epoch"] = commit.epoch
            if note := notes.get(commit.partition):
                optional["metadata"] = note
            offsets.append(TopicPartition(self._topic, commit.partition, commit.offset, **optional))
        return offsets

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        refused = [p for p in partitions if error or p.error]
        self._listener.on_commit_failed([p.partition for p in refused])
        if error is None and not refused:
            self._refusal.clear()
        for one in filter(None, (error, *(p.error for p in refused))):
            self._refusal.record(one)
        if error is not None and error.code() not in HARMLESS:
            self._throttled(logging.WARNING, ("commit", error.code()), "Kafka", why=error.str())

    def _on_error(self, error: KafkaError) -> None:
        self._refusal.record(error)
        self._throttled(logging.WARNING, error.code(), "Kafka", why=error.str())

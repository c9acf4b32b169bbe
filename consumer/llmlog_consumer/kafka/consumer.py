"""Owns the membership in the consumer group: consume, pause, rebalance, commit, leave.

The client calls back in three places, all on the worker's one thread: rebalances and commit
reports within `consume` (and within `close`, which a thread of its own runs), errors within any of
its calls. Callbacks never raise into the client: their exception is kept, and `consume` raises it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.kafka import start_offsets
from llmlog_consumer.kafka.errors import (
    CONNECTION,
    DAMAGED,
    HARMLESS,
    OUT_OF_RANGE,
    REBALANCING,
    Refusal,
    fatal_error,
    is_fatal,
    is_truncated,
)
from llmlog_consumer.kafka.start_offsets import LeaderEpochs, find_start_offsets, run_within
from llmlog_consumer.kafka.watch.partition_watch import PartitionWatch, WatchTiming
from llmlog_consumer.kafka.watch.standstill import RETRY_SECONDS, Flaw, Standstills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import KafkaError as ClientError
    from confluent_kafka import Message

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.listener import Listener
    from llmlog_consumer.kafka_record import ConsumedRecord
    from llmlog_consumer.offset_tracker import Commit

log = structlog.get_logger("llmlog.source")

T = TypeVar("T")

MAX_POLL_RECORDS: Final = 1000
"""Records that one `consume` returns at most."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the member waits for the broker, in seconds.

    Attributes:
        join: for the first assignment, before it leaves.
        commit_retry: between two attempts to commit while the group rebalances.
        commit_give_up: after which such a commit is left to the partition's next owner.
        damaged: between two attempts to fetch a damaged batch.
        start: of the assignments.
        watch: of the look at partitions that give nothing.
    """

    join: float = 5.0
    commit_retry: float = 0.1
    commit_give_up: float = 4.0
    damaged: float = RETRY_SECONDS
    start: start_offsets.Timing = field(default_factory=start_offsets.Timing)
    watch: WatchTiming = field(default_factory=WatchTiming)


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
        committed_at: monotonic seconds at which the broker confirmed a commit, or the client began.
        standstills: partitions that stand still, each for a cause of its own.
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
        self._clock = clock
        self.committed_at = clock()
        self._epochs = LeaderEpochs(self._topic)
        self.standstills = Standstills(self._topic, self._timing.damaged, clock)
        self._throttled = ThrottledLog(log)
        self._refusal = Refusal(clock)
        config = consumer_config(settings)
        self._instance = ""
        if instance := config.get("group.instance.id"):
            self._instance = config["group.instance.id"] = f"{instance}-{member}"
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
        self._watch = PartitionWatch(
            self._topic, self._consumer.list_topics, self._log_end, self._timing.watch, clock
        )

    @property
    def unhealthy(self) -> str:
        """Say what keeps Kafka from giving records, of all partitions or of some; else empty.

        The worker's thread writes and reads it.
        """
        found = (str(self._refusal), self.standstills.describe(), self._watch.describe())
        return "; ".join(dict.fromkeys(filter(None, found)))

    def consume(self, timeout: float, at_most: int | None = None) -> list[ConsumedRecord]:
        """Return the next records, and run the callbacks.

        Args:
            timeout: seconds to wait for a first record.
            at_most: records; None for the usual number.

        Raises:
            FatalError: the client is of no use any more; records may be lost on the way, so the
                process has to end.
            FencedError: another consumer has this instance id.
        """
        number = MAX_POLL_RECORDS if at_most is None else min(at_most, MAX_POLL_RECORDS)
        messages: list[Message] = self._call(self._consumer.consume, number, timeout)
        if self._failure is not None:
            raise self._failure
        if not messages:
            self._watch.record_empty_poll()
        if self._epochs.unchecked:
            messages = self._take_checked(messages)
        if self.standstills or any(message.error() is not None for message in messages):
            messages = [message for message in messages if self._admit(message)]
        if messages:
            self._refusal.clear()
        return cast("list[ConsumedRecord]", messages)

    def pause_only(self, paused: set[int]) -> None:
        """Pause exactly these partitions; the client drops the records it has prefetched of them.

        Raises:
            KafkaException: the client refuses.
        """
        paused = paused | self.standstills.paused()
        if added := paused - self._paused:
            self._consumer.pause(self._places(added))
        if removed := self._paused - paused:
            self._consumer.resume(self._places(removed))
        self._paused = set(paused)

    def watch(self, assigned: Iterable[int], expected: Mapping[int, int]) -> None:
        """Look for partitions that give nothing, without a word of the client; never waits.

        Args:
            assigned: all partitions of this member.
            expected: next offset of those that have nothing in flight.
        """
        still = self._paused | set(self.standstills)
        idle = {p: offset for p, offset in expected.items() if p not in still}
        self._watch.check(frozenset(assigned), idle)

    def skip_gap(self, partition: int, offset: int) -> None:
        """Read a partition that stands still from another offset.

        Raises:
            KafkaException: the client refuses.
        """
        self.standstills.forget([partition])
        self._epochs.forget(partition)
        self._read_from(partition, offset)

    def read_again(self, partition: int, offset: int) -> None:
        """Read a partition that stands still from the offset that it expects, once more.

        Raises:
            KafkaException: the client refuses.
        """
        self.standstills.probe(partition)
        self._read_from(partition, offset)

    def _read_from(self, partition: int, offset: int) -> None:
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
            offsets = self._epochs.commits(commits, notes)
            self._call(self._consumer.commit, offsets=offsets, asynchronous=True)

    def commit_within(
        self,
        commits: Sequence[Commit],
        timeout: float,
        notes: Mapping[int, str] | None = None,
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
        offsets = self._epochs.commits(commits, notes)

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
        """Return the next offset that will be fetched, of partitions that have one.

        One that stands still has none: behind a damaged batch the client goes on, or astray. Nor
        has one whose start is unchecked: what was fetched of it was not taken.
        """
        astray = {*self.standstills, *self._epochs.unchecked}
        flowing = [p for p in partitions if p not in astray]
        answers = self._consumer.position(self._places(flowing))
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
        return run_within(timeout, self._close)

    def _close(self) -> None:
        with self._watch.lock:  # a look at the metadata would meet a client that is gone
            self._watch.close()
        self._consumer.close()

    def _take_checked(self, messages: list[Message]) -> list[Message]:
        """Let the client ask about the unchecked starts; leave out what it fetched without that.

        An error counts where it could not ask: the client says it once, then fetches no more of
        that partition, and can never ask about it.
        """
        unchecked = set(self._epochs.unchecked)
        self._epochs.check(self._consumer.seek)
        still = set(self._epochs.unchecked)
        return [
            message
            for message in messages
            if message.partition() not in unchecked
            or (message.error() is not None and message.partition() in still)
        ]

    def _admit(self, message: Message) -> bool:
        """Tell whether a message is a record to deliver; act on it where it is an error."""
        error, partition = message.error(), cast("int", message.partition())
        if error is None:
            return self.standstills.admit(partition)
        if is_fatal(error):
            raise fatal_error(error, self._instance)
        if error.code() in OUT_OF_RANGE:
            flaw = Flaw.TRUNCATED if is_truncated(error) else Flaw.GONE
            self._stand_still(partition, flaw, message)
        elif error.code() in DAMAGED:
            self._stand_still(partition, Flaw.DAMAGED, message)
        else:
            self._on_error(error)
        return False

    def _stand_still(self, partition: int, flaw: Flaw, message: Message) -> None:
        why = cast("ClientError", message.error()).str()
        self._epochs.unchecked.pop(partition, None)
        if self.standstills.record(partition, flaw, message.offset(), why):
            log.error(
                "this partition stands still, the others go on",
                partition=partition,
                offset=message.offset(),
                cause=str(flaw),
                why=why,
                do=self.standstills.advice(partition),
            )
        if partition not in self._paused:
            # At once: this drops what the client has fetched behind it.
            self._consumer.pause(self._places([partition]))
            self._paused.add(partition)

    def _call(self, request: Callable[..., T], *args: Any, **options: Any) -> T:
        """Return what a call of the client returns, with its fatal errors as ours."""
        try:
            return request(*args, **options)
        except KafkaException as error:
            if is_fatal(error.args[0]):
                raise fatal_error(error.args[0], self._instance) from None
            raise

    def _log_end(self, partition: int) -> int:
        (place,) = self._places([partition])
        _, end = self._consumer.get_watermark_offsets(place, cached=True)
        return int(end)

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        try:
            numbers = [p.partition for p in partitions]
            committed = find_start_offsets(consumer, self._topic, numbers, self._timing.start)
            offsets = {p: start.offset for p, start in committed.items()}
            notes = {p: start.note for p, start in committed.items()}
            starts = self._epochs.starts(committed)
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
            self.standstills.forget(numbers)
            for number in numbers:
                self._epochs.forget(number)
            if self._incremental:
                consumer.incremental_unassign(partitions)
            else:
                consumer.unassign()
        except BaseException as error:  # noqa: BLE001 - `consume` raises it
            self._failure = error

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def _on_commit(self, error: ClientError | None, partitions: list[TopicPartition]) -> None:
        refused = [p for p in partitions if error or p.error]
        self._listener.on_commit_failed([p.partition for p in refused])
        if error is None and not refused:
            self._refusal.clear()
            self.committed_at = self._clock()
        for one in filter(None, (error, *(p.error for p in refused))):
            self._refusal.record(one)
        if error is not None and error.code() not in HARMLESS:
            self._throttled(logging.WARNING, ("commit", error.code()), "Kafka", why=error.str())

    def _on_error(self, error: ClientError) -> None:
        if is_fatal(error):
            self._failure = fatal_error(error, self._instance)
            return
        if error.code() in CONNECTION:
            self._watch.record_trouble(error.str())
        self._refusal.record(error)
        self._throttled(logging.WARNING, error.code(), "Kafka", why=error.str())

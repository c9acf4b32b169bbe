"""Owns the Kafka consumer: consume, pause, rebalance, commit. Knows nothing of documents.

Rebalance callbacks run inside `consume`, on the worker's one thread, and never raise: what
fails in them is kept and raised by the next `consume`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.kafka.errors import AWAY, HARMLESS, REBALANCING, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.offset_tracker import Commit

log = structlog.get_logger("llmlog.source")

CHUNK: Final = 1000
"""Records asked for at once."""

_METADATA_TIMEOUT: Final = 10.0
_JOIN_SECONDS: Final = 5.0
_ASSIGN_SECONDS: Final = 120.0
_ASK_AGAIN: Final = 0.5
_NOT_YET: Final = AWAY | {KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
_COMMIT_AGAIN: Final = 0.1
_COMMIT_AGAIN_FOR: Final = 2.0


class Listener(Protocol):
    """Who owns the records of the assigned partitions: the worker."""

    def on_assigned(self, offsets: Mapping[int, int]) -> Iterable[int]:
        """Begin to read partitions from these offsets; return those to keep paused."""
        ...

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Settle what can be settled in time and commit; the partitions go to others."""
        ...

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Let go without committing: others have the partitions already."""
        ...

    def on_commit_failed(self, partitions: Sequence[int]) -> None:
        """Commit these again: the broker refused, as it does while the group rebalances."""
        ...


class FencedError(Exception):
    """Another consumer has this static instance id."""


class GroupConsumer:
    """One member of the consumer group.

    Args:
        settings: topic, group and Kafka properties.
        listener: told of assignments.
        member: number of the worker; makes a static instance id its own.
    """

    def __init__(self, settings: Settings, listener: Listener, member: int = 0) -> None:
        self._topic = settings.topic
        self._listener = listener
        self._paused: set[int] = set()
        self._failure: BaseException | None = None
        self.joined = False
        """Whether the group has given us an assignment, an empty one included."""
        self._throttled = ThrottledLog(log)
        self.out_of_range: set[int] = set()
        """Partitions that stand still: the log has not what they were to read."""
        config = consumer_config(settings)
        if instance := config.get("group.instance.id"):
            config["group.instance.id"] = f"{instance}-{member}"
        strategy = str(config.get("partition.assignment.strategy", "cooperative-sticky"))
        self._incremental = "cooperative" in strategy
        config |= {"on_commit": self._on_commit, "error_cb": self._on_error}
        self._refusal = Refusal()
        self._consumer = new_client(Consumer, config)
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    @property
    def refusal(self) -> str:
        """Say why Kafka gives us nothing, until it gives records or takes a commit; else empty."""
        return str(self._refusal)

    def consume(self, timeout: float) -> list[Any]:
        """Return the next records, and run the rebalance callbacks.

        Raises:
            KafkaException: fatal; records may have been swallowed, so the process has to end.
            FencedError: another consumer has this instance id.
        """
        messages = self._consumer.consume(CHUNK, timeout)
        if self._failure is not None:
            raise self._failure
        if any(message.error() is not None for message in messages):
            messages = [message for message in messages if not self._is_error(message)]
        if messages:
            self._refusal.over()
        return messages

    def pause_only(self, paused: set[int]) -> None:
        """Have exactly these partitions paused; pausing throws prefetched records away."""
        if stop := paused - self._paused:
            self._consumer.pause(self._named(stop))
        if go := self._paused - paused:
            self._consumer.resume(self._named(go))
        self._paused = set(paused)

    def skip_gap(self, partition: int, offset: int) -> None:
        """Read a partition that stands still from another offset.

        Raises:
            KafkaException: the client refuses.
        """
        self.out_of_range.discard(partition)
        name = [TopicPartition(self._topic, partition, offset)]
        if self._incremental:
            self._consumer.incremental_unassign(name)
            self._consumer.incremental_assign(name)
        else:
            others = [p for p in self._consumer.assignment() if p.partition != partition]
            at = {p.partition: p.offset for p in self._consumer.position(others)}
            kept = [TopicPartition(self._topic, p, o) for p, o in at.items()]
            self._consumer.assign(kept + name)
        # librdkafka keeps a pause flag over this; the next `gate` pauses again where it must.
        self._consumer.resume(name)
        self._paused.discard(partition)

    def commit(self, commits: Sequence[Commit], notes: Mapping[int, str] | None = None) -> None:
        """Hand offsets to the broker without waiting.

        Args:
            commits: what to commit.
            notes: metadata beside each partition's offset, for `pipeline status`.
        """
        if commits:
            self._consumer.commit(offsets=self._offsets(commits, notes or {}), asynchronous=True)

    def commit_within(self, commits: Sequence[Commit], timeout: float) -> bool:
        """Commit and wait for the broker's answer; False where it did not come in time.

        librdkafka has no time-out for a synchronous commit, so a thread waits for it.
        """
        if not commits:
            return True

        deadline = time.monotonic() + min(timeout, _COMMIT_AGAIN_FOR)

        def commit() -> None:
            while True:
                try:
                    self._consumer.commit(offsets=self._offsets(commits), asynchronous=False)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code in REBALANCING and time.monotonic() < deadline:
                        time.sleep(_COMMIT_AGAIN)
                        continue
                    if code not in HARMLESS:
                        log.warning("commit failed", why=error.args[0].str())
                return

        return _within(commit, timeout)

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the next offset that will be asked for, of partitions that have one."""
        answers = self._consumer.position(self._named(partitions))
        return {p.partition: p.offset for p in answers if p.offset >= 0}

    def committed(self, partitions: Iterable[int], timeout: float) -> dict[int, int]:
        """Return the group's committed offsets, of partitions that have one.

        Raises:
            KafkaException: the broker did not answer in time, or refuses.
        """
        answers = self._consumer.committed(self._named(partitions), timeout)
        return {p.partition: p.offset for p in answers if p.error is None and p.offset >= 0}

    def close(self, timeout: float) -> bool:
        """Leave the group; False where the broker did not take the leave in time.

        A member that leaves while it joins is not heard, and its ghost holds up the next
        rebalance until its session ends: so the first assignment is waited for.
        """
        deadline = time.monotonic() + min(timeout, _JOIN_SECONDS)
        while not self.joined and time.monotonic() < deadline:
            self._consumer.consume(1, 0.1)
        return _within(self._consumer.close, timeout)

    def _is_error(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        code = error.code()
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            partition = message.partition()
            self.out_of_range.add(partition)
            log.error(
                "the log has not what was to be read next, this partition stands still",
                why=error.str(),
                see="pipeline offsets show",
                then=f"pipeline offsets accept-gap {self._topic}/{partition}",
            )
        elif code in (KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID):  # noqa: SLF001
            raise FencedError(error.str())
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._on_error(error)
        return True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            offsets = self._where_to_begin(consumer, [p.partition for p in partitions])
            starts = [TopicPartition(self._topic, p, o) for p, o in offsets.items()]
            (consumer.incremental_assign if self._incremental else consumer.assign)(starts)
            paused = set(self._listener.on_assigned(offsets)) & set(offsets)
            # librdkafka keeps a pause flag over a revoke: say it of every partition.
            self._paused = (self._paused - set(offsets)) | paused
            self.joined = True
            if paused:
                consumer.pause(self._named(paused))
            if running := set(offsets) - paused:
                consumer.resume(self._named(running))
        except BaseException as error:  # noqa: BLE001 - raised again by `consume`
            self._failure = error

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._let_go(consumer, partitions, self._listener.on_revoked)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", partitions=[p.partition for p in partitions])
        self._let_go(consumer, partitions, self._listener.on_lost)

    def _let_go(self, consumer: Consumer, partitions: list[TopicPartition], tell: Any) -> None:
        try:
            numbers = [p.partition for p in partitions]
            tell(numbers)
            self._paused -= set(numbers)
            self.out_of_range -= set(numbers)
            if self._incremental:
                consumer.incremental_unassign(partitions)
            else:
                consumer.unassign()
        except BaseException as error:  # noqa: BLE001 - raised again by `consume`
            self._failure = error

    def _where_to_begin(self, consumer: Consumer, partitions: list[int]) -> dict[int, int]:
        """Return the committed offsets; a partition without one is new, and begins at its start."""
        named = self._named(partitions)

        def places() -> dict[int, int]:
            answers = consumer.committed(named, _METADATA_TIMEOUT)
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)
            return {answer.partition: answer.offset for answer in answers}

        def look_again() -> None:
            with suppress(KafkaException):
                consumer.list_topics(self._topic, _METADATA_TIMEOUT)

        def start(name: TopicPartition) -> int:
            try:
                return int(consumer.get_watermark_offsets(name, _METADATA_TIMEOUT)[0])
            except KafkaException as error:
                if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:  # noqa: SLF001
                    # The group has heard sooner than this client that the topic has grown. From
                    # a thread: within a callback this call would abort the process.
                    _within(look_again, _METADATA_TIMEOUT)
                raise

        offsets: dict[int, int] = _patiently(places)
        for name in named:
            if offsets[name.partition] < 0:
                offsets[name.partition] = _patiently(partial(start, name))
        return offsets

    def _offsets(
        self, commits: Sequence[Commit], notes: Mapping[int, str] = MappingProxyType({})
    ) -> list[TopicPartition]:
        offsets = []
        for commit in commits:
            optional: dict[str, Any] = {}
            if commit.epoch >= 0:
                optional["leader_epoch"] = commit.epoch
            if note := notes.get(commit.partition):
                optional["metadata"] = note
            offsets.append(TopicPartition(self._topic, commit.partition, commit.offset, **optional))
        return offsets

    def _named(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        refused = [p for p in partitions if error or p.error]
        self._listener.on_commit_failed([p.partition for p in refused])
        if error is None and not refused:
            self._refusal.over()
        for one in filter(None, (error, *(p.error for p in refused))):
            self._refusal.note(one)
        if error is not None and error.code() not in HARMLESS:
            self._throttled(logging.WARNING, ("commit", error.code()), "Kafka", why=error.str())

    def _on_error(self, error: KafkaError) -> None:
        self._refusal.note(error)
        self._throttled(logging.WARNING, error.code(), "Kafka", why=error.str())


def _patiently(ask: Any) -> Any:
    """Ask again while the brokers are away, for a while: then the assignment is gone anyhow."""
    deadline = time.monotonic() + _ASSIGN_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in _NOT_YET:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)


def _within(call: Any, timeout: float) -> bool:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(max(timeout, 0.0))
    return not thread.is_alive()

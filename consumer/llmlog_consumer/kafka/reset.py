"""Owns where `pipeline offsets reset` moves a group that has stopped, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, TopicPartition

from llmlog_common.errors import ConfigurationError, KafkaUnreachable, PipelineError
from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.places import Log, Place


@dataclass(frozen=True, slots=True)
class Move:
    """The move of a group in one partition.

    Attributes:
        place: of the group before.
        log: of the partition.
        target: next offset of the group afterwards.
    """

    place: Place
    log: Log
    target: int

    @property
    def is_move(self) -> bool:
        """Tell whether the group's offset changes."""
        return self.place.committed != self.target

    @property
    def read_again(self) -> int:
        """Return how many offsets, at most, are read a second time."""
        return max(0, min(self.place.committed or 0, self.log.end) - self.target)

    @property
    def gap(self) -> tuple[int, int] | None:
        """Return first and next-after-last offset of what is never read; None for nothing."""
        first = self.log.start if self.place.committed is None else self.place.committed
        return (first, self.target) if first < self.target else None

    @property
    def skipped(self) -> int:
        """Return how many offsets, at most, are never read."""
        return self.gap[1] - self.gap[0] if self.gap else 0


def plan_moves(places: Mapping[int, Place], target_of: Callable[[int, Log], int]) -> list[Move]:
    """Return the move of each partition.

    Args:
        places: of the group.
        target_of: returns the offset to move to, of partition and log. It is taken to the nearest
            that can be read: what an open transaction holds back is not skipped.

    Raises:
        ConfigurationError: a partition has no leader, so that nothing is known of its log.
    """
    moves = []
    for number, place in places.items():
        if (log := place.log) is None:
            raise ConfigurationError(
                f"{place.name} has no leader that answers: nothing was changed; run this again "
                "when it has one"
            )
        target = min(max(target_of(number, log), log.start), log.stable_end)
        moves.append(Move(place, log, target))
    return moves


def gaps_after(gaps: Iterable[Gap], move: Move, now_ms: int) -> list[Gap]:
    """Return a partition's accepted gaps after a move.

    What is read again is no gap any more, as far as the log still has it; what is skipped is one.
    """
    read_from = max(move.target, move.log.start)
    kept = []
    for gap in gaps:
        if gap.next <= max(gap.first, read_from):  # it ends before, or is that of another log
            kept.append(gap)
        elif gap.first < read_from:
            kept.append(Gap(gap.first, read_from, gap.at))
    return [*kept, Gap(*move.gap, now_ms)] if move.gap else kept


def require_stopped(admin: KafkaAdmin) -> None:
    """Check that the group has no members.

    Raises:
        ConfigurationError: it has; the text says what to do.
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    if members := admin.group().members:
        hosts = ", ".join(sorted({member.host for member in members}))
        raise ConfigurationError(
            f"group {admin.settings.group} has {len(members)} members, on {hosts}: stop all "
            "workers first; nothing was changed"
        )


def apply_moves(admin: KafkaAdmin, moves: Sequence[Move], now_ms: int) -> None:
    """Move the group, and record what it skips.

    New gaps are written first, and taken back where the offsets are refused: the other order could
    skip records without a trace. Where no answer comes they stay, since the group may have moved; a
    gap whose records are read nevertheless does no harm. So what is read again is taken out of the
    gaps last. The notes stay beside the offsets, so that an open circuit and the
    indices that wait are known to the next workers. No leader epoch is written: that of an offset
    in the middle of the log is not known.

    Args:
        admin: the connection; its settings name group and topic.
        moves: of the partitions.
        now_ms: epoch milliseconds, the time of the gaps.

    Raises:
        ConfigurationError: the group has members again.
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers; the text says whether the group may have moved.
    """
    group, topic = admin.settings.group, admin.settings.topic
    moves = [move for move in moves if move.is_move]
    if not moves:
        return
    store = AcceptedGaps(admin)
    before = store.of_topic(topic)
    after = {
        move.place.partition: gaps_after(before.get(move.place.partition, ()), move, now_ms)
        for move in moves
    }
    notes = {p.partition: p.metadata for p in admin.list_group_offsets(group, topic)}
    skips = {move.place.partition for move in moves if move.gap}
    store.replace(topic, {p: after[p] for p in skips})
    places = [
        TopicPartition(
            topic,
            move.place.partition,
            move.target,
            metadata=notes.get(move.place.partition) or "",
        )
        for move in moves
    ]
    try:
        admin.call(partial(_commit, admin, group, places), group)
    except PipelineError:
        store.replace(topic, {p: before.get(p, []) for p in skips})
        raise
    except KafkaUnreachable as error:
        raise KafkaUnreachable(
            f"{error}; group {group} may have moved or not: run this again when Kafka answers, it "
            "shows first where the group stands"
        ) from None
    shrunk = {p for p, gaps in after.items() if p not in skips and gaps != before.get(p, [])}
    store.replace(topic, {p: after[p] for p in shrunk})


def _commit(admin: KafkaAdmin, group: str, places: list[TopicPartition]) -> None:
    try:
        admin.commit_group_offsets(group, places)
    except KafkaException as error:
        if error.args[0].code() != ClientError.UNKNOWN_MEMBER_ID:
            raise
        raise ConfigurationError(
            f"a worker has joined group {group}: stop all workers first; nothing was changed"
        ) from None

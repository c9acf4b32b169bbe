"""Owns what the group's offset in a partition means against the partition's log. Pure.

`status`, `offsets`, `verify` and the end of `--until-end` all judge a partition by `classify`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Log:
    """The bounds of a partition's log.

    Attributes:
        start: first offset that it has.
        stable_end: next offset behind what may be read: an open transaction ends it earlier.
        end: next offset of all that the broker has acknowledged.
    """

    start: int
    stable_end: int
    end: int


class PlaceState(StrEnum):
    """Where the group stands in a partition; the values are what people read."""

    CURRENT = "current"
    BEHIND = "behind"
    TRANSACTION = "behind an open transaction"
    NOT_BEGUN = "not begun"
    NO_LEADER = "no leader"
    DELETED = "out of range: retention has deleted the next record"
    BEYOND = "out of range: the log ends before the committed offset"

    @property
    def is_out_of_range(self) -> bool:
        """Tell whether the log does not have the group's next offset."""
        return self in (PlaceState.DELETED, PlaceState.BEYOND)


def classify(committed: int | None, log: Log | None) -> PlaceState:
    """Return where the group stands.

    Args:
        committed: next offset of the group; None where it has none.
        log: of the partition; None where no leader tells.
    """
    if log is None:
        return PlaceState.NO_LEADER
    if committed is None:
        return PlaceState.NOT_BEGUN
    if committed < log.start:
        return PlaceState.DELETED
    if committed > log.end:
        return PlaceState.BEYOND
    if committed < log.stable_end:
        return PlaceState.BEHIND
    return PlaceState.TRANSACTION if committed < log.end else PlaceState.CURRENT


@dataclass(frozen=True, slots=True)
class Place:
    """The group's place in one partition.

    Attributes:
        topic: the source.
        partition: its number.
        committed: next offset of the group; None where it has none.
        log: None where no leader tells.
    """

    topic: str
    partition: int
    committed: int | None
    log: Log | None

    @property
    def name(self) -> str:
        """Return `topic/partition`."""
        return f"{self.topic}/{self.partition}"

    @property
    def state(self) -> PlaceState:
        """Return where the group stands."""
        return classify(self.committed, self.log)

    @property
    def next_offset(self) -> int:
        """Return the offset that is read next, as far as the log has it."""
        start = self.log.start if self.log else 0
        return max(self.committed or 0, start)

    @property
    def lag(self) -> int:
        """Return how many offsets are acknowledged and not settled; 0 where no leader tells."""
        return max(0, self.log.end - self.next_offset) if self.log else 0

    @property
    def held_back(self) -> int:
        """Return how many of them no one may read before an open transaction ends."""
        if self.log is None:
            return 0
        return max(0, self.log.end - max(self.next_offset, self.log.stable_end))

    def is_settled_to(self, end: int) -> bool:
        """Tell whether the group has committed everything before an offset that the log has."""
        return (
            self.log is not None and not self.state.is_out_of_range and (self.committed or 0) >= end
        )

"""What a group member tells the owner of its records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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

"""How many bulks to have in flight: additive increase, multiplicative decrease. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ConcurrencyLimit:
    """The number of bulks that the cluster takes at once, found by asking.

    Attributes:
        most: never more than this.
        size: bulks that may be in flight now.
    """

    most: int = 4
    size: float = 2.0

    @property
    def limit(self) -> int:
        """Bulks that may be in flight now, at least one."""
        return max(1, int(self.size))

    def succeeded(self) -> None:
        """Open by one for each round of answers without a push-back."""
        self.size = min(float(self.most), self.size + 1.0 / max(self.size, 1.0))

    def pushed_back(self) -> None:
        """Halve, on a 429 of a request or of an item."""
        self.size = max(1.0, self.size / 2.0)

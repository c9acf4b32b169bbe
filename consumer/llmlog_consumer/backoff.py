"""How long to wait before the next attempt. Pure: attempt in, seconds out."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter.

    Attributes:
        first: seconds, the bound of the first delay.
        longest: seconds, the bound of every delay.
    """

    first: float
    longest: float

    def delay(self, attempt: int, *, at_least: float = 0.0) -> float:
        """Return the seconds to wait after `attempt` (1, 2, …) failed.

        Args:
            attempt: how many attempts have failed.
            at_least: what the server asked for (Retry-After).
        """
        bound = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
        return max(at_least, random.uniform(bound / 10, bound))  # noqa: S311 - no secret

"""Owns when a failed attempt is made again: the waits, and a batch's memory of attempts. Pure."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Final

RANDOM: Final = random.Random()  # noqa: S311 - no secret
"""The source of jitter; of its own, as the module's shared one belongs to whoever seeds it."""
os.register_at_fork(after_in_child=RANDOM.seed)  # else all workers would wait alike


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter.

    Attributes:
        first_seconds: the bound of the first delay.
        max_seconds: the bound of every delay.
    """

    first_seconds: float
    max_seconds: float

    def delay(self, attempt: int, *, at_least: float = 0.0) -> float:
        """Return the seconds to wait after `attempt` (1, 2, …) failed.

        Args:
            attempt: how many attempts have failed.
            at_least: seconds that the server asked for (Retry-After).
        """
        bound = min(self.max_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 30))
        return max(at_least, RANDOM.uniform(bound / 10, bound))


@dataclass(slots=True)
class RetryState:
    """A batch's memory of its attempts.

    A part of a batch starts with a copy. Only the thread that runs the delivery touches it, and
    changes it by these methods alone.

    Attributes:
        attempts: how often the batch was sent.
        refusals: refused attempts that count towards a bound; see `record_refusal`.
        not_before: monotonic seconds before which the batch is not sent again.
        is_proven: a control has passed since the batch was refused last.
    """

    attempts: int = 0
    refusals: int = 0
    not_before: float = 0.0
    is_proven: bool = False
    _failures: int = 0
    _passed_before: int = 0
    _others_passed: bool = False

    def record_sent(self) -> None:
        """Count an attempt."""
        self.attempts += 1

    def record_refusal(self, max_attempts: int) -> bool:
        """Count an attempt that was refused in a way which a retry rarely mends.

        Returns:
            True where this was the last attempt that the bound allows; the count starts again.
        """
        self.refusals += 1
        if self.refusals < max_attempts:
            return False
        self.refusals = 0
        return True

    @property
    def has_memory(self) -> bool:
        """Tell whether its refusals matter later, so that it is not joined to other batches."""
        return bool(self.refusals or self._failures or self.is_proven)

    def record_failure(self, passed: int) -> bool:
        """Count an attempt that failed by an error of the server.

        Others that passed between the first two failures do not count: their requests may have
        been under way already when the server broke.

        Args:
            passed: documents of the same index that have passed so far.

        Returns:
            True where others of the index have passed between two failures of this batch.
        """
        self._failures += 1
        if self._failures > 2 and passed > self._passed_before:  # noqa: PLR2004
            self._others_passed = True
        self._passed_before = passed
        return self._others_passed

    def wait_until(self, moment: float) -> None:
        """Send the batch again at this moment at the earliest, in monotonic seconds."""
        self.not_before = moment

    def start_again(self) -> None:
        """Forget the refusals: the batch is another one now, or its wait was long."""
        self.refusals, self.is_proven = 0, False

"""Owns the share of failures among recent records. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIN_RECORDS: Final = 1_000
"""Records before a share means anything."""


@dataclass(slots=True)
class FailureRate:
    """The share of failures among recent records.

    Older records count for half, again and again. One thread owns it.

    Attributes:
        seen: records, older ones in part.
        failed: failures among them, likewise.
        in_a_row: failures of one cause since the last success.
        cause: the cause of these.
    """

    seen: float = 0.0
    failed: float = 0.0
    in_a_row: int = 0
    cause: str = ""

    def record_success(self, records: int) -> None:
        """Count records that passed; zero of them do not end the row of failures."""
        if not records:
            return
        self.seen += records
        self.in_a_row = 0
        self._fade()

    def record_failure(self, cause: str = "", *, in_row: bool = True) -> None:
        """Count one record that failed.

        Args:
            cause: matters to the row of failures alone.
            in_row: it is part of such a row; otherwise it neither continues nor ends one.
        """
        self.seen += 1
        self.failed += 1
        if in_row:
            self.in_a_row = self.in_a_row + 1 if cause == self.cause else 1
            self.cause = cause
        self._fade()

    @property
    def value(self) -> float:
        """The share, between 0 and 1; 0 as long as too few records were seen."""
        return self.failed / self.seen if self.seen >= MIN_RECORDS else 0.0

    def exceeds(self, *, share: float, records: float) -> bool:
        """Tell whether more records than this have failed, and a larger share than this."""
        return self.failed > records and self.failed > share * self.seen

    def _fade(self) -> None:
        while self.seen >= 4 * MIN_RECORDS:
            self.seen /= 2
            self.failed /= 2

"""Owns the bounds of a delivery: of its batches, of requests under way, and of what waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from llmlog_consumer.delivery.bulk_sender import ConcurrencyLimit
from llmlog_consumer.delivery.pauses.index_pauses import HoldLimits
from llmlog_consumer.elasticsearch.batch import (
    MAX_AGE_SECONDS,
    MAX_BODY_BYTES,
    MAX_OPERATIONS,
    BatchBuilder,
)

LETTER_BYTES: Final = 3_000
"""Memory of a letter on its way beside its record: its cause, and its headers in the client."""


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """Bounds of batches, and of requests under way.

    Attributes:
        batch_operations: operations of a batch.
        batch_bytes: bytes of its body.
        batch_age_seconds: time since its first record.
        requests: requests under way at once.
        hold: what waits for single indices.
    """

    batch_operations: int = MAX_OPERATIONS
    batch_bytes: int = MAX_BODY_BYTES
    batch_age_seconds: float = MAX_AGE_SECONDS
    requests: int = 4
    hold: HoldLimits = field(default_factory=HoldLimits)

    def new_builder(self) -> BatchBuilder:
        """Return a builder of batches within these bounds."""
        return BatchBuilder(self.batch_bytes, self.batch_operations, self.batch_age_seconds)

    def new_concurrency(self) -> ConcurrencyLimit:
        """Return a limit that finds how many requests the cluster takes, up to the bound."""
        return ConcurrencyLimit(self.requests, min(2.0, self.requests))

"""How a record ends: the four outcomes, and who is told. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmlog_consumer.offset_tracker import Span


class Outcome(StrEnum):
    """How a record ended."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    DEAD = "dead"
    EXPIRED = "expired"


Settle = Callable[["Span", Outcome, int, int], None]
"""Called of each record once: a span, an outcome, how many records of it, their bytes."""

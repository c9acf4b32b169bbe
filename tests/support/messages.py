"""Kafka messages without a Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    """A `KafkaRecord` with values of our choice."""

    topic_: str = "litellm-logs"
    partition_: int = 3
    offset_: int = 41
    key_: bytes | None = b"key"
    value_: bytes | None = b"value"
    headers_: list[tuple[str, Any]] | None = None
    timestamp_: tuple[int, int] = field(default=(1, 1_767_225_600_123))

    def __len__(self) -> int:
        return len(self.value_ or b"")

    def topic(self) -> str:
        return self.topic_

    def partition(self) -> int:
        return self.partition_

    def offset(self) -> int:
        return self.offset_

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def headers(self) -> list[tuple[str, Any]] | None:
        return self.headers_

    def timestamp(self) -> tuple[int, int]:
        return self.timestamp_

"""Owns the protocol of a Kafka record. Pure.

confluent-kafka's `Message` is one; a dead letter that is replayed is another. It stands above
`kafka` and `elasticsearch`, because both carry records and neither imports the other.
"""

from __future__ import annotations

from typing import Any, Protocol


class KafkaRecord(Protocol):
    """One record with its coordinates; the methods are those of confluent-kafka's `Message`."""

    def __len__(self) -> int:
        """Return the bytes of the value."""
        ...

    def topic(self) -> str:
        """Return the topic's name."""
        ...

    def partition(self) -> int:
        """Return the partition's number."""
        ...

    def offset(self) -> int:
        """Return the offset within the partition."""
        ...

    def key(self) -> bytes | None:
        """Return the key's bytes; None where there is no key."""
        ...

    def value(self) -> bytes | None:
        """Return the value's bytes; None for a tombstone."""
        ...

    def headers(self) -> list[tuple[str, Any]] | None:
        """Return the headers in their order; None where there are none."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of the timestamp, and epoch milliseconds."""
        ...


class ConsumedRecord(KafkaRecord, Protocol):
    """A record that a member of the consumer group has consumed."""

    def leader_epoch(self) -> int | None:
        """Return the leader epoch of the record; None where the broker names none."""
        ...

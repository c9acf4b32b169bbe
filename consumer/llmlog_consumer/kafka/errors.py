"""Owns what Kafka's error codes mean to the consumer, and the memory of the last refusal.

An error code that is in none of these tables is logged, and the client tries again.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

NO_ANSWER: Final = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's own codes are public
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
"""The brokers do not answer yet."""

REBALANCING: Final = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS})
"""The group is about to enter its next generation, in which a commit is accepted."""

HARMLESS: Final = REBALANCING | {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._NO_OFFSET,  # noqa: SLF001
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001
    KafkaError._DESTROY,  # noqa: SLF001
}
"""A rebalance came before the commit: the partition's next owner reads from the watermark."""

OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001
"""The log does not have the offset that was to be read next."""

FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID})  # noqa: SLF001
"""Another consumer has this member's static instance id."""

CREDENTIALS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)
"""The broker refuses our credentials. Only the client's `error_cb` gets these codes: the call
itself times out."""

_PERMISSIONS: Final = "let this user read the topic and the group"
_TOPIC: Final = "the topic is missing: run `pipeline setup`"
_ADVICE: Final = dict.fromkeys(CREDENTIALS, "check the credentials and certificates for Kafka") | {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC,
    KafkaError._UNKNOWN_TOPIC: _TOPIC,  # noqa: SLF001
}
"""What an operator has to do about a refusal that does not end by itself."""

REFUSAL_REPEAT_SECONDS: Final = 120.0
"""Time within which the client reports refused credentials again, while they are refused. A member
without partitions gets no records and commits nothing: silence is its only sign of the end."""


class Refusal:
    """The reason why Kafka gives us nothing, until it gives something again.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reason = ""
        self._ends = 0.0

    def __str__(self) -> str:
        return self._reason if self._clock() < self._ends else ""

    def record(self, error: KafkaError) -> None:
        """Remember an error that does not end by itself; ignore all others."""
        code = error.code()
        if advice := _ADVICE.get(code):
            self._reason = f"Kafka: {error.str()} ({advice})"
            repeats = code in CREDENTIALS
            self._ends = self._clock() + REFUSAL_REPEAT_SECONDS if repeats else math.inf

    def clear(self) -> None:
        """Forget the refusal: Kafka has given records, or accepted a commit."""
        self._reason = ""

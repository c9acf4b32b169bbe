"""What error codes of Kafka mean to the consumer: to be waited out, harmless, or a refusal.

A table, and the memory of the last refusal. What comes with a code that stands nowhere here is said
and left to the client, which tries again.
"""

from __future__ import annotations

import math
import time
from typing import Final

from confluent_kafka import KafkaError

AWAY: Final = frozenset(
    (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD,  # noqa: SLF001
     KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE,  # noqa: SLF001
     KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
     KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.LEADER_NOT_AVAILABLE,
     KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT)
)  # fmt: skip
"""Brokers that do not answer yet."""

REBALANCING: Final = frozenset((KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS))
"""The group is about to have another generation, in which the commit is taken."""

HARMLESS: Final = REBALANCING | {
    KafkaError.UNKNOWN_MEMBER_ID, KafkaError._NO_OFFSET, KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001
    KafkaError._DESTROY,  # noqa: SLF001
}  # fmt: skip
"""A commit that a rebalance overtook: the next owner reads from the watermark."""

CREDENTIALS: Final = frozenset(
    (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED)  # noqa: SLF001
)
"""Who we are is refused. Told by the client's `error_cb` alone: a call itself only times out."""

_PERMISSIONS: Final = "let this user read the topic and the group"
_TOPIC: Final = "the topic is missing: run `pipeline setup`"
_REFUSED: Final = dict.fromkeys(CREDENTIALS, "check the credentials and certificates for Kafka") | {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _PERMISSIONS,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC,
    KafkaError._UNKNOWN_TOPIC: _TOPIC,  # noqa: SLF001
}
"""What no waiting mends, and what to do."""

SAID_AGAIN: Final = 120.0
"""Seconds in which the client says again that credentials are refused, while they are. A member
without partitions gets no records and commits nothing: only that tells it the end."""


class Refusal:
    """Why Kafka gives us nothing, until it gives something."""

    def __init__(self) -> None:
        self._why = ""
        self._ends = 0.0

    def __str__(self) -> str:
        return self._why if time.monotonic() < self._ends else ""

    def note(self, error: KafkaError) -> None:
        """Remember a refusal that no waiting mends; whatever else is none."""
        code = error.code()
        if advice := _REFUSED.get(code):
            self._why = f"Kafka: {error.str()} ({advice})"
            self._ends = time.monotonic() + SAID_AGAIN if code in CREDENTIALS else math.inf

    def over(self) -> None:
        """Forget it: Kafka has given records, or taken a commit."""
        self._why = ""

"""Owns what Kafka's error codes mean to the consumer, and the memory of the last refusal.

An error code that is in none of these tables is logged, and the client tries again.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

from llmlog_common.errors import KafkaError as PipelineKafkaError
from llmlog_common.listener_probe import describe_alert

if TYPE_CHECKING:
    from collections.abc import Callable


class FatalError(PipelineKafkaError):
    """The client is of no use any more; the text has librdkafka's own reason."""


class FencedError(FatalError):
    """Another consumer has this member's static instance id."""


MOVING: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)
"""The leader of a partition, or the coordinator of a group, is about to be another broker, or has
become one a moment ago; or the topic was created a moment ago."""

NO_ANSWER: Final = MOVING | {
    KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's own codes are public
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT,
}
"""The brokers do not answer yet."""

CONNECTION: Final = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT})  # noqa: SLF001
"""What the client says about one connection; that all brokers are down says nothing more."""

REBALANCING: Final = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS})
"""The group is about to enter its next generation, in which a commit is accepted."""

HARMLESS: Final = REBALANCING | {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._NO_OFFSET,  # noqa: SLF001
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001
    KafkaError._DESTROY,  # noqa: SLF001
}
"""A rebalance came before the commit: the partition's next owner reads from the watermark."""

DAMAGED: Final = frozenset(
    {
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001 - a version of the batch's format
        KafkaError._UNDERFLOW,  # noqa: SLF001
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.UNKNOWN,
    }
)
"""The batch at a partition's next offset cannot be read: the bytes are wrong, its checksum, or the
length that it states; or the broker finds so itself (`INVALID_MSG`, `UNKNOWN`)."""

OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001
"""The log does not have the offset that was to be read next."""

FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNRELEASED_INSTANCE_ID,
    }
)
"""Another consumer has this member's static instance id."""

_FENCED_TEXTS: Final = ("group.instance.id", "instance ID is still used")
"""What a fatal error says of such a member: the client hands out no code of its own for it."""


def is_fatal(error: KafkaError) -> bool:
    """Tell whether a client is of no use any more; the flag of a message's error is not set."""
    return error.fatal() or error.code() in FENCED | {KafkaError._FATAL}  # noqa: SLF001


def fatal_error(error: KafkaError, instance: str) -> FatalError:
    """Return a fatal error of the client as ours.

    Args:
        error: of which `is_fatal` is true.
        instance: this member's static instance id; empty where it has none.
    """
    if error.code() in FENCED or any(text in error.str() for text in _FENCED_TEXTS):
        return FencedError(
            f"another member of the group uses this one's group.instance.id {instance}: "
            f"give each host an id of its own (Kafka: {error.str()})"
        )
    return FatalError(f"Kafka's client cannot go on: {error.str()}")


def is_truncated(error: KafkaError) -> bool:
    """Tell whether the log does not go on where the leader epoch of a commit says."""
    return error.code() == KafkaError._LOG_TRUNCATION or "log truncation" in error.str()  # noqa: SLF001


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


def advise(error: KafkaError) -> str:
    """Return the client's own reason, with what an operator has to do about it."""
    advice = describe_alert(error.str()) or _ADVICE.get(error.code())
    return f"Kafka: {error.str()} ({advice})" if advice else f"Kafka: {error.str()}"


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
        is_refused = bool(describe_alert(error.str()))
        if code in _ADVICE or is_refused:
            self._reason = advise(error)
            repeats = code in CREDENTIALS or is_refused
            self._ends = self._clock() + REFUSAL_REPEAT_SECONDS if repeats else math.inf

    def clear(self) -> None:
        """Forget the refusal: Kafka has given records, or accepted a commit."""
        self._reason = ""

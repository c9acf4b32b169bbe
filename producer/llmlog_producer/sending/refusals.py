"""Owns what Kafka's errors mean to the gateway: what is done about them, and what is said. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from confluent_kafka import KafkaError

from llmlog_common.listener_probe import describe_alert


class Remedy(Enum):
    """What is done about a refused event.

    Attributes:
        GIVE_UP: it is lost: Kafka will never take it.
        SHRINK: it is truncated and sent again; given up where nothing is left to truncate.
        SEND_ALONE: it is sent again in a batch of its own: its batch may have been too large.
        WAIT: the refusal is about the cluster: one event at a time is tried after a pause.
    """

    GIVE_UP = auto()
    SHRINK = auto()
    SEND_ALONE = auto()
    WAIT = auto()


_INVALID: Final = frozenset((KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP))
_TOO_LARGE: Final = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE))


def remedy_for(code: int, *, alone: bool) -> Remedy:
    """Return the remedy for a refusal.

    Args:
        code: of the error.
        alone: the event had a batch of its own.
    """
    if code in _INVALID:
        return Remedy.GIVE_UP
    if code not in _TOO_LARGE:
        return Remedy.WAIT
    return Remedy.SHRINK if alone else Remedy.SEND_ALONE


_NO_RIGHT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
NO_TOPIC: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001 - librdkafka's own codes are public
)


def is_fatal(error: KafkaError) -> bool:
    """Tell whether a client is of no use any more; later calls have a code of their own for it."""
    return bool(error.fatal()) or error.code() == KafkaError._FATAL  # noqa: SLF001


def reason_of(error: KafkaError, topic: str) -> str:
    """Return the client's own reason, with what an operator has to do about it."""
    if advice := describe_alert(error.str()):
        return f"{error.str()}: {advice}"
    if error.code() in _NO_RIGHT:
        return f"{error.str()}: grant WRITE on topic {topic} to the gateway's user"
    if error.code() in NO_TOPIC:
        return f"{error.str()}: run `pipeline setup` if topic {topic} is missing"
    return str(error.str())

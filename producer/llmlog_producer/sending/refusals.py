"""Owns the decision about an event that Kafka has refused."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from confluent_kafka import KafkaError


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

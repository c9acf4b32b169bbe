"""The librdkafka properties that the delivery contract rests on, for each kind of client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaException

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings

T = TypeVar("T")

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the largest record: `max.message.bytes` of the topics that `pipeline setup` makes."""

_RECORD_OVERHEAD: Final = 64 * 1024
"""Room for key, headers and framing beside a value of `MAX_RECORD_BYTES`."""

_FETCH_BYTES: Final = 1024 * 1024
"""Of one answer to a fetch; the default, 50 MB, is what a worker's memory peaks by."""

_ANSWER_OVERHEAD: Final = 512
"""What librdkafka wants `receive.message.max.bytes` to be above `fetch.max.bytes`."""

_STRATEGY: Final = "partition.assignment.strategy"
_RECEIVE: Final = "receive.message.max.bytes"
_QUEUE: Final = "queue.buffering.max.kbytes"

CLIENT_ID: Final = "llmlog-pipeline"

LIBRDKAFKA_LOGGER: Final = logging.getLogger("llmlog.librdkafka")
"""For `logger=` of every client: librdkafka's own lines repeat every second while a broker is
away. `error_cb` says the same once; set the logger's level to see them."""
LIBRDKAFKA_LOGGER.setLevel(logging.CRITICAL)


def new_client(kind: Callable[..., T], config: Mapping[str, Any]) -> T:
    """Make a client of librdkafka that logs nothing by itself.

    Args:
        kind: `Producer`, `Consumer` or `AdminClient`.
        config: its properties.

    Raises:
        ConfigurationError: librdkafka does not know a property or its value, or two contradict.
    """
    try:
        return kind(config, logger=LIBRDKAFKA_LOGGER)
    except KafkaException as error:
        raise ConfigurationError(f"Kafka settings: {error.args[0].str()}") from None
    except (TypeError, ValueError) as error:  # what the client keeps for itself, as `error_cb`
        raise ConfigurationError(f"Kafka settings: {error}") from None


def producer_config(settings: Settings) -> dict[str, Any]:
    """Properties of a producer that loses nothing: waits for ever, writes once."""
    config = {
        "client.id": CLIENT_ID,
        "compression.type": "zstd",
        "linger.ms": 5,
        # Checked before compression, so a little above what the topic takes after it.
        "message.max.bytes": MAX_RECORD_BYTES + _RECORD_OVERHEAD,
        _QUEUE: 64 * 1024,
        # 0: an unreachable broker is waited for; memory is bounded by the queue, not by time.
        "message.timeout.ms": 0,
        **settings.producer_properties(),
        "acks": "all",
        "enable.idempotence": True,
    }
    # In a queue without room for a record, that record would be waited for without end.
    record_bytes = _at_least(0, config["message.max.bytes"])
    if isinstance(record_bytes, int):
        config[_QUEUE] = _at_least(record_bytes // 1024 + 1, config[_QUEUE])
    return config


def consumer_config(settings: Settings) -> dict[str, Any]:
    """Properties of a group member that commits by its own hand."""
    properties = settings.consumer_properties()
    config = {
        "client.id": CLIENT_ID,
        _STRATEGY: "cooperative-sticky",
        # A worker that is killed is missed after this long; librdkafka beats from a thread of
        # its own, so a long drain does not cost the membership.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        # Little ahead: it costs no throughput, and a third of a worker's memory less.
        "fetch.message.max.bytes": 256 * 1024,
        "fetch.max.bytes": _at_least(_FETCH_BYTES, properties.get("message.max.bytes")),
        "queued.max.messages.kbytes": 4 * 1024,
        "fetch.wait.max.ms": 100,
        # A full queue is looked at again so soon; the default of a second leaves workers idle.
        "fetch.queue.backoff.ms": 5,
        **properties,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
    }
    if _RECEIVE in config:
        config[_RECEIVE] = _receive_bytes(config)
    if config.get("group.protocol") == "consumer":
        # The broker decides these there, and librdkafka refuses them.
        for decided in (_STRATEGY, "session.timeout.ms", "heartbeat.interval.ms"):
            config.pop(decided, None)
    elif config.get("group.instance.id") and "cooperative" in str(config[_STRATEGY]):
        # A cooperative rebalance hands partitions over in a second round, which the member that
        # gave them up has to begin. A static one that is killed before that comes back without a
        # rebalance, and the partitions belong to nobody for good.
        config[_STRATEGY] = "range"
    return config


def _at_least(least: int, wanted: Any) -> Any:
    """Return what is wanted, or the least that works."""
    try:
        return max(least, int(wanted or 0))
    except (TypeError, ValueError):
        return wanted  # librdkafka will say what is wrong


def _receive_bytes(config: Mapping[str, Any]) -> Any:
    """Have room for the largest answer: a larger one is dropped, and asked for again without end.

    At least one batch is answered, however little was asked for.
    """
    largest = MAX_RECORD_BYTES + _RECORD_OVERHEAD
    try:
        largest = max(largest, int(config["fetch.max.bytes"]))
    except (TypeError, ValueError):
        return config[_RECEIVE]
    return _at_least(largest + _ANSWER_OVERHEAD, config[_RECEIVE])


def admin_config(settings: Settings) -> dict[str, Any]:
    """Properties of a client that asks and creates."""
    return {"client.id": CLIENT_ID, **settings.admin_properties()}

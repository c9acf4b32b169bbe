"""Makes librdkafka's clients, with the properties that the delivery contract rests on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from llmlog_common.credentials import hide
from llmlog_common.errors import ConfigurationError
from llmlog_common.kafka_password import PasswordFile, is_in_file
from llmlog_common.texts import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings

T = TypeVar("T")

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
"""The largest record: `max.message.bytes` of the topics that `pipeline setup` creates."""

_RECORD_OVERHEAD_BYTES: Final = 64 * 1024
"""Room for key, headers and framing beside a value of `MAX_RECORD_BYTES`."""

_MIN_FETCH_BYTES: Final = 1024 * 1024
"""One answer to a fetch. The default of 50 MB would be most of a worker's memory."""

_ANSWER_OVERHEAD_BYTES: Final = 512
"""librdkafka requires `receive.message.max.bytes` to exceed `fetch.max.bytes` by so much."""

_STRATEGY: Final = "partition.assignment.strategy"
_RECEIVE: Final = "receive.message.max.bytes"
_QUEUE: Final = "queue.buffering.max.kbytes"
_PASSWORD_FILE: Final = "llmlog.password.file"  # noqa: S105 - a name, no password
"""No property of librdkafka: `new_client` takes it out, and makes it the client's `error_cb`."""

_MAX_REASONS: Final = 3
"""Reasons that a message quotes: each broker may give one."""

CLIENT_ID: Final = "llmlog-pipeline"

LIBRDKAFKA_LOGGER: Final = logging.getLogger("llmlog.librdkafka")
"""The logger of every client. It is off, because librdkafka repeats its lines every second while a
broker is away, and `error_cb` reports the same. Set the logger's level to see them."""
if LIBRDKAFKA_LOGGER.level == logging.NOTSET:
    LIBRDKAFKA_LOGGER.setLevel(logging.CRITICAL)


def new_client(kind: Callable[..., T], config: Mapping[str, Any]) -> T:
    """Return a new client of librdkafka, whose own log is off.

    Args:
        kind: `Producer`, `Consumer` or `AdminClient`.
        config: librdkafka properties, such as those of `producer_config`.

    Raises:
        ConfigurationError: librdkafka does not know a property or its value, or two properties
            contradict each other.
    """
    properties = dict(config)
    password: PasswordFile | None = properties.pop(_PASSWORD_FILE, None)
    report = properties.get("error_cb")
    if password is not None:
        properties["error_cb"] = password
    try:
        client = kind(properties, logger=LIBRDKAFKA_LOGGER)
    except KafkaException as error:
        why = _unreadable_file(properties) or _describe(error.args[0].str())
        raise ConfigurationError(f"Kafka settings: {why}") from None
    except (
        TypeError,
        ValueError,
    ) as error:  # a property that confluent-kafka sets itself, such as `error_cb`
        raise ConfigurationError(f"Kafka settings: {_describe(str(error))}") from None
    if password is not None:
        password.attach(client, report)
    return client


class Reasons:
    """The reasons that a client gives for having no answer; an instance is its `error_cb`.

    The call itself says only that there was none in time. The client calls back within `poll`.
    """

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def __call__(self, error: KafkaError) -> None:
        """Take an error of the client; that all brokers are down says nothing more."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - a public name of theirs
            self._texts[_without_times(error.str())] = None

    def __bool__(self) -> bool:
        """Tell whether the client has given a reason."""
        return bool(self._texts)

    def text(self, error: KafkaError | None = None) -> str:
        """Return the reasons, or what the call itself says where there are none."""
        texts = list(self._texts)[:_MAX_REASONS]
        if not texts and error is not None:
            texts = [error.str()]
        return _describe("; ".join(texts))


def _without_times(text: str) -> str:
    """Return librdkafka's text without the state that it adds, which changes each time."""
    return text.split(" (after ", 1)[0]


def _describe(text: str) -> str:
    return cut(hide(text), 500)


def producer_config(settings: Settings) -> dict[str, Any]:
    """Return the properties of a producer that waits without limit and writes each record once."""
    config = {
        "client.id": CLIENT_ID,
        "compression.type": "zstd",
        "linger.ms": 5,
        # librdkafka checks it before compression, the topic after it: so a little more.
        "message.max.bytes": MAX_RECORD_BYTES + _RECORD_OVERHEAD_BYTES,
        _QUEUE: 64 * 1024,
        # 0: records wait for an unreachable broker; the queue bounds memory, not time.
        "message.timeout.ms": 0,
        **settings.producer_properties(),
        "acks": "all",
        "enable.idempotence": True,
        **_password_file(settings, type(settings).producer_properties),
    }
    # A queue smaller than one record would never accept that record.
    record_bytes = _at_least(0, config["message.max.bytes"])
    if isinstance(record_bytes, int):
        config[_QUEUE] = _at_least(record_bytes // 1024 + 1, config[_QUEUE])
    return config


def consumer_config(settings: Settings) -> dict[str, Any]:
    """Return the properties of a group member that commits offsets itself."""
    properties = settings.consumer_properties()
    config = {
        "client.id": CLIENT_ID,
        _STRATEGY: "cooperative-sticky",
        # The broker notices a killed worker after this long. librdkafka sends heartbeats from a
        # thread of its own, so a long drain does not cost the membership.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        # Fetch little ahead: throughput stays, a worker's memory is a third less.
        "fetch.message.max.bytes": 256 * 1024,
        "fetch.max.bytes": _at_least(_MIN_FETCH_BYTES, properties.get("message.max.bytes")),
        "queued.max.messages.kbytes": 4 * 1024,
        # The bound above counts values alone; this one holds for records without any.
        "queued.min.messages": 5_000,
        "fetch.wait.max.ms": 100,
        # Check a full queue again this soon; the default of a second leaves workers idle.
        "fetch.queue.backoff.ms": 5,
        **properties,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
        # A batch that rotted on a broker's disk is an error of its partition, not garbage.
        "check.crcs": True,
        **_password_file(settings, type(settings).consumer_properties),
    }
    if _RECEIVE in config:
        config[_RECEIVE] = _receive_bytes(config)
    if config.get("group.protocol") == "consumer":
        # With this protocol the broker sets these, and librdkafka refuses them.
        for decided in (_STRATEGY, "session.timeout.ms", "heartbeat.interval.ms"):
            config.pop(decided, None)
    elif config.get("group.instance.id") and "cooperative" in str(config[_STRATEGY]):
        # A cooperative rebalance hands partitions over in a second round, which the member that
        # gave them up begins. A static member that is killed before that comes back without a
        # rebalance, and no member ever owns these partitions again.
        config[_STRATEGY] = "range"
    return config


def _unreadable_file(properties: Mapping[str, Any]) -> str:
    """Return which property names a file that cannot be read, and why; empty where none does.

    librdkafka says no more than what its TLS library calls it. The value is not shown: it may be
    the key itself.
    """
    for name, path in properties.items():
        if name.endswith(".location"):
            try:
                Path(str(path)).stat()
            except OSError as error:
                return f"{name}, LLMLOG_KAFKA_{name.replace('.', '_').upper()}: {error.strerror}"
    return ""


def _at_least(minimum: int, wanted: Any) -> Any:
    """Return the wanted number, or the minimum that works; a value that is no number as it is."""
    try:
        return max(minimum, int(wanted or 0))
    except (TypeError, ValueError):
        return wanted  # librdkafka will report it


def _receive_bytes(config: Mapping[str, Any]) -> Any:
    """Return a `receive.message.max.bytes` that fits the largest answer.

    librdkafka drops a larger answer and asks for it again without end. A broker answers with one
    whole batch at least, however little is asked for.
    """
    largest = MAX_RECORD_BYTES + _RECORD_OVERHEAD_BYTES
    try:
        largest = max(largest, int(config["fetch.max.bytes"]))
    except (TypeError, ValueError):
        return config[_RECEIVE]
    return _at_least(largest + _ANSWER_OVERHEAD_BYTES, config[_RECEIVE])


def admin_config(settings: Settings) -> dict[str, Any]:
    """Return the properties of an admin client."""
    return {
        "client.id": CLIENT_ID,
        **settings.admin_properties(),
        **_password_file(settings, type(settings).admin_properties),
    }


def _password_file(
    settings: Settings, properties: Callable[[Settings], dict[str, str]]
) -> dict[str, PasswordFile]:
    return {_PASSWORD_FILE: PasswordFile(settings, properties)} if is_in_file(settings) else {}

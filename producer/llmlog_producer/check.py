"""Owns the check of everything that the gateway needs, with advice where it is missing."""

from __future__ import annotations

import importlib
import os
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]

from llmlog_common.errors import ConfigurationError, KafkaError, Unreachable
from llmlog_common.kafka_clients import LIBRDKAFKA_LOGGER, Reasons, admin_config, new_client
from llmlog_common.listener_probe import describe_alert, describe_mismatch
from llmlog_producer.events.redact import Redactor
from llmlog_producer.journal.inspect import inspect
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.litellm_config import CALLBACK_LISTS, ConfigError, callback_lists, read_config
from llmlog_producer.sending.kafka_producer import KafkaProducer
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmlog_common.settings import Settings

REGISTERED_AS: Final = "llmlog_producer.callback.handler"
KAFKA_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
"""After which the client's own reason is looked at, while no broker answers."""
_NO_ANSWER: Final = frozenset(
    {ClientError._TRANSPORT, ClientError._TIMED_OUT, ClientError._ALL_BROKERS_DOWN}  # noqa: SLF001
)


class Finding(NamedTuple):
    """One line of the check.

    Attributes:
        what: the thing that was checked.
        message: its state, and what to do where it is wrong.
        exit_code: 0 where it is in order.
    """

    what: str
    message: str
    exit_code: int = 0


def check(
    settings: Settings, litellm_config: Path | None, kafka_seconds: float = KAFKA_SECONDS
) -> Iterator[Finding]:
    """Yield one finding after the other; the slow ones come last.

    Args:
        settings: as loaded.
        litellm_config: the proxy's `config.yaml`, which has to name the handler.
        kafka_seconds: the longest wait for each answer of Kafka.
    """
    yield from check_gateway(settings, litellm_config)
    yield from _check_kafka(settings, kafka_seconds)


def check_gateway(settings: Settings, litellm_config: Path | None) -> Iterator[Finding]:
    """Yield the findings about this machine; Kafka is not asked."""
    yield Finding("settings", f"topic {settings.topic} at {settings.kafka_bootstrap_servers}")
    yield _check_redaction(settings)
    yield _check_journal(settings)
    yield _check_handler()
    if litellm_config is not None:
        yield from _check_registration(litellm_config)


def _wrong(what: str, message: str) -> Finding:
    return Finding(what, message, ConfigurationError.exit_code)


def _check_redaction(settings: Settings) -> Finding:
    try:
        return Finding("redaction", Redactor(settings).summary)
    except ConfigurationError as error:
        return _wrong("redaction", str(error))


def _check_journal(settings: Settings) -> Finding:
    if settings.journal == "off":
        return Finding(
            "journal", "off: events that Kafka has not acknowledged are lost if the process ends"
        )
    try:
        folder = folder_of(settings)
        journal = Journal(folder, settings.journal_max_bytes)
        journal.open()
        journal.release()
        events = sum(owner.events for owner in inspect(folder))
    except (OSError, RuntimeError) as error:
        return _wrong("journal", f"{error}: set LLMLOG_JOURNAL_DIR to a folder that can be written")
    return Finding("journal", f"{settings.journal} in {folder}, {events} events in it")


def _check_handler() -> Finding:
    try:
        version = metadata.version("litellm")
    except metadata.PackageNotFoundError:
        return _wrong("handler", "LiteLLM is not installed here: run this with LiteLLM's Python")
    # LiteLLM's own price list will do: the check asks no server on the internet.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        module = importlib.import_module("llmlog_producer.callback")
    except Exception as error:  # noqa: BLE001 - LiteLLM's import may raise anything
        return _wrong("handler", f"cannot import {REGISTERED_AS}: {type(error).__name__}: {error}")
    return Finding("handler", f"{REGISTERED_AS} from {module.__file__}, LiteLLM {version}")


def _check_registration(config: Path) -> Iterator[Finding]:
    shadow = config.parent / "llmlog_producer" / "callback.py"
    if shadow.exists():
        yield _wrong("registration", f"{shadow} is loaded in the package's place: remove it")
    try:
        callbacks = callback_lists(read_config(config))
    except ConfigError as error:
        yield _wrong("registration", str(error))
        return
    both = all(REGISTERED_AS in callbacks.get(name, ()) for name in CALLBACK_LISTS[1:])
    if both or REGISTERED_AS in callbacks.get(CALLBACK_LISTS[0], ()):
        yield Finding("registration", f"{config} names the handler")
        return
    yield _wrong(
        "registration",
        f'{config}: under litellm_settings write  callbacks: ["{REGISTERED_AS}"]  (a section in an '
        "included file replaces the whole section of the file that includes it)",
    )


def _check_kafka(settings: Settings, seconds: float) -> Iterator[Finding]:
    reasons = Reasons()
    exit_code = KafkaError.exit_code
    try:
        client = KafkaProducer(settings, _ignore, _ignore)
    except ConfigurationError as error:
        yield _wrong("kafka", str(error))
        return
    try:
        asking = new_client(Producer, {**admin_config(settings), "error_cb": reasons})
    except ConfigurationError as error:
        yield _wrong("kafka", str(error))
        return
    try:
        topics = _list_topics(asking, reasons, seconds)
    except KafkaException as error:
        why = _why_silent(settings, reasons.text(error.args[0]))
        yield Finding("kafka", f"{settings.kafka_bootstrap_servers}: {why}", exit_code)
        return
    yield Finding("kafka", f"{settings.kafka_bootstrap_servers} answers")
    if settings.topic not in topics:
        yield Finding("topic", f"{settings.topic} does not exist: run `pipeline setup`", exit_code)
        return
    yield _check_permission(settings, seconds)
    bound = client.max_message_bytes(seconds)
    limit = f"max.message.bytes {bound}" if bound else "max.message.bytes may not be read"
    number = len(topics[settings.topic].partitions)
    yield Finding("topic", f"{settings.topic}: {number} partitions, {limit}")
    if settings.schema_registry_url:
        yield _check_registry(settings)


def _list_topics(client: Any, reasons: Reasons, seconds: float) -> Any:
    """Return the topics; give up before the time is over once the client has said why not.

    Raises:
        KafkaException: no broker answers.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.1, min(left, LOOK_SECONDS))).topics
        except KafkaException as error:
            # Calls back with the cause; the exception says only that there was no answer.
            client.poll(0)
            if left <= LOOK_SECONDS or reasons or error.args[0].code() not in _NO_ANSWER:
                raise


def _why_silent(settings: Settings, why: str) -> str:
    """Return the reason for no answer, with what to do about it."""
    protocol = str(settings.admin_properties().get("security.protocol", "plaintext"))
    if mismatch := describe_mismatch(settings.kafka_bootstrap_servers, protocol):
        return mismatch
    advice = describe_alert(why) or "is it running, and are LLMLOG_KAFKA_… right?"
    return f"{why}: {advice}"


def _check_permission(settings: Settings, seconds: float) -> Finding:
    try:
        admin = AdminClient(admin_config(settings), logger=LIBRDKAFKA_LOGGER)
        futures = admin.describe_topics(
            TopicCollection([settings.topic]),
            include_authorized_operations=True,
            request_timeout=seconds,
        )
        allowed = futures[settings.topic].result(seconds + 1).authorized_operations
    except Exception as error:  # noqa: BLE001 - an old broker does not tell it
        return Finding("permission", f"the broker does not tell it: {type(error).__name__}")
    if allowed is not None and AclOperation.WRITE not in allowed:
        return Finding(
            "permission",
            f"may not write to {settings.topic}: grant WRITE on the topic",
            KafkaError.exit_code,
        )
    return Finding("permission", f"may write to {settings.topic}")


def _check_registry(settings: Settings) -> Finding:
    try:
        registry = Registry.from_settings(settings)
        number = registry.register(settings.topic) if registry else None
    except (Unreachable, ConfigurationError) as error:
        return _wrong("registry", str(error))
    return Finding("registry", f"answers; the schema's id is {number}")


def _ignore(*_: Any) -> None:
    """Ignore reports and errors: nothing is sent."""
